"""HTTP/1.1 messages: a parsed request, and the bytes of an answer's head."""

from __future__ import annotations

import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

BODYLESS: Final = (204, 304)
"""Statuses whose answers have no body (RFC 9110, 6.4.1)."""

Fields = Sequence[tuple[str, str]]

_SMALL: Final = 4 * 1024
_LARGE: Final = 64 * 1024

_STATUS_LINES: Final = {
    int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode("latin-1") for status in HTTPStatus
}


_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class _Clock:
    """The Date field (RFC 9110, 5.6.7), made once per second."""

    second = 0
    line = b""

    @classmethod
    def date(cls) -> bytes:
        now = int(time.time())
        if now != cls.second:
            year, month, day, hour, minute, second, weekday, *_ = time.gmtime(now)
            date = f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year} {hour:02}:{minute:02}:{second:02} GMT"
            cls.second, cls.line = now, f"date: {date}\r\n".encode()
        return cls.line


def header_block(fields: Fields) -> bytes:
    """Header fields as they are sent; what latin-1 does not have becomes a question mark."""
    return "".join([f"{name}: {value}\r\n" for name, value in fields]).encode("latin-1", "replace")


class Refusal(Exception):
    """A request that is not taken, or not to its end: the status and message of its answer."""

    def __init__(self, status: int, message: str, *fields: tuple[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.fields = fields


class HttpRequest:
    """A parsed request: its head from the start, `body` once it is whole; `path` is set where it is routed.

    `merged` has the fields by lower-case name. `received` is a time of `perf_counter`, in seconds.
    """

    __slots__ = (
        "body",
        "fields",
        "is_chunked",
        "keep_alive",
        "length",
        "merged",
        "method",
        "parts",
        "path",
        "received",
        "size",
        "target",
        "version",
    )

    def __init__(self) -> None:
        self.method = ""
        self.target = ""
        self.path = ""
        self.fields: list[tuple[str, str]] = []
        self.merged: dict[str, str] = {}
        self.length = 0
        self.is_chunked = False
        self.parts: list[bytes | bytearray] = []
        self.body = b""
        self.size = 0
        self.version = "1.1"
        self.keep_alive = True
        self.received = 0.0

    def add(self, piece: bytes) -> None:
        """Keep a piece of the body. Small ones are put together: each kept alone would cost 40 bytes more."""
        self.size += len(piece)
        parts = self.parts
        if not parts or len(piece) >= _SMALL or len(parts[-1]) >= _LARGE:
            parts.append(piece)
        elif isinstance(parts[-1], bytearray):
            parts[-1] += piece
        else:
            parts[-1] = bytearray(parts[-1]) + piece

    def complete(self) -> None:
        """The body is whole."""
        parts = self.parts
        self.body = parts[0] if len(parts) == 1 and isinstance(parts[0], bytes) else b"".join(parts)
        self.parts = []
        self.received = time.perf_counter()


def answer_head(status: int, block: bytes, request: HttpRequest, *, close: bool) -> list[bytes]:
    """Status line and header fields, without the empty line; `block` is made by `header_block`."""
    head = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status, _Clock.date(), block]
    if close or not request.keep_alive:
        head.append(b"connection: close\r\n")
    elif request.version == "1.0":
        head.append(b"connection: keep-alive\r\n")
    return head
