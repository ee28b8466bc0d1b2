"""The access log: one line per scoring request, written by a thread so that a blocked pipe never delays an answer."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from queue import SimpleQueue
from typing import Final, NamedTuple

from mlpkg.runtime.logs import LOGGER

_INTERVAL: Final = 0.05
"""Seconds that lines are gathered for one write."""
_BACKLOG: Final = 100_000
"""Lines held while the reader of the log does not keep up; further ones are dropped and counted."""


class Entry(NamedTuple):
    """One request: its duration in the server, waiting included, and its answer's size in bytes."""

    method: str
    target: str
    status: int
    milliseconds: float
    size: int
    request_id: str

    def __str__(self) -> str:
        target = self.target
        if not target.isascii():
            target = target.encode("ascii", "backslashreplace").decode("ascii")
        return f"{self.method} {target} {self.status} {self.milliseconds:.3f}ms {self.size}"


class AccessLog:
    """Gathers lines on the event loop's thread and writes them on its own."""

    def __init__(self, log_format: str) -> None:
        self._is_json = log_format == "json"
        self._lines: list[str] = []
        self._noted = 0
        self._written = 0
        self._dropped = 0
        self._queue: SimpleQueue[list[str] | None] = SimpleQueue()
        self._pid = os.getpid()
        self._second = 0
        self._stamp = ""
        self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._thread.start()

    def line(self, entry: Entry) -> None:
        """Note one request."""
        if self._noted - self._written >= _BACKLOG:
            self._dropped += 1
            return
        now = time.time()
        text = self._text(now, str(entry), entry.request_id)
        if not self._lines:
            asyncio.get_running_loop().call_later(_INTERVAL, self.flush)
        self._lines.append(text)
        self._noted += 1

    def _text(self, now: float, message: str, request_id: str) -> str:
        second = int(now)
        if second != self._second:
            self._second = second
            separator = "T" if self._is_json else " "
            self._stamp = time.strftime(f"%Y-%m-%d{separator}%H:%M:%S", time.gmtime(second))
        milliseconds = int((now - second) * 1000)
        if not self._is_json:
            tail = f" request_id={request_id}" if request_id else ""
            return f"{self._stamp},{milliseconds:03d} I [{self._pid}] azmlinfsrv - {message}{tail}\n"
        record = {
            "time": f"{self._stamp}.{milliseconds:03d}Z",
            "level": "INFO",
            "pid": self._pid,
            "logger": "azmlinfsrv",
            "message": message,
            "request_id": request_id,
        }
        return json.dumps(record) + "\n"

    def flush(self) -> None:
        """Hand the lines to the writing thread."""
        if self._dropped and self._noted - self._written < _BACKLOG:
            self._lines.append(self._text(time.time(), f"{self._dropped} access lines were dropped", ""))
            self._noted += 1
            self._dropped = 0
        if self._lines:
            self._queue.put(self._lines)
            self._lines = []

    def _write(self) -> None:
        while (lines := self._queue.get()) is not None:
            try:
                sys.stdout.write("".join(lines))
                sys.stdout.flush()
            except (OSError, ValueError):
                pass  # nobody reads the log any more; serving goes on
            self._written += len(lines)

    def close(self) -> None:
        """Write what is left, waiting at most a second for a reader."""
        self.flush()
        self._queue.put(None)
        self._thread.join(1.0)


class ForwardedAccessLog:
    """Access lines through the logger, where a logging.json of the user's has set that up."""

    def line(self, entry: Entry) -> None:
        """Note one request, as `AccessLog.line` does."""
        LOGGER.info("%s", entry, extra={"request_id": entry.request_id})

    def close(self) -> None:
        """Nothing waits here."""
