"""A request's head: parsed by httptools, then held to what RFC 9112 asks of a server beyond the syntax.

The connection hands over one whole head. Where a request's body ends is decided here and in `bodies`, never by the
parser, so that two readings of the same bytes cannot differ.
"""

from __future__ import annotations

import re
from typing import Final

import httptools

from mlpkg.runtime.message import HttpRequest, Refusal

HEAD_LIMIT: Final = 64 * 1024
"""Bytes of request line and header fields together; beyond: 431."""
FIELD_LIMIT: Final = 256
"""Header fields of one request; beyond: 431."""
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_HOST: Final = re.compile(r"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]*")
"""What a Host field may consist of (RFC 9110, 7.2; RFC 3986, 3.2.2)."""
_NAMES: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]*")
"""Tokens (RFC 9110, 5.6.2) in lower case; httptools before 0.6.4 lets others pass."""
_ONCE: Final = frozenset(("host", "content-length", "transfer-encoding"))
_DIGITS: Final = 18


class _Fields:
    """What httptools finds in one head."""

    __slots__ = ("found", "is_whole", "target")

    def __init__(self) -> None:
        self.target = b""
        self.found: list[tuple[str, str]] = []
        self.is_whole = False

    def on_url(self, url: bytes) -> None:
        """The request target, or a piece of it."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field."""
        self.found.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """The head's end."""
        self.is_whole = True


def head_end(data: bytes, start: int, searched: int) -> int:
    """Where the head that begins at `start` ends, or 0; the bytes before `searched` hold no end of one.

    Raises Refusal when the head is too large already, or cannot become one.
    """
    at = data.find(b"\r\n\r\n", max(start, searched - 3))
    if at >= 0:
        end = at + 4
    else:
        # Bare line feeds end no head (RFC 9112, 2.2 lets a server refuse them); the parser will say so.
        match = _HEAD_END.search(data, max(start, searched - 3))
        end = match.end() if match else 0
    size = (end or len(data)) - start
    if size > HEAD_LIMIT:
        raise Refusal(431, f"The request's header fields exceed {HEAD_LIMIT} bytes")
    if not end and size and not 64 < data[start] < 91:
        raise Refusal(400, "The request is not HTTP/1.1: it begins with no method")
    return end


def parse_head(head: bytes) -> HttpRequest:
    """The request whose whole head this is.

    Raises Refusal: 400 for what is not HTTP/1.1 or could be read in two ways, 431 for too many fields,
    501 for a transfer coding other than chunked.
    """
    lines = head.count(b"\r\n")
    if lines > FIELD_LIMIT + 2:
        raise Refusal(431, f"The request's header fields exceed {FIELD_LIMIT} in number")
    fields = _Fields()
    parser = httptools.HttpRequestParser(fields)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # an offer that is declined by not taking it up (RFC 9110, 7.8)
    except httptools.HttpParserError as error:
        raise Refusal(400, f"The request is not HTTP/1.1: {error}") from None
    if not fields.is_whole:
        raise Refusal(400, "The request is not HTTP/1.1: its head has no end")
    if len(fields.found) + 2 != lines:
        # A field that goes on in the next line (RFC 9112, 5.2), which the parser joins and says nothing; a bare CR or LF.
        raise Refusal(400, "The request is not HTTP/1.1: its lines are not one field each")
    request = HttpRequest()
    request.method = parser.get_method().decode("latin-1")
    request.target = fields.target.decode("latin-1")
    request.version = parser.get_http_version()
    request.fields = fields.found
    request.merged = _merged(fields.found)
    if request.version not in ("1.0", "1.1"):
        raise Refusal(400, f"HTTP/{request.version} is not spoken here, but HTTP/1.1 is")
    if request.method == "CONNECT":
        raise Refusal(405, "The method is not allowed for the requested URL.")
    request.keep_alive = _stays_open(request)
    _check_host(request)
    _frame(request)
    return request


def _merged(fields: list[tuple[str, str]]) -> dict[str, str]:
    """Fields by lower-case name; repeated ones are joined by a comma (RFC 9110, 5.3)."""
    merged: dict[str, str] = {}
    for name, value in fields:
        lower = name.lower()
        if lower not in merged:
            merged[lower] = value
        elif lower in _ONCE:
            raise Refusal(400, f"The request has more than one {name} field")
        else:
            merged[lower] = f"{merged[lower]},{value}"
    if "" in merged or not _NAMES.fullmatch("".join(merged)):
        raise Refusal(400, "The request is not HTTP/1.1: a header field's name is no token")
    return merged


def _stays_open(request: HttpRequest) -> bool:
    """Whether another request may follow on the connection (RFC 9112, 9.3)."""
    field = request.merged.get("connection")
    if field is None:
        return request.version == "1.1"
    options = [option.strip(" \t").lower() for option in field.split(",")]
    return "close" not in options and (request.version == "1.1" or "keep-alive" in options)


def _check_host(request: HttpRequest) -> None:
    """RFC 9112, 3.2: exactly one Host field in HTTP/1.1, and a valid one."""
    host = request.merged.get("host")
    if host is None:
        if request.version == "1.1":
            raise Refusal(400, "The request has no Host field")
    elif not _HOST.fullmatch(host):
        raise Refusal(400, "The request's Host field is not a host")


def _frame(request: HttpRequest) -> None:
    """How the body's end is known (RFC 9112, 6.3)."""
    length, coding = request.merged.get("content-length"), request.merged.get("transfer-encoding")
    if coding is not None:
        codings = [each.strip(" \t").lower() for each in coding.split(",")]
        if length is not None:
            raise Refusal(400, "The request has both Content-Length and Transfer-Encoding")
        if request.version == "1.0":
            raise Refusal(400, "The request has a Transfer-Encoding, which HTTP/1.0 lacks")
        if codings[-1] != "chunked" or codings.count("chunked") > 1:
            raise Refusal(400, "The request's last transfer coding is not chunked")
        if len(codings) > 1:
            raise Refusal(501, "The request has a transfer coding other than chunked")
        request.is_chunked = True
    elif length is not None:
        if not (length.isascii() and length.isdigit()):
            raise Refusal(400, "The request's Content-Length is not a number")
        # More digits than any limit has: the number itself need not be made.
        request.length = int(length) if len(length) <= _DIGITS else 10**_DIGITS
