"""One client connection: HTTP/1.1 requests in (parsed by httptools), answers out. It knows no route.

Everything a client can do wrong in HTTP itself ends here: broken syntax, too long, too big, too slow.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import httptools

from mlpkg.runtime.message import BODYLESS, HttpRequest, answer_head, header_block

HEAD_LIMIT: Final = 64 * 1024
"""Bytes of request line and header fields together; beyond: 431."""
FIELD_LIMIT: Final = 256
"""Header fields of one request; beyond: 431."""
KEEP_ALIVE: Final = 75.0
"""Seconds that an idle connection is kept."""
_DISCARD_SECONDS: Final = 5.0
"""How long the rest of a refused request is read, so that the client gets to see its answer."""


class Handler(Protocol):
    """What a connection asks of its server."""

    max_body: int
    read_timeout: float

    def opened(self, connection: Connection) -> bool:
        """A client has connected; False refuses it."""

    def closed(self, connection: Connection) -> None:
        """The client is gone."""

    def handle(self, connection: Connection, request: HttpRequest) -> None:
        """Answer this request, now or later, with `respond` or `begin` … `finish`."""

    def refused(self, status: int) -> None:
        """A request was answered with this status before it was whole."""

    def reserve(self, size: int) -> bool:
        """Whether so many more bytes of body may be held (negative: they are released)."""


class Connection(asyncio.Protocol):
    """Requests of one connection are answered one at a time and in order, pipelined ones too."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.transport: asyncio.Transport
        self.client = ""
        self.request: HttpRequest | None = None
        self.waiting: deque[HttpRequest] = deque()
        self.current: HttpRequest | None = None
        self.is_closed = False
        self.is_full = False
        self.is_running = False
        self.on_resume: Callable[[], None] | None = None
        self.deadline: float | None = time.monotonic() + KEEP_ALIVE
        self._parser = httptools.HttpRequestParser(self)
        self._head_size = 0
        self._field_size = 0
        self._length = 0
        self._expects = False
        self._has_head = False
        self._is_refused = False
        self._is_chunked = False
        self._has_body = True
        self._closes = False
        self._url = b""

    # -- asyncio.Protocol --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self.transport = transport
        peer = transport.get_extra_info("peername")
        self.client = peer[0] if isinstance(peer, tuple) else ""
        if not self.handler.opened(self):
            self._refuse(503, "Too many connections", ("Retry-After", "1"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        del exc
        self.is_closed = True
        for request in (self.request, self.current, *self.waiting):
            if request is not None:
                self._release(request)
        self.waiting.clear()
        self.request = self.current = None
        self._resume()
        self.handler.closed(self)

    def eof_received(self) -> bool:
        """A client may close its sending side and still wait for its answer; most that do so are gone.

        So a request that a worker has begun is answered, and one that waits for a worker is dropped.
        """
        if self.current is None or not self.is_running:
            return False
        (self.waiting[-1] if self.waiting else self.current).keep_alive = False
        return True

    def pause_writing(self) -> None:
        """The client does not take its answer as fast as it is made."""
        self.is_full = True
        self.deadline = time.monotonic() + self.handler.read_timeout

    def resume_writing(self) -> None:
        """The client has taken what was waiting."""
        self.is_full = False
        self.deadline = None if self.current is not None else time.monotonic() + KEEP_ALIVE
        self._resume()

    def _resume(self) -> None:
        if self.on_resume is not None:
            resume, self.on_resume = self.on_resume, None
            resume()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._is_refused:
            return
        if not self._has_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            if not self._is_refused:
                self._refuse(400, f"The request is not HTTP/1.1: {error}")
            return
        if not self._has_head and self._head_size > HEAD_LIMIT and not self._is_refused:
            self._refuse(431, f"The request's header fields exceed {HEAD_LIMIT} bytes")

    def _decline(self, rest: bytes) -> None:
        """Take a request that offers another protocol (h2c, websocket) as plain HTTP/1.1 (RFC 9110, 7.8).

        httptools ends such a request after its head, so it is read again without the offer.
        """
        request, self.request = self.request, None
        if request is None or self._is_refused:
            return
        if request.method == "CONNECT":
            self._refuse(405, "The method is not allowed for the requested URL.")
            return
        kept = [field for field in request.fields if field[0].lower() not in ("upgrade", "connection")]
        head = f"{request.method} {request.target} HTTP/1.1\r\n".encode("latin-1") + header_block(kept)
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(head + b"\r\n" + rest)

    # -- httptools' callbacks ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self.request = HttpRequest()
        self._has_head, self._url = False, b""
        self._field_size, self._length, self._expects = 0, 0, False
        self.deadline = time.monotonic() + self.handler.read_timeout

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field."""
        if self.request is None:
            return
        self.request.fields.append((name.decode("latin-1"), value.decode("latin-1")))
        self._field_size += len(name) + len(value) + 4
        lower = name.lower()
        if lower == b"content-length":
            self._length = int(value) if value.isdigit() else 0
        elif lower == b"expect":
            self._expects = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        """The head is whole: refuse now what would be refused later."""
        request = self.request
        if request is None:
            return
        self._has_head = True
        self._head_size = 0
        request.method = self._parser.get_method().decode("latin-1")
        request.target = self._url.decode("latin-1")
        request.version = self._parser.get_http_version()
        if request.version not in ("1.0", "1.1"):
            self._refuse(400, f"HTTP/{request.version} is not spoken here, but HTTP/1.1 is")
        elif self._parser.should_upgrade():
            return
        elif self._field_size + len(self._url) > HEAD_LIMIT or len(request.fields) > FIELD_LIMIT:
            self._refuse(
                431, f"The request's header fields exceed {HEAD_LIMIT} bytes or {FIELD_LIMIT} in number"
            )
        elif self._length > self.handler.max_body:
            self._refuse(413, f"The request's body exceeds {self.handler.max_body} bytes")
        elif self._expects and request.version == "1.1":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        request = self.request
        if request is None or self._is_refused:
            return
        if request.size + len(body) > self.handler.max_body:
            self._refuse(413, f"The request's body exceeds {self.handler.max_body} bytes")
        elif not self.handler.reserve(len(body)):
            self._refuse(503, "The server holds as many request bodies as it can", ("Retry-After", "1"))
        else:
            request.size += len(body)
            request.parts.append(body)
            self.deadline = time.monotonic() + self.handler.read_timeout

    def on_message_complete(self) -> None:
        """The request is whole."""
        request = self.request
        if request is None or self._is_refused or self._parser.should_upgrade():
            return
        self.request = None
        self._has_head = False
        request.keep_alive = self._parser.should_keep_alive()
        request.body = b"".join(request.parts) if len(request.parts) != 1 else request.parts[0]
        request.parts = []
        request.received = time.perf_counter()
        if not self.is_full:
            self.deadline = None
        if self.current is None:
            self._start(request)
        else:
            self.waiting.append(request)
            self.transport.pause_reading()

    # -- answers -------------------------------------------------------------------------------------

    def _start(self, request: HttpRequest) -> None:
        self.current = request
        self.handler.handle(self, request)

    def respond(self, status: int, block: bytes, body: bytes, *, close: bool = False) -> None:
        """Send a whole answer to the current request; `block` is its header fields as `header_block` makes them."""
        request = self.current
        if request is None or self.is_closed:
            return
        head = answer_head(status, block, request, close=close)
        if status not in BODYLESS:
            head.append(b"content-length: %d\r\n" % len(body))
        head.append(b"\r\n")
        if request.method != "HEAD" and status not in BODYLESS:
            head.append(body)
        self.transport.write(b"".join(head))
        self.finish(close=close)

    def begin(self, status: int, block: bytes, *, close: bool = False) -> None:
        """Send the head of an answer whose length is not known."""
        request = self.current
        if request is None or self.is_closed:
            return
        self._has_body = request.method != "HEAD" and status not in BODYLESS
        self._is_chunked = request.version == "1.1"
        self._closes = close or not self._is_chunked
        head = answer_head(status, block, request, close=self._closes)
        if self._is_chunked and status not in BODYLESS:
            head.append(b"transfer-encoding: chunked\r\n")
        head.append(b"\r\n")
        self.transport.write(b"".join(head))

    def piece(self, data: bytes) -> None:
        """Send a piece of the body."""
        if self.is_closed or self.current is None or not self._has_body:
            return
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def end(self, *, failed: bool) -> None:
        """End a body that was sent in pieces; a failed one is cut off, so that the client notices."""
        if self.is_closed or self.current is None:
            return
        if failed:
            self.transport.abort()
            return
        if self._is_chunked and self._has_body:
            self.transport.write(b"0\r\n\r\n")
        self.finish(close=self._closes)

    def finish(self, *, close: bool) -> None:
        """The current answer is sent: take the next request, or close."""
        request, self.current = self.current, None
        self.is_running = False
        if request is not None:
            self._release(request)
            close = close or not request.keep_alive
        if self.is_closed:
            return
        if close:
            self.transport.close()
        elif self.waiting:
            self._start(self.waiting.popleft())
        else:
            self.transport.resume_reading()
            if not self.is_full:
                self.deadline = time.monotonic() + KEEP_ALIVE

    def _refuse(self, status: int, message: str, *fields: tuple[str, str]) -> None:
        """Answer a request that is not whole, and close; its rest is read and dropped for a while."""
        self._is_refused = True
        if self.current is not None:
            # An earlier request of this connection is still being served: its answer comes first, then the end.
            self.current.keep_alive = False
            return
        self.handler.refused(status)
        request = self.request or HttpRequest()
        self.request, self.current = None, request
        body = json.dumps({"message": message}).encode()
        block = header_block((("Content-Type", "application/json"), *fields))
        head = answer_head(status, block, request, close=True)
        self.transport.write(b"".join([*head, b"content-length: %d\r\n\r\n" % len(body), body]))
        self._release(request)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.deadline = time.monotonic() + _DISCARD_SECONDS

    def _release(self, request: HttpRequest) -> None:
        if request.size:
            self.handler.reserve(-request.size)
            request.size = 0

    def sweep(self, now: float) -> None:
        """Close the connection when its client is past its deadline."""
        if self.deadline is None or now <= self.deadline:
            return
        if self.is_full or self._is_refused:
            self.transport.abort()
        elif self.request is not None:
            self._refuse(408, "The request took too long to arrive")
        else:
            self.transport.close()
