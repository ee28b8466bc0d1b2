"""HTTP/1.1 messages: a parsed request, and the bytes of an answer's head."""

from __future__ import annotations

import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

BODYLESS: Final = (204, 304)
"""Statuses whose answers have no body (RFC 9110, 6.4.1)."""

Fields = Sequence[tuple[str, str]]

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


class HttpRequest:
    """A parsed request; `path` is set where it is routed; `body` is whole once `Handler.handle` sees it."""

    __slots__ = (
        "body",
        "fields",
        "keep_alive",
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
        self.parts: list[bytes] = []
        self.body = b""
        self.size = 0
        self.version = "1.1"
        self.keep_alive = True
        self.received = 0.0


def answer_head(status: int, block: bytes, request: HttpRequest, *, close: bool) -> list[bytes]:
    """Status line and header fields, without the empty line; `block` is made by `header_block`."""
    head = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status, _Clock.date(), block]
    if close or not request.keep_alive:
        head.append(b"connection: close\r\n")
    elif request.version == "1.0":
        head.append(b"connection: keep-alive\r\n")
    return head
