"""Layers as deterministic tar streams: entries in, bytes out. The format is our own, fixed to the byte.

A layer is a recipe, never a file of its own: headers are made here, contents are read from where they
lie at the moment they are sent, and both are checked against the size (and digest, where one is known)
that the recipe names.

Format (POSIX.1-1988 ustar; POSIX.1-2001 pax records only for what ustar cannot hold): owner 0:0 without
names, mode as given, one constant time, no device numbers, no access or change times, no extended
attributes; two zero blocks at the end and no further padding. Python's `tarfile` writes other bytes, which
have changed before (device fields, in 3.9): docs/decisions/0012-libraries-or-reasons.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Literal, Protocol

from mlpkg.digest import Digest, Tally
from mlpkg.errors import ChangedInput, MlpkgError

MTIME = 315532801
"""1980-01-01T00:00:01Z: the earliest time that zip-based tools accept too (buildpacks use the same)."""

MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar"

BLOCK = 512
CHUNK = 1 << 20


def unpacked_limit(packed: int) -> int:
    """The most bytes that packages of `packed` bytes may unpack to: 2 GiB, and 32 times their own size.

    Packages of real use unpack to 2 to 10 times their size; a zip archive can reach 1,000, xz 7,000.
    """
    return (2 << 30) + 32 * packed


class Content(Protocol):
    """The bytes of one file, and their number."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def read(self) -> Iterator[bytes]:
        """The bytes, in pieces. Raises ChangedInput when they are no longer those named."""
        ...


@dataclass(frozen=True, slots=True)
class Bytes:
    """Content held in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    def read(self) -> Iterator[bytes]:
        """The bytes, in one piece."""
        yield self.data


@dataclass(frozen=True, slots=True)
class SourceFile:
    """Content of a file on disk, with the size (and digest, where known) it must still have."""

    path: Path
    size: int
    digest: Digest | None = None

    def read(self) -> Iterator[bytes]:
        """The file in pieces of 1 MiB, checked while it is read. Raises ChangedInput."""
        tally = Tally()
        try:
            with self.path.open("rb", buffering=0) as file:
                yield from tally.of(self._pieces(file)) if self.digest else self._pieces(file)
        except OSError as error:
            raise ChangedInput(f"{self.path}: cannot be read: {error.strerror}") from error
        if self.digest and tally.digest != self.digest:
            raise ChangedInput(f"{self.path}: changed since it was read first", hint="run the step again")

    def _pieces(self, file: RawIOBase) -> Iterator[bytes]:
        left = self.size
        while piece := file.read(min(CHUNK, left + 1)):
            left -= len(piece)
            if left < 0:
                break
            yield piece
        if left:
            raise ChangedInput(
                f"{self.path}: changed while it was read (it had {self.size} bytes)",
                hint="run the step again",
            )


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of a layer.

    `path` is relative to the image's root, with ``/``, without ``.`` or ``..``. `target` is the link's
    text for a symlink, and the earlier entry's path for a hardlink. `content` belongs to files only.
    """

    path: str
    kind: Literal["file", "directory", "symlink", "hardlink"] = "file"
    mode: int = 0o644
    content: Content | None = None
    target: str = ""

    @property
    def size(self) -> int:
        """Bytes of content."""
        return self.content.size if self.content else 0


_TYPE = {"file": b"0", "hardlink": b"1", "symlink": b"2", "directory": b"5"}


def tar_stream(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The layer's bytes. Parents are added once, where an entry needs them first (mode 0755).

    Entries keep the order they are given in; a directory given twice is written once.
    Raises MlpkgError for a path that leaves the root or is given twice, ChangedInput from the contents.
    """
    written: dict[str, str] = {}
    for entry in entries:
        for member in (*_parents(entry.path, written), entry):
            known = written.get(member.path)
            if known == member.kind == "directory":
                continue
            if known is not None:
                raise MlpkgError(f"two files of one layer have the same path: /{member.path}")
            if member.kind == "hardlink" and written.get(member.target) != "file":
                raise MlpkgError(
                    f"hard link /{member.path} to /{member.target}, which is no earlier file of the layer"
                )
            written[member.path] = member.kind
            yield _header(member)
            if member.content is not None:
                yield from _sized(member.path, member.content)
    yield bytes(2 * BLOCK)


def _sized(path: str, content: Content) -> Iterator[bytes]:
    left = content.size
    for piece in content.read():
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left:
        raise ChangedInput(
            f"/{path}: its content does not have the {content.size} bytes that its header says"
        )
    if padding := -content.size % BLOCK:
        yield bytes(padding)


def _parents(path: str, written: dict[str, str]) -> list[Entry]:
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts) or "\0" in path:
        raise MlpkgError(f"not a path inside an image: {path!r}")
    above = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
    return [Entry(parent, "directory", 0o755) for parent in above if written.get(parent) != "directory"]


def _header(entry: Entry) -> bytes:
    name = (entry.path + "/" if entry.kind == "directory" else entry.path).encode("utf-8", "surrogateescape")
    target = entry.target.encode("utf-8", "surrogateescape")
    pax = b"".join(
        _pax_record(key, value)
        for key, value, needed in (
            (b"path", name, len(name) > 100 or not name.isascii()),
            (b"linkpath", target, len(target) > 100 or not target.isascii()),
            (b"size", str(entry.size).encode(), entry.size >= 8**11),
        )
        if needed
    )
    extended = b""
    if pax:
        extended = _block(b"././@PaxHeader", 0o644, len(pax), b"x", b"") + pax + bytes(-len(pax) % BLOCK)
    size = entry.size if entry.size < 8**11 else 0
    return extended + _block(name[:100], entry.mode & 0o7777, size, _TYPE[entry.kind], target[:100])


def _pax_record(key: bytes, value: bytes) -> bytes:
    """A line ``LENGTH key=value`` where LENGTH counts itself (POSIX.1-2001, pax, "pax Header Block")."""
    length = rest = len(key) + len(value) + 3
    while length != rest + len(str(length)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _block(name: bytes, mode: int, size: int, kind: bytes, target: bytes) -> bytes:
    fields = (
        name.ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"0000000\0",
        b"0000000\0",
        b"%011o\0" % size,
        b"%011o\0" % MTIME,
        b" " * 8,
        kind,
        target.ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        b"0000000\0",
        b"0000000\0",
        bytes(155 + 12),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
