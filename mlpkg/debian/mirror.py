"""Which Debian archive to take packages from, whom to believe, and how to get there.

The workspace's settings decide; what they leave out comes from the machine's own apt. The addresses
in a `Mirrors` hold no user names or passwords: those are kept apart and never printed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from mlpkg.debian.apt import AptSource, Login, read_logins, read_settings, read_sources
from mlpkg.errors import LockError
from mlpkg.http.settings import environment_proxies
from mlpkg.spec.model import DebianTable

_RELEASES = frozenset(
    (
        *("buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid", "experimental"),
        *("oldoldstable", "oldstable", "stable", "testing", "unstable"),
    )
)
"""Suites by which an apt source is known to be a Debian archive and not someone's own repository."""

_SCHEMES = ("http", "https", "file")
_KEYRINGS = (
    "usr/share/keyrings/debian-archive-keyring.gpg",
    "usr/share/keyrings/debian-archive-keyring.pgp",
)


@dataclass(frozen=True, slots=True)
class Keyring:
    """OpenPGP certificates, armoured or not, and where they were found."""

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Where packages come from.

    `main` and `security` are addresses of folders that hold ``dists`` and ``pool``, without a slash at
    the end. `security_required` tells a security archive that was named from one that was only
    guessed. `proxies` maps a scheme, or ``scheme::host``, to a proxy's address or ``DIRECT``.
    """

    main: str
    security: str | None
    keyrings: tuple[Keyring, ...]
    snapshot: str | None = None
    security_required: bool = True
    logins: tuple[Login, ...] = field(default=(), repr=False)
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Main first, then security where there is one."""
        return (self.main, self.security) if self.security else (self.main,)


def choose_mirrors(
    settings: DebianTable,
    *,
    folder: Path = Path(),
    root: Path = Path("/"),
    environ: Mapping[str, str] | None = None,
) -> Mirrors:
    """Choose from the settings, else from the machine's apt. Raises LockError.

    `folder` is where mlpkg.toml lies (a relative keyring counts from there), `root` the machine's root
    folder, `environ` the process's environment by default (read for proxies only).
    """
    sources = _debian_sources(read_sources(root))
    main_source = next((source for source in sources if not _is_security(source.suite)), None)
    security_source = next((source for source in sources if _is_security(source.suite)), None)
    if settings.mirror:
        main, signed_by = settings.mirror, ""
        security = settings.security_mirror or _beside(settings.mirror)
    elif main_source:
        main, signed_by = main_source.uri, main_source.signed_by
        security = settings.security_mirror or (security_source.uri if security_source else "")
    else:
        raise LockError(
            "no Debian mirror: apt on this machine has none for Debian's main component",
            hint='set [debian] mirror in mlpkg.toml: mirror = "http://mirror.example/debian"',
        )
    main, security = (_with_snapshot(address, settings) for address in (main, security))
    _check_snapshot(settings, main)
    main, main_login = _clean(main)
    security, security_login = _clean(security) if security else ("", ())
    named = bool(settings.security_mirror) or not settings.mirror
    return Mirrors(
        main=main,
        security=security or None,
        keyrings=_keyrings(settings, signed_by, folder, root),
        snapshot=settings.snapshot,
        security_required=named,
        logins=(*main_login, *security_login, *read_logins(root)),
        proxies=_proxies(read_settings(root), os.environ if environ is None else environ),
    )


def _debian_sources(sources: Iterable[AptSource]) -> list[AptSource]:
    return [
        replace(source, uri=re.sub(r"^copy:", "file:", source.uri))
        for source in sources
        if "main" in source.components
        and re.split(r"[-/]", source.suite)[0] in _RELEASES
        and source.uri.partition(":")[0] in (*_SCHEMES, "copy")
    ]


def _beside(mirror: str) -> str:
    """Where a mirror's security archive usually lies; empty for a mirror at its host's root: that would be another host."""
    path = mirror.partition("://")[2].partition("/")[2].strip("/")
    return f"{mirror.rstrip('/')}-security" if path else ""


