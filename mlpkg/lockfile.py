"""package.lock: what was chosen for a package, by hash and without hosts. Values, parsing, writing.

JSON, because it is read at every run: the standard library parses it at C speed, and the file is
written by one program only. The Python part is repeated in requirements.lock in pip's own format,
for people and other tools; package.lock is what mlpkg reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlpkg.digest import Digest, parse_digest
from mlpkg.formats import LOCK


@dataclass(frozen=True, slots=True)
class Deb:
    """One Debian package file. `filename` is its path below a mirror's root (``pool/…``)."""

    name: str
    version: str
    architecture: str
    filename: str
    size: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel by its file name (PEP 427), size in bytes and digest."""

    name: str
    version: str
    filename: str
    size: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class LockedLayer:
    """A layer that was made from locked files: `name` (base, system, wheels, wheel:<name>) and what it must be.

    `format` says by which rules it was made (`mlpkg.formats`): under other
    rules the digest says nothing.
    """

    name: str
    digest: Digest
    size: int
    format: str


@dataclass(frozen=True, slots=True)
class PackageLock:
    """All that was chosen for one package on one platform.

    `inputs` is the digest of what the choice was made from; the lock is stale when it differs.
    `python` is the image's Python (``3.13``), empty when the image has none. `debian` are the packages that
    were asked for beside the base; `base` and `system` are the packages of those two layers, sorted by name;
    `wheels` likewise.
    """

    inputs: Digest
    suite: str
    platform: str
    python: str
    debian: tuple[str, ...]
    base: tuple[Deb, ...]
    system: tuple[Deb, ...]
    wheels: tuple[Wheel, ...]
    layers: tuple[LockedLayer, ...]

    def layer(self, name: str) -> LockedLayer:
        """The locked layer of that name. Raises KeyError."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)


def to_text(lock: PackageLock) -> str:
    """The file's text: stable, one package a line, fit for reading a diff."""
    value = asdict(lock)
    lists = ("base", "system", "wheels", "layers")
    head = {"format": LOCK, **{key: item for key, item in value.items() if key not in lists}}
    lines = [f"  {json.dumps(key)}: {json.dumps(item)}" for key, item in head.items()]
    for key in lists:
        rows = ",\n".join(f"    {json.dumps(row)}" for row in value[key])
        lines.append(f"  {json.dumps(key)}: [\n{rows}\n  ]" if rows else f"  {json.dumps(key)}: []")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def from_text(text: str) -> PackageLock:
    """Check and take a lock that came from a file. Raises ValueError (also for another format)."""
    value = json.loads(text)
    if not isinstance(value, dict) or value.get("format") != LOCK:
        raise ValueError(f"not a package.lock of format {LOCK}")
    try:
        return PackageLock(
            inputs=parse_digest(value["inputs"]),
            suite=_text(value, "suite"),
            platform=_text(value, "platform"),
            python=_text(value, "python"),
            debian=tuple(str(name) for name in value["debian"]),
            base=tuple(_deb(row) for row in value["base"]),
            system=tuple(_deb(row) for row in value["system"]),
            wheels=tuple(_wheel(row) for row in value["wheels"]),
            layers=tuple(
                LockedLayer(_text(row, "name"), parse_digest(row["digest"]), _size(row), _text(row, "format"))
                for row in value["layers"]
            ),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"package.lock lacks or misstates {error}") from error


def _deb(row: Mapping[str, Any]) -> Deb:
    names = ("name", "version", "architecture", "filename")
    name, version, architecture, filename = (_text(row, key) for key in names)
    if filename.startswith("/") or ".." in filename.split("/"):
        raise ValueError(f"package.lock: {filename!r} leaves the mirror")
    return Deb(name, version, architecture, filename, _size(row), parse_digest(row["digest"]))


def _wheel(row: Mapping[str, Any]) -> Wheel:
    name, version, filename = (_text(row, key) for key in ("name", "version", "filename"))
    return Wheel(name, version, filename, _size(row), parse_digest(row["digest"]))


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if not isinstance(value, str) or "\n" in value:
        raise ValueError(f"package.lock: {key} is {value!r}, not a text")
    return value


def _size(row: Mapping[str, Any]) -> int:
    value = row["size"]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"package.lock: size is {value!r}")
    return value
