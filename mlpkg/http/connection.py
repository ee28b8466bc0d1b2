"""Connections under the transport: they measure progress and notice an answer that comes before the body's end.

urllib3 gives pooling, TLS and HTTP framing. Added here is only what a long upload needs: a time-out that
counts from the last byte moved, and the early answer (401, 413) of a server that will not read the rest.
"""

from __future__ import annotations

import errno
import select
import socket
import ssl
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

if TYPE_CHECKING:
    from urllib3._base_connection import BaseHTTPConnection, BaseHTTPSConnection


class _Watched(HTTPConnection):
    """A connection whose `send` needs progress, not an end, and stops when the answer is already there."""

    is_truncated = False
    progress_timeout = 60.0

    def send(self, data: Any) -> None:
        """Send all of `data`. Raises BrokenPipeError when the peer will not take it; its answer may be readable."""
        if self.sock is None:
            self.connect()
        sock = self.sock
        assert sock is not None  # noqa: S101 - connect() either sets it or raises
        try:
            _check_unanswered(sock)
            if sock.gettimeout() != self.progress_timeout:
                sock.settimeout(self.progress_timeout)
            view = memoryview(data)
            while view:
                view = view[sock.send(view) :]
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError) as error:
            # urllib3 reads the answer after EPIPE; a reset or a TLS end while sending deserves the same.
            self.is_truncated = True
            raise BrokenPipeError(errno.EPIPE, "the peer stopped reading") from error

    def close(self) -> None:
        """Close the socket; the object may connect again."""
        self.is_truncated = False
        super().close()

    @property
    def is_connected(self) -> bool:
        """Whether the next request may use this connection. Half a request on it means no."""
        return not self.is_truncated and super().is_connected


class _WatchedTls(_Watched, HTTPSConnection):
    """The same over TLS."""


def _check_unanswered(sock: socket.socket) -> None:
    """Raise BrokenPipeError when bytes (or the end) came in while we send.

    Plain sockets only: what comes in under TLS may be a session ticket.
    """
    if isinstance(sock, ssl.SSLSocket):
        return
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    # 1xx is no answer; a proxy may send 100 Continue without being asked (RFC 9110, 15.2).
    if poll.poll(0) and not sock.recv(16, socket.MSG_PEEK).startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")):
        raise BrokenPipeError(errno.EPIPE, "answered before the end of the request")


class Pool(HTTPConnectionPool):
    """Connections to one http origin. `live` receives each of them, to be cut when the user interrupts."""

    ConnectionCls: type[BaseHTTPConnection] = _Watched
    live: WeakSet[HTTPConnection] | None = None
    progress_timeout = _Watched.progress_timeout

    def _new_conn(self) -> Any:
        connection: Any = super()._new_conn()
        connection.progress_timeout = self.progress_timeout
        if self.live is not None:
            self.live.add(connection)
        return connection


class TlsPool(Pool, HTTPSConnectionPool):
    """Connections to one https origin."""

    ConnectionCls: type[BaseHTTPSConnection] = _WatchedTls  # type: ignore[mutable-override] # as in urllib3

    def _validate_conn(self, conn: BaseHTTPConnection) -> None:
        """Connect early, as urllib3 does; without its warning about hosts that the user named as insecure."""
        if conn.is_closed:
            conn.connect()


def cut(connection: HTTPConnection) -> None:
    """End a connection that another thread may be using: its blocked call returns at once."""
    sock = connection.sock
    if sock is None:
        return
    try:
        # Not SSLSocket.shutdown: it drops the TLS state first, and the other thread would send in clear.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return
