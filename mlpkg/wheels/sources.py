"""Where wheels come from: mlpkg.toml, the requirements file, uv's and pip's own configuration."""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from mlpkg.errors import LockError
from mlpkg.spec import model as spec
from mlpkg.wheels.requirements import Requirements

_UV_INDEX_KEYS = (
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
)
_UV_FILE_KEYS = ("index", "index-url", "extra-index-url", "find-links", "no-index")


@dataclass(frozen=True, slots=True)
class WheelSources:
    """Indexes and folders to take wheels from. Addresses may carry credentials: they are not shown.

    `index` is the address of the default index, empty for none at all, None for what uv itself uses.
    `find_links` are addresses and absolute folders; `ca_file` is absolute.
    """

    index: str | None = field(default=None, repr=False)
    extra_indexes: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    insecure_hosts: tuple[str, ...] = field(default=(), repr=False)
    ca_file: str | None = None

    def variables(self) -> dict[str, str]:
        """The environment variables that tell uv. They are no arguments: other users read those."""
        values = {
            "UV_DEFAULT_INDEX": self.index or "",
            "UV_INDEX": "" if self.index == "" else " ".join(self.extra_indexes),
            "UV_FIND_LINKS": ",".join(_link(item) for item in self.find_links),
            "UV_INSECURE_HOST": " ".join(self.insecure_hosts),
            "SSL_CERT_FILE": self.ca_file or "",
        }
        return {key: value for key, value in values.items() if value}

    def arguments(self) -> list[str]:
        """What uv is told by argument, because it has no variable for it."""
        return ["--no-index"] if self.index == "" else []


def wheel_sources(
    settings: spec.PythonTable,
    requirements: Requirements,
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> WheelSources:
    """Merge what names a source of wheels. `folder` is that of mlpkg.toml, for its relative paths.

    Order: ``[python]`` in mlpkg.toml, then the requirements file's options, then uv's own
    configuration, and pip's only where none of these names an index or folder. An index of
    mlpkg.toml replaces one of the requirements file; further indexes and folders are added up.
    ``index = ""`` means no index: only what `find_links` holds. Raises LockError for a folder or file
    that is not there.
    """
    variables = os.environ if environment is None else environment
    pip = _pip_settings(variables)
    links = tuple(_existing_link(item, folder) for item in settings.find_links)
    index = settings.index if settings.index is not None else requirements.index
    extra = (*settings.extra_indexes, *requirements.extra_indexes)
    links += requirements.find_links
    for item in (*((index,) if index else ()), *extra):
        _check_address(item)
    insecure = requirements.insecure_hosts
    named = index is not None or extra or links
    if not named and not _uv_has_own(variables):
        index = "" if pip.get("no-index", "").lower() in ("1", "true", "yes", "on") else pip.get("index-url")
        extra = tuple(pip.get("extra-index-url", "").split())
        links = tuple(_present(pip.get("find-links", "").split()))
        insecure += tuple(pip.get("trusted-host", "").split())
    elif index is None and not _uv_has_own(variables):
        index = pip.get("index-url")
        insecure += tuple(pip.get("trusted-host", "").split())
    return WheelSources(index, extra, links, insecure, _ca_file(settings, folder, variables, pip))


def _check_address(item: str) -> None:
    """Refuse what is no index's address, without showing it: it may hold a password."""
    parts = urlsplit(item)
    if parts.scheme not in ("http", "https", "file") or not (parts.netloc or parts.path) or " " in item:
        raise LockError(
            "a package index is named by something that is no address",
            hint="[python] index and extra_indexes, and --index-url lines, look like https://host/simple; "
            "folders of wheels belong into find_links",
        )


def _existing_link(item: str, folder: Path) -> str:
    if "://" in item:
        return item
    path = (folder / Path(item).expanduser()).resolve()
    if not path.is_dir():
        raise LockError(
            f"mlpkg.toml: [python] find_links names {item!r}, which is no folder",
            hint="make the folder, or remove it from find_links",
        )
    return str(path)


def _present(items: list[str]) -> list[str]:
    """Pip passes over folders that are not there; uv stops at them."""
    paths = ((item, Path(item).expanduser()) for item in items)
    return [
        item if "://" in item else str(path.resolve())
        for item, path in paths
        if "://" in item or path.is_dir()
    ]


def _link(item: str) -> str:
    """One item of UV_FIND_LINKS, which is split at commas."""
    return (item if "://" in item else Path(item).as_uri()).replace(",", "%2C")


def _ca_file(
    settings: spec.PythonTable,
    folder: Path,
    variables: Mapping[str, str],
    pip: Mapping[str, str],
) -> str | None:
    if settings.ca_file:
        path = (folder / Path(settings.ca_file).expanduser()).resolve()
        if not path.is_file():
            raise LockError(
                f"mlpkg.toml: [python] ca_file names {settings.ca_file!r}, which is no file",
                hint="give the path of a file with certificates in PEM form",
            )
        return str(path)
    if variables.get("SSL_CERT_FILE"):
        return None
    return variables.get("REQUESTS_CA_BUNDLE") or pip.get("cert") or None


def _uv_has_own(variables: Mapping[str, str]) -> bool:
    if any(variables.get(key) for key in _UV_INDEX_KEYS):
        return True
    return any(_names_index(path) for path in _uv_files(variables))


def _uv_files(variables: Mapping[str, str]) -> list[Path]:
    home = Path(variables.get("XDG_CONFIG_HOME") or Path(variables.get("HOME", "~")).expanduser() / ".config")
    own = variables.get("UV_CONFIG_FILE")
    return (
        [Path(own)]
        if own
        else [home / "uv" / "uv.toml", Path("/etc/uv/uv.toml"), Path("/etc/xdg/uv/uv.toml")]
    )


def _uv_settings(path: Path) -> dict[str, Any]:
    import tomli  # noqa: PLC0415

    try:
        return tomli.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        # uv itself will say what is wrong with its file.
        return {}


def _names_index(path: Path) -> bool:
    value = _uv_settings(path)
    return any(key in table for table in (value, value.get("pip", {})) for key in _UV_FILE_KEYS)


def _pip_settings(variables: Mapping[str, str]) -> dict[str, str]:
    """Pip's configuration (pip, "Configuration"): global, user, site and PIP_CONFIG_FILE, then PIP_*."""
    merged: dict[str, str] = {}
    for path in _pip_files(variables):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, "utf-8")
        except (configparser.Error, UnicodeError) as error:
            raise LockError(
                f"{path}: pip's configuration cannot be read", hint="correct or remove it"
            ) from error
        for section in ("global", "install"):
            if parser.has_section(section):
                merged.update((key.replace("_", "-"), value) for key, value in parser.items(section))
    for key, value in variables.items():
        if key.startswith("PIP_") and key != "PIP_CONFIG_FILE":
            merged[key[4:].lower().replace("_", "-")] = value
    return merged


