"""The front: listens, routes, queues and drains. It runs no user code, so it answers whatever the script does."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from mlpkg.runtime import contract
from mlpkg.runtime.access import AccessLog, ForwardedAccessLog
from mlpkg.runtime.connection import Connection
from mlpkg.runtime.crowd import Crowd, State, claim_descriptors
from mlpkg.runtime.exchange import Exchange
from mlpkg.runtime.front import Front
from mlpkg.runtime.logs import LOGGER
from mlpkg.runtime.message import HttpRequest, header_block
from mlpkg.runtime.metrics import Metrics
from mlpkg.runtime.outputs import FAILED
from mlpkg.runtime.pool import Pool
from mlpkg.runtime.process import Process
from mlpkg.runtime.settings import Settings

BOOT_FAILURE: Final = 3
INTERRUPTED: Final = 130
_SWEEP: Final = 0.25
"""Seconds between looks at what is past its deadline."""
_ACCEPTS: Final = 16
"""Connections accepted in a row: in a flood, what they have sent must be read before others take their place."""
_BACKLOG: Final = 1024
"""Connections that the kernel keeps until they are accepted."""
_BODIES: Final = 4
"""Request bodies of the largest size that may be held at the same time."""
_JSON: Final = ("Content-Type", "application/json")
_PLAIN: Final = header_block((("Content-Type", "text/plain; charset=utf-8"),))
_EXPOSITION: Final = header_block((("Content-Type", "text/plain; version=0.0.4; charset=utf-8"),))
_HTML: Final = ("Content-Type", "text/html; charset=utf-8")


class ListenError(Exception):
    """The port cannot be had."""


class Server:
    """One listening server and its workers; `run` is its whole life."""

    def __init__(self, settings: Settings, *, has_logging: bool, started: float) -> None:
        self.settings = settings
        self.max_body = settings.max_body
        self.read_timeout = settings.read_timeout or 1e9
        self.metrics = Metrics()
        self.front = Front(settings, self.metrics)
        self._has_logging = has_logging
        self.was_ready = False
        self.exit_code = 0
        self.crowd: Crowd[Connection] = Crowd(claim_descriptors(settings.max_connections))
        self.documents: dict[str, Any] = {}
        self._held = 0
        self._started = started
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.pool = Pool(
            settings, on_ready=self._ready, on_boot_failure=self._boot_failure, on_restart=self._restarted
        )

    # -- life ----------------------------------------------------------------------------------------

    async def run(self, children: Sequence[Process]) -> int:
        """Serve until SIGTERM or SIGINT, or until a worker cannot start. Return the exit code.

        Raises ListenError when the port cannot be had.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._terminate, number)
        if self.settings.access_log:
            self.front.access = (
                ForwardedAccessLog() if self._has_logging else AccessLog(self.settings.log_format)
            )
        listeners: list[asyncio.AbstractServer] = []
        try:
            await self.pool.start(children)
            for port in self._ports():
                listeners.append(await self._listen(port))
            LOGGER.info("Listening at: http://%s:%d", self.settings.host, self.settings.port)
            sweeper = asyncio.ensure_future(self._sweep())
            await self._stop.wait()
            await self._drain()
            sweeper.cancel()
        finally:
            for listener in listeners:
                listener.close()
            await self.pool.close()
            await self._close_connections()
            if self.front.access is not None:
                self.front.access.close()
        return self.exit_code

    async def _listen(self, port: int) -> asyncio.AbstractServer:
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                lambda: Connection(self), self.settings.host, port, backlog=_ACCEPTS
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise ListenError(f"Cannot listen at {self.settings.host}:{port}: {reason}") from error
        for listener in server.sockets:
            with listener.dup() as same:  # asyncio's own limit is that of its accepts too
                same.listen(_BACKLOG)
        return server

    async def _close_connections(self) -> None:
        """Close what is open; answers that are written have a second to leave."""
        patience = time.monotonic() + 1.0
        for connection in self.crowd.members():
            connection.transport.close()
        while len(self.crowd) and time.monotonic() < patience:  # noqa: ASYNC110 - bounded, at the very end
            await asyncio.sleep(0.01)

    def _ports(self) -> list[int]:
        health = self.settings.health_port
        extra = [health] if self.settings.separate_health and health != self.settings.port else []
        return [self.settings.port, *extra]

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            now = time.monotonic()
            self.pool.sweep(now)
            for connection in self.crowd.members():
                connection.sweep(now)

    async def _drain(self) -> None:
        """Finish what is in flight, for at most the grace period; probes are still answered."""
        self.front.is_draining = True
        for connection in self.crowd.members(State.IDLE):
            connection.transport.close()
        patience = time.monotonic() + self.settings.grace
        while time.monotonic() < patience and not self._stop_now.is_set():
            if self.pool.is_idle and not self.crowd.members(State.BUSY):
                return
            await asyncio.sleep(0.02)
        LOGGER.warning("Stopped with %d requests in flight", self.pool.in_flight + self.pool.waiting)

    def _terminate(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            self._stop_now.set()
        count = self.pool.in_flight + self.pool.waiting
        LOGGER.info("%s: finishing %d requests", signal.Signals(number).name, count)
        self.front.is_draining = True
        if number == signal.SIGINT and not self._stop.is_set():
            self.exit_code = INTERRUPTED
        self._stop.set()

    def _reap(self) -> None:
        task = asyncio.ensure_future(self.pool.reap())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _ready(self, seconds: float, documents: bytes) -> None:
        self.metrics.init_seconds = seconds
        if not self.was_ready:
            self.was_ready = True
            self.metrics.ready_seconds = time.monotonic() - self._started
            self.documents = json.loads(documents)

    def _boot_failure(self) -> None:
        LOGGER.error("The entry script cannot be served: stopping with exit code %d", BOOT_FAILURE)
        self.exit_code = BOOT_FAILURE
        self._stop.set()
        if not self.pool.ready:
            self._stop_now.set()

    def _restarted(self) -> None:
        self.metrics.restarts += 1

    # -- connection.Handler ----------------------------------------------------------------------------

    def opened(self, connection: Connection) -> bool:
        """A client has connected."""
        return self.crowd.admit(connection)

    def closed(self, connection: Connection) -> None:
        """A client is gone."""
        self.crowd.leave(connection)

    def refused(self, status: int) -> None:
        """A request was refused before it was whole."""
        self.metrics.count("refused", status)

    def reserve(self, size: int) -> bool:
        """Keep the account of the request bodies held."""
        if size > 0 and self._held + size > _BODIES * max(self.max_body, 2**20):
            return False
        self._held += size
        return True

    def handle(self, connection: Connection, request: HttpRequest) -> None:
        """Route one request."""
        path = request.target.partition("?")[0]
        if not path.startswith("/"):
            path = urlsplit(request.target).path or "/"
        elif path.startswith("//"):
            path = "/" + path.lstrip("/")
        if "%" in path:
            path = unquote(path)
        request.path = path
        route, methods = _ROUTES.get(path, (None, ()))
        if route is None:
            self._message(connection, path, 404, contract.NOT_FOUND)
        elif request.method not in methods:
            self._message(connection, path, 405, contract.NOT_ALLOWED)
        else:
            route(self, connection, request)

    # -- routes ----------------------------------------------------------------------------------------

    def _score(self, connection: Connection, request: HttpRequest) -> None:
        fields = request.merged
        exchange = Exchange(self.front, connection, request, fields, contract.identify(fields))
        if exchange.identity.refusal:
            exchange.refuse(431, exchange.identity.refusal, "input")
        elif self.front.is_draining:
            exchange.refuse(503, "The server is stopping", "draining", ("Retry-After", "1"))
        elif connection.is_guest:
            exchange.refuse(503, "Too many connections", "overload", ("Retry-After", "1"))
        elif not self.pool.submit(exchange):
            exchange.refuse(503, "Too many requests are waiting", "overload", ("Retry-After", "1"))

    def _healthy(self, connection: Connection, request: HttpRequest) -> None:
        if self.was_ready:
            self._plain(connection, request, 200, _HTML, b"Healthy")
        else:
            self._plain(connection, request, 503, _JSON, b'{"message": "The server is starting"}')

    def _swagger(self, connection: Connection, request: HttpRequest) -> None:
        query = dict(reversed(parse_qsl(request.target.partition("?")[2], keep_blank_values=True)))
        status, document = contract.swagger_answer(self.documents, query.get("version", "2"))
        if not self.was_ready:
            status, document = 503, {"message": "The server is starting"}
        self._plain(connection, request, status, _JSON, json.dumps(document).encode())

    def _plain(
        self, connection: Connection, request: HttpRequest, status: int, kind: tuple[str, str], body: bytes
    ) -> None:
        """Answer one of Azure's routes that needs no worker."""
        fields = request.merged
        identity = contract.identify(fields)
        headers = [kind]
        if identity.refusal:
            status, headers, body = 431, [_JSON], json.dumps({"message": identity.refusal}).encode()
        elif request.method == "OPTIONS":
            headers, body = [_HTML, ("Allow", "GET, HEAD, OPTIONS")], b""
        if headers[0] == _JSON:
            headers.append((FAILED, "False"))
        exchange = Exchange(self.front, connection, request, fields, identity)
        self.metrics.count(request.path, status)
        connection.respond(
            status, header_block(headers) + exchange.contract_block(), body, close=self.front.is_draining
        )

    def _livez(self, connection: Connection, _request: HttpRequest) -> None:
        self.metrics.count("/livez", 200)
        connection.respond(200, _PLAIN, b"alive\n", close=self.front.is_draining)

    def _readyz(self, connection: Connection, _request: HttpRequest) -> None:
        is_ready = not self.front.is_draining and self.pool.ready > 0
        status = 200 if is_ready else 503
        text = b"ready\n" if is_ready else b"draining\n" if self.front.is_draining else b"starting\n"
        self.metrics.count("/readyz", status)
        connection.respond(status, _PLAIN, text, close=self.front.is_draining)

    def _metrics(self, connection: Connection, _request: HttpRequest) -> None:
        gauges = {
            "mlpkg_in_flight": ("Scoring requests that a worker is serving.", self.pool.in_flight),
            "mlpkg_queue_length": ("Scoring requests that wait for a worker.", self.pool.waiting),
            "mlpkg_workers_ready": ("Workers whose init is done.", self.pool.ready),
            "mlpkg_connections": ("Open connections.", len(self.crowd)),
            "mlpkg_body_bytes": ("Request bodies held, in bytes.", self._held),
        }
        self.metrics.evicted = self.crowd.evicted
        text = self.metrics.exposition({name: (what, float(value)) for name, (what, value) in gauges.items()})
        connection.respond(200, _EXPOSITION, text.encode(), close=self.front.is_draining)

    def _message(self, connection: Connection, path: str, status: int, message: str) -> None:
        """An error outside the contract's routes: no ids, as with Azure's server."""
        self.metrics.count(path if path in _ROUTES else "other", status)
        body = json.dumps({"message": message}).encode()
        connection.respond(
            status, header_block((_JSON, (FAILED, "False"))), body, close=self.front.is_draining
        )


_READ: Final = ("GET", "HEAD")
_ROUTES: Final[dict[str, tuple[Callable[[Server, Connection, HttpRequest], None], Sequence[str]]]] = {
    "/score": (Server._score, ("GET", "HEAD", "POST", "OPTIONS")),  # noqa: SLF001
    "/": (Server._healthy, (*_READ, "OPTIONS")),  # noqa: SLF001
    "/swagger.json": (Server._swagger, (*_READ, "OPTIONS")),  # noqa: SLF001
    "/livez": (Server._livez, _READ),  # noqa: SLF001
    "/readyz": (Server._readyz, _READ),  # noqa: SLF001
    "/metrics": (Server._metrics, _READ),  # noqa: SLF001
}
