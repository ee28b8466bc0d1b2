"""The inside of a .deb file (deb(5)), of which nothing is believed before its digest is the lock's.

A .deb is an ar archive of ``debian-binary``, ``control.tar`` and ``data.tar``: python-debian reads the outer one,
`mlpkg.debian.tar` the inner ones, within bounds.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from mlpkg.errors import DigestMismatch, MlpkgError
from mlpkg.layer import unpacked_limit
from mlpkg.lockfile import Deb
from mlpkg.store.files import digest_of

if TYPE_CHECKING:
    import tarfile

    from debian.arfile import ArFile, ArMember

CHUNK = 1 << 20
CONTROL_LIMIT = 1 << 20
"""Largest control file that is read, in bytes."""

CONTROL_TAR_LIMIT = 64 << 20
"""Largest control.tar that is unpacked, in bytes: it holds scripts and a list of the package's files."""

PATH_LIMIT = 4095
"""Longest path, in characters: PATH_MAX of Linux, where no engine could unpack a longer one."""

DEPTH_LIMIT = 100
"""Folders that a path may lie in: each is looked at for each file."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""What a name would do to the terminal that shows it. No package of Debian's has such names."""

_FIELD = re.compile(rb"(?m)^(Package|Version|Architecture):[ \t]*(\S*)[ \t]*$")
_PART = re.compile(r"(control|data)\.tar(?:\.[a-z0-9]+)?")


@dataclass(frozen=True, slots=True)
class Member:
    """One member of data.tar, with a checked path relative to the image's root.

    `read` gives the content of a file; it works only until the next member is asked for.
    """

    path: str
    kind: Literal["file", "directory", "symlink", "hardlink"]
    mode: int
    size: int
    target: str
    package: str
    source: IO[bytes] | None = None

    def read(self) -> Iterator[bytes]:
        """The content, in pieces. Raises MlpkgError when it cannot be had (any more)."""
        left = self.size
        if self.source is None:
            raise MlpkgError(f"{self.package}: /{self.path} has no content of its own")
        try:
            while left:
                piece = self.source.read(min(CHUNK, left))
                if not piece:
                    break
                left -= len(piece)
                yield piece
        except _broken() as error:
            raise MlpkgError(f"{self.package}: /{self.path} cannot be unpacked: {error}") from error
        if left:
            raise MlpkgError(f"{self.package}: /{self.path} ends too early")


@dataclass(frozen=True, slots=True)
class OpenDeb:
    """A .deb that is being read: its control stanza, then its members, once."""

    deb: Deb
    control: bytes
    _data: ArMember

    def members(self) -> Iterator[Member]:
        """The files, folders and links, in the package's order.

        Raises MlpkgError for a member that a layer must not hold.
        """
        try:
            with _tar(self._data, self.deb, unpacked_limit(self.deb.size)) as tar:
                for info in _members(tar, self.deb):
                    member = _member(info, tar, self.deb.name)
                    if member:
                        yield member
        except _broken() as error:
            raise MlpkgError(f"{self.deb.name}: {self.deb.filename} cannot be unpacked: {error}") from error


@contextlib.contextmanager
def open_deb(path: Path, deb: Deb) -> Iterator[OpenDeb]:
    """Open the file that holds `deb`. Raises DigestMismatch when it is another, MlpkgError when it is no .deb."""
    from debian.arfile import ArError, ArFile  # noqa: PLC0415

    try:
        file = _Forward(io.FileIO(path))
    except OSError as error:
        raise MlpkgError(f"{path}: {deb.name}'s package cannot be read: {error.strerror}") from error
    with file:
        found = digest_of(file)
        if found != deb.digest:
            raise DigestMismatch(
                f"{deb.name} {deb.version}: the cached .deb changed: it has {found}, the lock {deb.digest}",
                hint="run the step again: the file is fetched anew",
            )
        file.seek(0)
        try:
            archive = ArFile(fileobj=file)
        except (ArError, OSError, ValueError) as error:
            raise MlpkgError(f"{deb.name}: {deb.filename} is no ar archive: {error}") from error
        parts = _parts(archive, deb)
        yield OpenDeb(deb, _control(parts["control"], deb), parts["data"])