def _pip_files(variables: Mapping[str, str]) -> list[Path]:
    own = variables.get("PIP_CONFIG_FILE")
    if own == os.devnull:
        return []
    home = Path(variables.get("HOME", "~")).expanduser()
    config = Path(variables.get("XDG_CONFIG_HOME") or home / ".config")
    shared = [Path(item) for item in variables.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if item]
    files = [item / "pip" / "pip.conf" for item in shared] + [Path("/etc/pip.conf")]
    if sys.platform == "darwin":
        files += [Path("/Library/Application Support/pip/pip.conf")]
        files += [home / "Library" / "Application Support" / "pip" / "pip.conf"]
    files += [home / ".pip" / "pip.conf", config / "pip" / "pip.conf", Path(sys.prefix) / "pip.conf"]
    return files + ([Path(own)] if own else [])


def credentials_for(url: str, sources: WheelSources) -> tuple[str, str] | None:
    """The name and password that a known source's address carries for the same scheme, host and port."""
    wanted = urlsplit(url)
    for item in addresses(sources):
        parts = urlsplit(item)
        if parts.username and _place(parts) == _place(wanted):
            return unquote(parts.username), unquote(parts.password or "")
    return None


def addresses(sources: WheelSources) -> list[str]:
    """The addresses that uv is told of: ours, and those of its own variables and files. They may hold secrets."""
    told = " ".join(os.environ.get(key, "") for key in _UV_INDEX_KEYS).replace(",", " ").split()
    filed = [item for path in _uv_files(os.environ) for item in _file_addresses(path)]
    # uv also takes indexes as name=address.
    own = [re.sub(r"\A[\w.-]+=", "", item) for item in told]
    return [
        item for item in (sources.index, *sources.extra_indexes, *sources.find_links, *own, *filed) if item
    ]


def _file_addresses(path: Path) -> list[str]:
    """What a uv.toml names as indexes and pages of wheels (uv, "Settings")."""
    value = _uv_settings(path)
    pip = value.get("pip", {})
    found: list[object] = []
    for table in (value, pip if isinstance(pip, dict) else {}):
        for key in _UV_FILE_KEYS:
            item = table.get(key)
            found += item if isinstance(item, list) else [item]
    urls = [item.get("url") if isinstance(item, dict) else item for item in found]
    return [item for item in urls if isinstance(item, str)]


def _place(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
