"""The inside of a .deb file, read once from front to back (deb(5)); checked against the lock on the way.

A .deb is an ar archive of ``debian-binary``, ``control.tar`` and ``data.tar``. Python's `tarfile` reads
these well; it is only for writing that its bytes are not stable enough.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Literal

from mlpkg.digest import Tally
from mlpkg.errors import DigestMismatch, MlpkgError
from mlpkg.lockfile import Deb

if TYPE_CHECKING:
    import tarfile

CHUNK = 1 << 20
CONTROL_LIMIT = 1 << 20
"""Largest control file that is read, in bytes."""

_COMPRESSION: dict[str, Literal["r|", "r|gz", "r|xz"]] = {"": "r|", ".gz": "r|gz", ".xz": "r|xz"}


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


class _Hashed(io.RawIOBase):
    """A file that is hashed while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tally = Tally()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.tally.add(self._file.read(size))


class _Section(io.RawIOBase):
    """The next `size` bytes of a file."""

    def __init__(self, file: _Hashed, size: int) -> None:
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(piece)
        return piece

    def drain(self) -> None:
        """Read past what is left."""
        while self.read(CHUNK):
            pass


@dataclass(frozen=True, slots=True)
class OpenDeb:
    """A .deb that is being read: its control stanza, then its members, once."""

    deb: Deb
    control: bytes
    _file: _Hashed
    _data: _Section
    _suffix: str

    def members(self) -> Iterator[Member]:
        """The files, folders and links, in the package's order.

        Raises MlpkgError for a member that a layer must not hold, DigestMismatch at the end when the
        file was not the one that the lock names.
        """
        try:
            with _tar(self._data, self._suffix, self.deb) as tar:
                for info in tar:
                    member = _member(info, tar, self.deb.name)
                    if member:
                        yield member
        except _broken() as error:
            raise MlpkgError(f"{self.deb.name}: {self.deb.filename} cannot be unpacked: {error}") from error
        while self._file.read(CHUNK):
            pass
        found = self._file.tally.digest
        if (found, self._file.tally.size) != (self.deb.digest, self.deb.size):
            raise DigestMismatch(
                f"{self.deb.name} {self.deb.version}: the cached .deb changed: it has {found}, the lock {self.deb.digest}",
                hint="run the step again: the file is fetched anew",
            )


@contextlib.contextmanager
def open_deb(path: Path, deb: Deb) -> Iterator[OpenDeb]:
    """Open the file that holds `deb`. Raises MlpkgError when it is no .deb."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise MlpkgError(f"{path}: {deb.name}'s package cannot be read: {error.strerror}") from error
    with raw:
        file = _Hashed(raw)
        if file.read(8) != b"!<arch>\n":
            raise MlpkgError(
                f"{path}: {deb.name}'s package is no ar archive", hint="remove it and run the step again"
            )
        control = b""
        while header := file.read(60):
            name, size = _ar_header(header, deb)
            section = _Section(file, size)
            if name.startswith("data.tar"):
                yield OpenDeb(deb, control, file, section, name.removeprefix("data.tar"))
                return
            if name.startswith("control.tar"):
                control = _control(section, name.removeprefix("control.tar"), deb)
            section.drain()
            file.read(size % 2)
        raise MlpkgError(f"{deb.name}: {deb.filename} has no data.tar")


def _ar_header(header: bytes, deb: Deb) -> tuple[str, int]:
    """Name and size in bytes of the next ar member (ar(5), the common format)."""
    size = header[48:58].strip()
    if len(header) != 60 or header[58:] != b"`\n" or not size.isdigit():
        raise MlpkgError(f"{deb.name}: {deb.filename} is a broken ar archive")
    return header[:16].decode("ascii", "replace").strip().rstrip("/"), int(size)


def _broken() -> tuple[type[Exception], ...]:
    """What the standard library raises for archives that are damaged."""
    import lzma  # noqa: PLC0415
    import tarfile  # noqa: PLC0415
    import zlib  # noqa: PLC0415

    return (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError, OSError)


def _tar(section: _Section, suffix: str, deb: Deb) -> tarfile.TarFile:
    import tarfile  # noqa: PLC0415

    if suffix not in _COMPRESSION:
        raise MlpkgError(
            f"{deb.name}: {deb.filename} is compressed as {suffix!r}, which Debian's own packages are not",
            hint="use Debian's archive, or rebuild the package with xz",
        )
    return tarfile.open(
        fileobj=section,
        mode=_COMPRESSION[suffix],
        bufsize=1 << 16,
        encoding="utf-8",
        errors="surrogateescape",
    )


def _control(section: _Section, suffix: str, deb: Deb) -> bytes:
    try:
        with _tar(section, suffix, deb) as tar:
            for info in tar:
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
    if name.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise MlpkgError(f"{package}: {name!r} is not a path inside an image")
    return path


def _checked_target(path: str, target: str, package: str) -> str:
    """A symlink's text, when following it from where it lies does not lead above the root."""
    depth = 0 if target.startswith("/") else path.count("/")
    for part in target.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            raise MlpkgError(f"{package}: the link /{path} leads out of the image: {target!r}")
    if not target or "\0" in target:
        raise MlpkgError(f"{package}: the link /{path} leads nowhere")
    return target