def _is_security(suite: str) -> bool:
    """``trixie-security``; ``buster/updates`` was its name before Debian 11."""
    return suite.endswith(("-security", "/updates"))


def _with_snapshot(address: str, settings: DebianTable) -> str:
    return address.replace("{snapshot}", settings.snapshot) if settings.snapshot else address


def _check_snapshot(settings: DebianTable, main: str) -> None:
    if "{snapshot}" in main:
        raise LockError(
            "[debian] mirror asks for a snapshot and none is set",
            hint='set [debian] snapshot in mlpkg.toml: snapshot = "20260901T000000Z"',
        )
    if settings.snapshot and "{snapshot}" not in (settings.mirror or ""):
        raise LockError(
            f"[debian] snapshot = {settings.snapshot!r} has no effect: the mirror's address does not hold {{snapshot}}",
            hint="set [debian] mirror to a snapshot archive's address with {snapshot} in it, or drop snapshot",
        )


def _clean(address: str) -> tuple[str, tuple[Login, ...]]:
    """The address without user and password, and these on their own."""
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    except ValueError as error:
        raise LockError(f"[debian] not the address of a mirror: {error}") from error
    if parts.scheme not in _SCHEMES or (parts.scheme != "file" and not host) or parts.query or parts.fragment:
        shown = urlunsplit((parts.scheme, host, parts.path, "", ""))
        raise LockError(
            f"[debian] not the address of a mirror: {shown!r}",
            hint="http://, https:// or file:/// and the folder that holds dists and pool",
        )
    login = (Login(host, unquote(parts.username), unquote(parts.password or "")),) if parts.username else ()
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", "")), login


def _keyrings(settings: DebianTable, signed_by: str, folder: Path, root: Path) -> tuple[Keyring, ...]:
    if settings.keyring:
        return (_keyring(folder / settings.keyring),)
    if "-----BEGIN PGP PUBLIC KEY BLOCK-----" in signed_by:
        return (Keyring("apt's Signed-By", signed_by.encode()),)
    named = [root / path.lstrip("/") for path in signed_by.split() if path.startswith("/")]
    if named:
        return tuple(_keyring(path) for path in named)
    if usual := [root / path for path in _KEYRINGS if (root / path).is_file()]:
        return (_keyring(usual[0]),)
    trusted = sorted(
        path for path in (root / "etc/apt/trusted.gpg.d").glob("*") if path.suffix in (".gpg", ".pgp", ".asc")
    )
    if not trusted:
        raise LockError(
            "no keyring to check the Debian mirror's signatures with",
            hint="install debian-archive-keyring, or set [debian] keyring in mlpkg.toml to a file with the archive's keys",
        )
    return tuple(_keyring(path) for path in trusted)


def _keyring(path: Path) -> Keyring:
    try:
        return Keyring(str(path), path.read_bytes())
    except OSError as error:
        raise LockError(
            f"{path}: the keyring for the Debian mirror cannot be read: {error.strerror}",
            hint="set [debian] keyring in mlpkg.toml to a file with the archive's keys",
        ) from error


_PROXY_VARIABLES = {"http": ("http_proxy",), "https": ("https_proxy", "HTTPS_PROXY")}


def _proxies(settings: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Settings of apt win over the environment's (apt-transport-http(1)); https falls back to http there."""
    proxies = environment_proxies(environ, _PROXY_VARIABLES)
    for key, value in settings.items():
        match = re.fullmatch(r"acquire::(https?)::proxy(?:::(.+))?", key)
        if match and value:
            proxies[f"{match[1]}::{match[2]}" if match[2] else match[1]] = value
    if "acquire::http::proxy" in settings and "acquire::https::proxy" not in settings:
        proxies["https"] = settings["acquire::http::proxy"]
    return {key: value for key, value in proxies.items() if value}
