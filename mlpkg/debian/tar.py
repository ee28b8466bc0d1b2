"""The two tar archives of a .deb, read within bounds: a small package must fill neither memory nor disk.

A .deb's own statement of its size (Installed-Size) is not believed: bytes are counted as they are unpacked.
Read are the types of member that deb(5) allows: plain ustar ones and GNU's long names. dpkg refuses all others
too, so that `tarfile` never gets to interpret pax records and sparse maps, which may say anything of a size.
"""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, Protocol, Self, cast

from mlpkg.errors import MlpkgError

WINDOW_LIMIT = 128 << 20
"""Bytes that unpacking xz may take: its strongest preset needs 65 MiB (xz(1)), a file may ask for 4 GiB."""

MEMBERS_LIMIT = 250_000
"""Members of one package. Debian's largest icon themes hold about 130,000."""

NAME_LIMIT = 64 << 10
"""Bytes of one long name. A path in Linux has at most 4096."""

_PLAIN = (
    tarfile.REGTYPE,
    tarfile.AREGTYPE,
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
)
_TYPES = frozenset((*_PLAIN, tarfile.DIRTYPE, tarfile.FIFOTYPE))
_LONG = frozenset((tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK))
_PIECE = 1 << 16

SUFFIXES = ("", ".gz", ".xz")
"""What Debian's own packages are compressed with. Ubuntu's .zst is not read."""

BROKEN = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError, OSError, RecursionError)
"""What the standard library raises for archives that are damaged. Many long names in a row recurse."""


class Packed(Protocol):
    """A part of a .deb."""

    def read(self, size: int = ..., /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...


class _Header(tarfile.TarInfo):
    """A member's header; `tarfile` would read the whole of an extension of any size, and end at a broken header."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if not buf.strip(b"\0"):
            return super().frombuf(buf, encoding, errors)
        try:
            found = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
        if found.type not in _TYPES | _LONG:
            raise tarfile.ReadError(f"a member of the type {found.type!r}, which deb(5) does not allow")
        if found.size < 0 or (found.type in _LONG and found.size > NAME_LIMIT):
            raise tarfile.ReadError(f"a member says it has {found.size} bytes")
        return found


class _Unpacked:
    """The bytes of a packed part, counted. `suffix` is that of its name: ``.xz``, ``.gz``, or none."""

    def __init__(self, part: Packed, suffix: str, limit: int, what: str) -> None:
        self._part, self._left, self._limit, self._what = part, limit, limit, what
        self._pieces = {"": self._plain, ".xz": self._xz, ".gz": self._gzip}[suffix]()

    def read(self, _size: int, /) -> bytes:
        """The next piece, of at most 64 KiB; none at the end."""
        # A decompressor that wants more gives an empty piece.
        piece = next(filter(None, self._pieces), b"")
        self._left -= len(piece)
        if self._left < 0:
            raise MlpkgError(
                f"{self._what} unpacks to more than {self._limit} bytes",
                hint="nothing of it was kept; if the package is meant to be so large, please report it",
            )
        return piece

    def _plain(self) -> Iterator[bytes]:
        while piece := self._part.read(_PIECE):
            yield piece

    def _xz(self) -> Iterator[bytes]:
        state = lzma.LZMADecompressor(lzma.FORMAT_XZ, WINDOW_LIMIT)
        while not state.eof:
            yield state.decompress(self._packed() if state.needs_input else b"", _PIECE)

    def _gzip(self) -> Iterator[bytes]:
        state = zlib.decompressobj(zlib.MAX_WBITS | 16)
        while not state.eof:
            yield state.decompress(state.unconsumed_tail or self._packed(), _PIECE)

    def _packed(self) -> bytes:
        piece = self._part.read(_PIECE)
        if not piece:
            raise EOFError("it ends too early")
        return piece


def open_tar(part: Packed, suffix: str, *, limit: int, what: str) -> tarfile.TarFile:
    """A part of a .deb as a tar stream. `what` names it in errors; `suffix` is one of `SUFFIXES`.

    What is read of it raises MlpkgError beyond `limit` unpacked bytes, and the errors in `BROKEN`.
    """
    return tarfile.open(
        fileobj=cast("IO[bytes]", _Unpacked(part, suffix, limit, what)),
        mode="r|",
        bufsize=_PIECE,
        encoding="utf-8",
        errors="surrogateescape",
        tarinfo=_Header,
    )


def tar_members(tar: tarfile.TarFile, what: str) -> Iterator[tarfile.TarInfo]:
    """The members in order. `tarfile` would remember them all. Raises MlpkgError beyond `MEMBERS_LIMIT`."""
    count = 0
    while info := tar.next():
        tar.members.clear()  # type: ignore[attr-defined]
        count += 1
        if count > MEMBERS_LIMIT:
            raise MlpkgError(f"{what} holds more than {MEMBERS_LIMIT} files")
        yield info
