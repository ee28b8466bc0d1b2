"""The inside of a .deb file (deb(5)), of which nothing is believed before its digest is the lock's.

A .deb is an ar archive of ``debian-binary``, ``control.tar`` and ``data.tar``: python-debian and `tarfile`
read these well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, cast

from mlpkg.errors import DigestMismatch, MlpkgError
from mlpkg.lockfile import Deb
from mlpkg.store.files import digest_of

if TYPE_CHECKING:
    import tarfile

    from debian.arfile import ArMember

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
            with _tar(self._data, self.deb) as tar:
                for info in tar:
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
        file = path.open("rb")
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
        parts = {member.name.partition(".")[0]: member for member in archive}
        missing = {"control", "data"} - parts.keys()
        if missing:
            raise MlpkgError(f"{deb.name}: {deb.filename} has no {min(missing)}.tar")
        yield OpenDeb(deb, _control(parts["control"], deb), parts["data"])


def _broken() -> tuple[type[Exception], ...]:
    """What the standard library raises for archives that are damaged."""
    import lzma  # noqa: PLC0415
    import tarfile  # noqa: PLC0415
    import zlib  # noqa: PLC0415

    return (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError, OSError)


def _tar(part: ArMember, deb: Deb) -> tarfile.TarFile:
    import tarfile  # noqa: PLC0415

    suffix = part.name.partition(".tar")[2]
    if suffix not in _COMPRESSION:
        raise MlpkgError(
            f"{deb.name}: {deb.filename} is compressed as {suffix!r}, which Debian's own packages are not",
            hint="use Debian's archive, or rebuild the package with xz",
        )
    return tarfile.open(
        fileobj=cast("IO[bytes]", part),
        mode=_COMPRESSION[suffix],
        bufsize=1 << 16,
        encoding="utf-8",
        errors="surrogateescape",
    )


def _control(part: ArMember, deb: Deb) -> bytes:
    try:
        with _tar(part, deb) as tar:
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
