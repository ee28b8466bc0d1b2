"""Give Docker the bundled registry's credentials: through `docker login`, else in Docker's own configuration."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlpkg.errors import MlpkgError, UsageError
from mlpkg.remote.credentials import HELPER_TIMEOUT, Credentials


def command_line(address: str, login: Credentials) -> str:
    """The command to paste: its credentials hold no character that a shell would read."""
    return f"docker login {address} -u {login.username} -p {login.password}"


def log_in(address: str, login: Credentials) -> str:
    """Store the credentials where Docker looks for them, and say where. They are in no command line and no log.

    `docker login` asks the engine, and this the registry; where that cannot be, the configuration is written
    as it would have been. Raises UsageError (the configuration cannot be read or written), MlpkgError (its
    credential helper fails).
    """
    docker = shutil.which("docker")
    if docker and _by_docker(docker, address, login):
        return "by `docker login`"
    path = _config_file()
    config = _read(path)
    helper = _helper(config, address)
    if helper:
        _by_helper(helper, address, login)
        return f"by docker-credential-{helper}"
    encoded = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
    known = config.get("auths")
    auths = {**(known if isinstance(known, dict) else {}), address: {"auth": encoded}}
    _write(path, {**config, "auths": auths})
    return f"in {path}"


def _by_docker(docker: str, address: str, login: Credentials) -> bool:
    command = [docker, "login", address, "--username", login.username, "--password-stdin"]
    return _fed(command, login.password) is None


def _by_helper(helper: str, address: str, login: Credentials) -> None:
    """``docker-credential-HELPER store`` (docker-credential-helpers protocol)."""
    text = json.dumps({"ServerURL": address, "Username": login.username, "Secret": login.password})
    fault = _fed([f"docker-credential-{helper}", "store"], text)
    if fault:
        raise MlpkgError(
            f"docker-credential-{helper}: {fault}", hint="see credsStore in Docker's configuration"
        )


def _fed(command: list[str], text: str) -> str | None:
    """Run a command with `text` as its input: why it failed, None when it did not."""
    try:
        done = subprocess.run(
            command, input=text.encode(), capture_output=True, timeout=HELPER_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {HELPER_TIMEOUT:.0f} s"
    except OSError as error:
        return f"cannot be run: {error.strerror}"
    return f"failed with exit status {done.returncode}" if done.returncode else None


def _config_file() -> Path:
    folder = os.environ.get("DOCKER_CONFIG")
    # A link (dotfiles kept elsewhere) stays one: what it points to is replaced.
    return ((Path(folder) if folder else Path.home() / ".docker") / "config.json").resolve()


def _read(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is not JSON", hint="mend or remove it") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path}: is not a JSON object", hint="mend or remove it")
    return value


def _helper(config: Mapping[str, Any], address: str) -> str | None:
    helpers = config.get("credHelpers")
    own = helpers.get(address) if isinstance(helpers, dict) else None
    name = own or config.get("credsStore")
    if name and not (isinstance(name, str) and name.replace("-", "").replace("_", "").isalnum()):
        raise UsageError(
            f"{name!r} is not the name of a credential helper", hint="see Docker's configuration"
        )
    return name or None


def _write(path: Path, config: Mapping[str, Any]) -> None:
    """Replace the configuration whole; only this user can read it."""
    fresh: Path | None = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".config.json.")
        fresh = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(config, indent="\t").encode())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        if fresh:
            fresh.unlink(missing_ok=True)
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error
