"""Credentials that this machine already holds: Docker's config and its helpers, and podman's. Sends nothing."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlpkg.errors import UsageError
from mlpkg.http.address import basic_login

HELPER_TIMEOUT = 30.0
"""Seconds. Some helpers ask a key ring, or a cloud."""

_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_HUB_HOSTS = ("registry-1.docker.io", "docker.io", "index.docker.io")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and password, or an identity token (OAuth 2 refresh token) with an empty password."""

    username: str
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617, UTF-8)."""
        return basic_login(self.username, self.password)


def find_credentials(address: str, environment: Mapping[str, str] | None = None) -> Credentials | None:
    """What Docker's config, else podman's, holds for registry `address` (``host[:port]``); None without an entry.

    Files: ``$DOCKER_CONFIG/config.json`` or ``~/.docker/config.json``, then ``$REGISTRY_AUTH_FILE``, then
    ``$XDG_RUNTIME_DIR/containers/auth.json``. In each: ``credHelpers``, ``credsStore``, ``auths``, in Docker's
    own order. Raises UsageError for a file or helper that cannot be used.
    """
    variables = os.environ if environment is None else environment
    for path in _files(variables):
        config = _read(path)
        if config is None:
            continue
        found = _from_helper(path, config, address) or _from_auths(path, config, address)
        if found:
            return found
    return None


def _files(variables: Mapping[str, str]) -> Iterator[Path]:
    docker = variables.get("DOCKER_CONFIG")
    home = variables.get("HOME")
    if docker:
        yield Path(docker) / "config.json"
    elif home:
        yield Path(home) / ".docker" / "config.json"
    if podman := variables.get("REGISTRY_AUTH_FILE"):
        yield Path(podman)
    if runtime := variables.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers" / "auth.json"


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path}: is not JSON", hint="mend or remove it; `docker login` writes a new one"
        ) from error
    if not isinstance(value, dict):
        raise UsageError(f"{path}: is not a JSON object")
    return value


def _names(address: str) -> tuple[str, ...]:
    """The keys under which a registry may stand; Docker Hub has several."""
    if address in _HUB_HOSTS:
        return ("https://index.docker.io/v1/", *_HUB_HOSTS)
    return (address, f"https://{address}", f"http://{address}")


def _object(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _from_auths(path: Path, config: Mapping[str, Any], address: str) -> Credentials | None:
    entries = _object(config, "auths")
    wanted = {_host(name) for name in _names(address)}
    for key, entry in entries.items():
        if _host(key) in wanted and isinstance(entry, dict):
            found = _from_entry(path, key, entry)
            if found:
                return found
    return None


def _host(key: str) -> str:
    """``host[:port]`` of a key, which old clients wrote as a URL. A key with a namespace is not for all."""
    _, separator, rest = key.partition("://")
    if separator:
        return rest.partition("/")[0].lower()
    return key.lower()


def _from_entry(path: Path, key: str, entry: Mapping[str, Any]) -> Credentials | None:
    token = entry.get("identitytoken")
    username, password = entry.get("username", ""), entry.get("password", "")
    encoded = entry.get("auth")
    if isinstance(encoded, str) and encoded:
        try:
            text = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, ValueError):
            # `from None`: the cause would show what the file keeps.
            raise UsageError(
                f"{path}: auths[{key!r}] is not base64", hint="run `docker login` again"
            ) from None
        username, _, password = text.partition(":")
        password = password.rstrip("\0")
    if isinstance(token, str) and token:
        return Credentials(str(username), "", token)
    if isinstance(username, str) and isinstance(password, str) and username:
        return Credentials(username, password)
    return None


def _from_helper(path: Path, config: Mapping[str, Any], address: str) -> Credentials | None:
    helpers = _object(config, "credHelpers")
    for name in _names(address):
        if helper := helpers.get(name):
            return _ask(path, helper, name)
    store = config.get("credsStore")
    if not store:
        return None
    for name in _names(address):
        if found := _ask(path, store, name):
            return found
    return None


def _ask(path: Path, helper: object, name: str) -> Credentials | None:
    """Run ``docker-credential-HELPER get`` (docker-credential-helpers protocol). None: it has nothing."""
    if not isinstance(helper, str) or not _HELPER_NAME.match(helper):
        raise UsageError(f"{path}: {helper!r} is not the name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"], input=name.encode(), capture_output=True, timeout=HELPER_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{program}: no answer in {HELPER_TIMEOUT:.0f} s ({path} names it)") from error
    except OSError as error:
        raise UsageError(
            f"{program}: cannot be run: {error.strerror} ({path} names it)",
            hint="install it, or remove credsStore/credHelpers there",
        ) from error
    if done.returncode != 0:
        if b"not found" in done.stdout.lower():
            return None
        text = "".join(
            c if c.isprintable() else " " for c in done.stdout.decode(errors="replace")[:200]
        ).strip()
        raise UsageError(f"{program}: failed for {name}: {text or f'exit status {done.returncode}'}")
    try:
        value = json.loads(done.stdout)
        username, secret = value["Username"], value["Secret"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{program}: its answer for {name} is not understood") from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise UsageError(f"{program}: its answer for {name} is not understood")
    if username == "<token>":
        return Credentials("", "", secret)
    return Credentials(username, secret) if username or secret else None
