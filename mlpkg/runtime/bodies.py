"""A request's body as its bytes come in: by length or in chunks (RFC 9112, 6 and 7.1), bounded before it is kept.

httptools neither says where a chunked body ends nor shows what stands between the data, so nothing could be bounded
there. The grammar is taken strictly: what two servers could read differently is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from mlpkg.runtime.message import Refusal

OVERHEAD_LIMIT: Final = 16 * 1024
"""Bytes of chunk extensions and trailers of one request together; beyond: 431."""
_LINE_LIMIT: Final = 4 * 1024
"""Bytes of one line among them."""
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER: Final = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*)?\r\n")

Take = Callable[[bytes], None]
"""Keeps a piece of the body, or raises Refusal."""


class SizedBody:
    """A body whose length is known."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def is_whole(self) -> bool:
        """Whether the last byte was read."""
        return not self._left

    def read(self, data: bytes, at: int, take: Take) -> int:
        """Read from `at` on, hand the body's bytes to `take`, return where the rest begins."""
        piece = data[at : at + self._left]
        if piece:
            take(piece)
            self._left -= len(piece)
        return at + len(piece)


class ChunkedBody:
    """A chunked body; its extensions and trailers are checked, counted and dropped.

    Trailers are never merged into the request's fields: that would let them overrule what a proxy
    has checked there (RFC 9110, 6.5.1).
    """

    __slots__ = ("_has_chunk", "_is_last", "_left", "_limit", "_spent", "is_whole")

    def __init__(self, limit: int) -> None:
        self.is_whole = False
        self._limit = limit
        self._left = 0
        self._spent = 0
        self._has_chunk = False
        self._is_last = False

    def read(self, data: bytes, at: int, take: Take) -> int:
        """Read from `at` on, hand the body's bytes to `take`, return where the rest begins.

        What returns unread is less than a line. Raises Refusal: 400 for what is no chunk, 413 for a chunk beyond
        the limit, 431 for too much of what is dropped, and what `take` raises.
        """
        while not self.is_whole:
            if self._left:
                piece = data[at : at + self._left]
                if not piece:
                    return at
                take(piece)
                at += len(piece)
                self._left -= len(piece)
            elif self._has_chunk:
                if data[at : at + 2] != b"\r\n":
                    if data[at : at + 1] in (b"", b"\r") and len(data) - at < 2:
                        return at
                    raise Refusal(400, "The request's chunk does not end where its size says")
                at += 2
                self._has_chunk = False
            else:
                end = self._trailer(data, at) if self._is_last else self._size(data, at)
                if end == at:
                    return at
                at = end
        return at

    def _size(self, data: bytes, at: int) -> int:
        match = _SIZE.match(data, at)
        if match is None:
            return self._incomplete(data, at, "chunk size")
        size, extension = match.groups()
        if extension is not None:
            self._spend(match.end() - at)
        self._left = int(size, 16)
        if self._left > self._limit:
            raise Refusal(413, f"The request's body exceeds {self._limit} bytes")
        self._has_chunk = self._left > 0
        self._is_last = not self._has_chunk
        return match.end()

    def _trailer(self, data: bytes, at: int) -> int:
        match = _TRAILER.match(data, at)
        if match is None:
            return self._incomplete(data, at, "trailer")
        self.is_whole = match.end() - at == 2
        self._spend(match.end() - at)
        return match.end()

    def _incomplete(self, data: bytes, at: int, what: str) -> int:
        """The line at `at` is not whole yet, or never will be."""
        if data.find(b"\n", at) >= 0:
            raise Refusal(400, f"The request's {what} is not one")
        if len(data) - at > _LINE_LIMIT:
            raise Refusal(431, f"The request's {what} exceeds {_LINE_LIMIT} bytes")
        return at

    def _spend(self, size: int) -> None:
        """Count a line that is dropped."""
        self._spent += size
        if size > _LINE_LIMIT or self._spent > OVERHEAD_LIMIT:
            raise Refusal(431, f"The request's chunk extensions and trailers exceed {OVERHEAD_LIMIT} bytes")
