"""One client connection: HTTP/1.1 requests in, answers out. It knows no route.

Everything a client can do wrong in HTTP itself ends here: broken syntax, too long, too big, too slow. What a client
sends is bounded before it is kept: one read, one head or one line beyond the request that is being answered.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from typing import Final, Protocol

from mlpkg.runtime.bodies import ChunkedBody, SizedBody
from mlpkg.runtime.crowd import State
from mlpkg.runtime.heads import head_end, parse_head
from mlpkg.runtime.message import BODYLESS, HttpRequest, Refusal, answer_head, header_block

KEEP_ALIVE: Final = 75.0
"""Seconds that an idle connection is kept."""
SLOWEST: Final = 1024
"""Bytes per second that a body has to come in with, after the read timeout that every request has; below: 408."""
_DISCARD_SECONDS: Final = 5.0
"""How long the rest of a refused request is read, so that the client gets to see its answer."""
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)+")
"""What a server ignores before a request (RFC 9112, 2.2)."""
_IDLE: Final = State.IDLE
_BUSY: Final = State.BUSY
_REFUSED: Final = State.REFUSED
_INCOMING: Final = memoryview(bytearray(64 * 1024))
"""Where the loop puts what it reads, for all connections: each takes its bytes out before the next read."""


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


class Connection(asyncio.BufferedProtocol):
    """Requests of one connection are read and answered one at a time and in order, pipelined ones too."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.transport: asyncio.Transport
        self.client = ""
        self.state = _IDLE
        self.since = time.monotonic()
        self.is_guest = False
        self.request: HttpRequest | None = None
        self.current: HttpRequest | None = None
        self.is_closed = False
        self.is_full = False
        self.is_running = False
        self.on_resume: Callable[[], None] | None = None
        self.deadline: float | None = self.since + KEEP_ALIVE
        self._unread = b""
        self._searched = 0
        self._begun = 0.0
        self._body: SizedBody | ChunkedBody = SizedBody(0)
        self._is_reading = True
        self._is_taking = False
        self._is_chunked = False
        self._has_body = True
        self._closes = False

    # -- asyncio.BufferedProtocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self.transport = transport
        peer = transport.get_extra_info("peername")
        self.client = peer[0] if isinstance(peer, tuple) else ""
        if not self.handler.opened(self):
            self._send_refusal(Refusal(503, "Too many connections", ("Retry-After", "1")))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        del exc
        self.is_closed = True
        for request in (self.request, self.current):
            if request is not None:
                self._release(request)
        self.request = self.current = None
        self._unread = b""
        self._resume()
        self.handler.closed(self)

    def eof_received(self) -> bool:
        """A client may close its sending side and still wait for its answer; most that do so are gone.

        So a request that a worker has begun is answered, and one that waits for a worker is dropped.
        """
        if self.current is None or not self.is_running:
            return False
        self.current.keep_alive = False
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
        self._take_requests()

    def _resume(self) -> None:
        if self.on_resume is not None:
            resume, self.on_resume = self.on_resume, None
            resume()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        del sizehint
        return _INCOMING

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes from the client."""
        if self.state is _REFUSED:
            return
        data = bytes(_INCOMING[:nbytes])
        self._unread = self._unread + data if self._unread else data
        self._take_requests()

    # -- requests --------------------------------------------------------------------------------------

    def _take_requests(self) -> None:
        """Read what has come, one request at a time, while the client takes its answers.

        The rest waits unread, and so does the client.
        """
        if self._is_taking:
            return  # a request was answered at once: the loop below goes on with the next
        self._is_taking = True
        at, end = -1, 0
        try:
            while end > at and self._may_take(end):
                at, end = end, self._take(end)
            self._unread = self._unread[end:]
        except Refusal as refusal:
            self._refuse(refusal)
        finally:
            self._is_taking = False
        may_read = not self._unread or (self.current is None and not self.is_full)
        if may_read != self._is_reading:
            self._is_reading = may_read
            (self.transport.resume_reading if may_read else self.transport.pause_reading)()

    def _may_take(self, at: int) -> bool:
        if at >= len(self._unread) or self.current is not None or self.is_full:
            return False
        return not self.transport.is_closing()

    def _take(self, at: int) -> int:
        """Take a request, or what there is of it, from `at` on; return where the rest begins. Raises Refusal."""
        data = self._unread
        if self.request is None:
            if data[at] == 13:
                match = _EMPTY_LINES.match(data, at)
                at = match.end() if match else at
                if data[at:] in (b"", b"\r"):
                    return at
            end = head_end(data, at, at + self._searched)
            if not end:
                self._receiving(len(data) - at)
                return at
            self.request = request = parse_head(data[at:end])
            self._searched = 0
            at = end + request.length
            if at <= len(data) and not request.is_chunked:
                if request.length:
                    self._keep(data[end:at])
                self._complete(request)
                return at
            at = end
            self._expect_body(request, has_more=end < len(data))
        at = self._body.read(data, at, self._keep)
        if self._body.is_whole:
            self._complete(self.request)
        else:
            self._receiving(0)
        return at

    def _receiving(self, searched: int) -> None:
        """The request is not whole yet: it has until its deadline for the next bytes, and for all of them."""
        now, timeout = time.monotonic(), self.handler.read_timeout
        self._searched = searched
        if self.state is not State.RECEIVING:
            self._begun = now
            self.state = State.RECEIVING
        size = self.request.size if self.request is not None else 0
        self.deadline = min(now, self._begun + size / SLOWEST) + timeout

    def _expect_body(self, request: HttpRequest, *, has_more: bool) -> None:
        """The head is whole, the body is not: refuse now what would be refused later."""
        limit = self.handler.max_body
        if request.length > limit:
            raise Refusal(413, f"The request's body exceeds {limit} bytes")
        self._body = ChunkedBody(limit) if request.is_chunked else SizedBody(request.length)
        expects = request.version == "1.1" and request.merged.get("expect", "").lower() == "100-continue"
        if expects and not has_more:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _keep(self, piece: bytes) -> None:
        """Hold a piece of the body. Raises Refusal where there is no room for it."""
        request, limit = self.request, self.handler.max_body
        assert request is not None  # noqa: S101
        if request.size + len(piece) > limit:
            raise Refusal(413, f"The request's body exceeds {limit} bytes")
        if not self.handler.reserve(len(piece)):
            raise Refusal(503, "The server holds as many request bodies as it can", ("Retry-After", "1"))
        request.add(piece)

    def _complete(self, request: HttpRequest) -> None:
        """The request is whole."""
        request.complete()
        self.request, self.current = None, request
        self.state, self.deadline = _BUSY, None
        self.handler.handle(self, request)

    # -- answers -------------------------------------------------------------------------------------

    def respond(self, status: int, block: bytes, body: bytes, *, close: bool = False) -> None:
        """Send a whole answer to the current request; `block` is its header fields as `header_block` makes them."""
        request = self.current
        if request is None or self.is_closed:
            return
        close = close or self.is_guest
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
        self.state = _IDLE
        self.since = time.monotonic()
        if close:
            self.transport.close()
            return
        if not self.is_full:
            self.deadline = self.since + KEEP_ALIVE
        self._take_requests()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer a request that is not whole, and close; its rest is read and dropped for a while."""
        self._send_refusal(refusal)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.deadline = time.monotonic() + _DISCARD_SECONDS
        self.state = State.REFUSED

    def _send_refusal(self, refusal: Refusal) -> None:
        self.handler.refused(refusal.status)
        request, self.request = self.request or HttpRequest(), None
        body = json.dumps({"message": refusal.message}).encode()
        block = header_block((("Content-Type", "application/json"), *refusal.fields))
        head = answer_head(refusal.status, block, request, close=True)
        self.transport.write(b"".join([*head, b"content-length: %d\r\n\r\n" % len(body), body]))
        self._release(request)
        self._unread = b""

    def _release(self, request: HttpRequest) -> None:
        if request.size:
            self.handler.reserve(-request.size)
            request.size = 0

    def sweep(self, now: float) -> None:
        """Close the connection when its client is past its deadline."""
        if self.deadline is None or now <= self.deadline:
            return
        if self.is_full or self.state is State.REFUSED:
            self.transport.abort()
        elif self.state is State.RECEIVING:
            self._refuse(Refusal(408, "The request took too long to arrive"))
        else:
            self.transport.close()

    def evict(self) -> None:
        """Close at once: another client needs the room."""
        if self.state is State.RECEIVING:
            self._send_refusal(Refusal(503, "Too many connections", ("Retry-After", "1")))
        self.transport.abort()