class _Forward(io.BufferedReader):
    """A file in which nobody steps back from where they are: a member of negative size would be read for ever."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_CUR and offset < 0:
            raise ValueError("a member has a negative size")
        return super().seek(offset, whence)


def _parts(archive: ArFile, deb: Deb) -> dict[str, ArMember]:
    """The two tar archives by name (``control``, ``data``). Raises MlpkgError where one lacks or is there twice."""
    parts: dict[str, ArMember] = {}
    for member in archive:
        found = _PART.fullmatch(member.name)
        if found and found[1] in parts:
            # Programs differ in which of the two they take.
            raise MlpkgError(f"{deb.name}: {deb.filename} has two members of the name {found[1]}.tar")
        if found:
            parts[found[1]] = member
    missing = {"control", "data"} - parts.keys()
    if missing:
        raise MlpkgError(f"{deb.name}: {deb.filename} has no {min(missing)}.tar")
    return parts


def _broken() -> tuple[type[Exception], ...]:
    """What the standard library raises for archives that are damaged."""
    from mlpkg.debian.tar import BROKEN  # noqa: PLC0415

    return BROKEN


def _tar(part: ArMember, deb: Deb, limit: int) -> tarfile.TarFile:
    from mlpkg.debian.tar import SUFFIXES, open_tar  # noqa: PLC0415

    suffix = part.name.partition(".tar")[2]
    if suffix not in SUFFIXES:
        raise MlpkgError(
            f"{deb.name}: {deb.filename} is compressed as {suffix!r}, which Debian's own packages are not",
            hint="use Debian's archive, or rebuild the package with xz",
        )
    return open_tar(part, suffix, limit=limit, what=f"{deb.name}: {deb.filename}")


def _members(tar: tarfile.TarFile, deb: Deb) -> Iterator[tarfile.TarInfo]:
    from mlpkg.debian.tar import tar_members  # noqa: PLC0415

    return tar_members(tar, f"{deb.name}: {deb.filename}")


def _control(part: ArMember, deb: Deb) -> bytes:
    """The control file. Raises MlpkgError where it is about another package: scanners believe it."""
    data = _control_file(part, deb)
    fields = dict(_FIELD.findall(data.partition(b"\n\n")[0]))
    wanted = {b"Package": deb.name, b"Version": deb.version, b"Architecture": deb.architecture}
    for key, value in wanted.items():
        if (said := fields.get(key, b"").decode("utf-8", "replace")) != value:
            raise MlpkgError(
                f"{deb.name}: {deb.filename} says of itself {key.decode()}: {said!r}, the lock says {value!r}",
                hint="the mirror's index and the package do not belong together: use another mirror",
            )
    return data


def _control_file(part: ArMember, deb: Deb) -> bytes:
    try:
        with _tar(part, deb, CONTROL_TAR_LIMIT) as tar:
            for info in _members(tar, deb):
                if info.name in ("control", "./control") and info.isreg() and info.size <= CONTROL_LIMIT:
                    file = tar.extractfile(info)
                    return file.read() if file else b""
    except _broken() as error:
        raise MlpkgError(f"{deb.name}: {deb.filename} cannot be unpacked: {error}") from error
    raise MlpkgError(f"{deb.name}: {deb.filename} has no control file")


def _member(info: tarfile.TarInfo, tar: tarfile.TarFile, package: str) -> Member | None:
    path = _checked_path(info.name, package)
    if not path:
        return None
    if info.isdir():
        return Member(path, "directory", info.mode, 0, "", package)
    if info.issym():
        return Member(path, "symlink", 0o777, 0, _checked_target(path, info.linkname, package), package)
    if info.islnk():
        return Member(path, "hardlink", info.mode, 0, _checked_path(info.linkname, package), package)
    if info.isreg():
        return Member(path, "file", info.mode, info.size, "", package, tar.extractfile(info))
    raise MlpkgError(f"{package}: /{path} is a device or pipe, which has no place in an image")


def _checked_path(name: str, package: str) -> str:
    """The path without a leading ``./``; empty for the root itself."""
    path = name.removeprefix("./").rstrip("/")
    if path in ("", "."):
        return ""
    if (
        name.startswith("/")
        or _CONTROL.search(path)
        or any(part in ("", ".", "..") for part in path.split("/"))
    ):
        raise MlpkgError(f"{package}: {name!r} is not a path inside an image")
    if len(path) > PATH_LIMIT or path.count("/") > DEPTH_LIMIT:
        raise MlpkgError(f"{package}: a path is too long or too deep: {path[:80]!r} …")
    return path


def _checked_target(path: str, target: str, package: str) -> str:
    """A symlink's text, when following it from where it lies does not lead above the root."""
    depth = 0 if target.startswith("/") else path.count("/")
    for part in target.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            raise MlpkgError(f"{package}: the link /{path} leads out of the image: {target!r}")
    if not target or _CONTROL.search(target):
        raise MlpkgError(f"{package}: the link /{path} leads nowhere: {target!r}")
    return target
