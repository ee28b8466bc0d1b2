"""One scoring request between its connection and its worker: ids, headers, metrics, access line."""

from __future__ import annotations

import functools
import json
import time
from typing import TYPE_CHECKING, Final

from mlpkg.runtime.access import Entry
from mlpkg.runtime.contract import Identity
from mlpkg.runtime.cors import cors_headers
from mlpkg.runtime.message import header_block
from mlpkg.runtime.outputs import FAILED, SCRIPT_ERROR

if TYPE_CHECKING:
    from mlpkg.runtime.connection import Connection
    from mlpkg.runtime.front import Front
    from mlpkg.runtime.jobs import Source
    from mlpkg.runtime.message import HttpRequest

_OURS: Final = frozenset(
    ("content-length", "transfer-encoding", "connection", "keep-alive", "date", "upgrade", "trailer")
)
"""Fields that the connection sets itself; a script's own would contradict them."""
_IDS: Final = _OURS | {"x-request-id", "x-ms-request-id"}
"""With the ids, which replace a script's."""


class Exchange:
    """A `jobs.Job` for one request of one connection."""

    __slots__ = (
        "_sent",
        "_source",
        "body",
        "connection",
        "fields",
        "front",
        "head",
        "identity",
        "log_id",
        "request",
        "status",
    )

    def __init__(
        self,
        front: Front,
        connection: Connection,
        request: HttpRequest,
        fields: dict[str, str],
        identity: Identity,
    ) -> None:
        self.front = front
        self.connection = connection
        self.request = request
        self.fields = fields
        self.identity = identity
        self.body = request.body
        self.status = 0
        self._sent = 0
        self._source: Source | None = None
        self.log_id = identity.request_id.encode("ascii", "backslashreplace").decode("ascii")
        lines = [request.method, request.target, self._scheme(), connection.client, self.log_id]
        lines += [f"{name}: {value}" for name, value in request.fields]
        self.head = "\n".join(lines)

    def _scheme(self) -> str:
        """The scheme the client used, where a trusted proxy says so (gunicorn's rule and its three headers)."""
        fields = self.fields
        if "x-forwarded-proto" in fields or "x-forwarded-protocol" in fields or "x-forwarded-ssl" in fields:
            trusted = self.front.settings.trusted_proxies
            if "*" in trusted or self.connection.client in trusted:
                is_secure = (
                    fields.get("x-forwarded-proto") == "https"
                    or fields.get("x-forwarded-protocol") == "ssl"
                    or fields.get("x-forwarded-ssl") == "on"
                )
                return "https" if is_secure else "http"
        return "http"

    @property
    def is_abandoned(self) -> bool:
        """Whether the client is gone."""
        return self.connection.is_closed

    def contract_block(self) -> bytes:
        """The header fields that every answer of the contract's routes has."""
        settings = self.front.settings
        headers = self.identity.headers(self.front.version, self.fields.get("traceid"))
        if settings.cors_origins:
            headers += cors_headers(settings.cors_origins, self.request.method, self.fields)
        return header_block(headers)

    def begin(self) -> None:
        """A worker has taken the request."""
        self.connection.is_running = True

    def answer(self, head: str, body: bytes) -> None:
        """The worker has answered."""
        status, elapsed, outcome, block = self._parsed(head)
        self._sent = len(body)
        self.connection.respond(status, block, body, close=self.front.is_draining)
        self._observe(status, elapsed, outcome)
        self._log(status)

    def refuse(
        self, status: int, message: str, outcome: str, *extra: tuple[str, str], failed: bool = False
    ) -> None:
        """Answer with an error of the front's own."""
        body = json.dumps({"message": message}).encode()
        block = header_block([("Content-Type", "application/json"), (FAILED, str(failed)), *extra])
        self._sent = len(body)
        self.connection.respond(status, block + self.contract_block(), body, close=self.front.is_draining)
        self._observe(status, "", outcome)
        self._log(status)

    def stream(self, head: str, source: Source) -> None:
        """The worker has begun to answer."""
        status, elapsed, outcome, block = self._parsed(head)
        self._source = source
        self.status = status
        self.connection.begin(status, block, close=self.front.is_draining)
        self._observe(status, elapsed, outcome)

    def chunk(self, data: bytes) -> None:
        """A piece of the body. A client that does not keep up holds its worker back, not the front's memory."""
        self._sent += len(data)
        connection, source = self.connection, self._source
        connection.piece(data)
        if connection.is_full and not connection.is_closed and source is not None:
            source.hold()
            connection.on_resume = source.resume

    def end(self, *, failed: bool) -> None:
        """The body is complete, or will never be."""
        self.connection.end(failed=failed)
        if failed:
            self.front.metrics.fail("stream")
        self._log(self.status)

    def lost(self, reason: str) -> None:
        """There will be no answer from a worker."""
        if self.status:
            self.end(failed=True)
        elif reason == "timeout":
            message = f"Scoring timeout after {self.front.settings.timeout_ms} ms"
            self.refuse(500, message, reason, failed=True)
        elif reason == "stopped":
            self.refuse(503, "The server is stopping", "draining", ("Retry-After", "1"))
        else:
            self.refuse(500, SCRIPT_ERROR, reason, failed=True)

    def _parsed(self, head: str) -> tuple[int, str, str, bytes]:
        """An answer's head: status, milliseconds of run, outcome, header fields with the contract's."""
        status_text, elapsed, outcome, lines = head.split("\n", 3)
        status = int(status_text)
        if not 200 <= status <= 999:
            # HTTP has no such final status (RFC 9110, 15); a client would wait for ever.
            status, outcome = 500, "error"
        identity = self.identity
        script = script_block(lines, bool(identity.client_id))
        timing = b"x-ms-run-fn-exec-ms: %b\r\n" % elapsed.encode() if elapsed else b""
        return status, elapsed, outcome, b"".join((script, timing, self.contract_block()))

    def _observe(self, status: int, elapsed: str, outcome: str) -> None:
        metrics = self.front.metrics
        metrics.count("/score", status)
        metrics.observe(time.perf_counter() - self.request.received, elapsed)
        if outcome != "ok":
            metrics.fail(outcome)

    def _log(self, status: int) -> None:
        if self.front.access is not None:
            milliseconds = (time.perf_counter() - self.request.received) * 1000
            request = self.request
            self.front.access.line(
                Entry(request.method, request.target, status, milliseconds, self._sent, self.log_id)
            )


@functools.lru_cache(maxsize=256)
def script_block(lines: str, has_client_id: bool) -> bytes:  # noqa: FBT001 - a key of the cache
    """The script's own header fields, without those that the connection or the contract sets."""
    taken = _IDS | {"x-ms-client-request-id"} if has_client_id else _IDS
    fields = [line.partition(": ")[::2] for line in lines.split("\n") if line]
    return header_block([(name, value) for name, value in fields if name.lower() not in taken])
