"""When to try again, and how long to wait. Knows which failures pass by themselves; sends nothing itself."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TypeVar

from mlpkg.errors import MlpkgError, Unreachable

T = TypeVar("T")

BUDGET = 12
"""Failures in a row, over all steps and threads of one transport, after which nothing is tried again."""

FIRST_DELAY, LONGEST_DELAY = 0.3, 20.0
"""Seconds; the delay doubles in between."""

LONGEST_RETRY_AFTER = 120.0
"""Seconds. A server that asks for more is reported, not waited for."""

TEMPORARY = frozenset({408, 425, 429, 499, 500, 502, 503, 504, 522})
"""Answers that may be different the next time (RFC 9110; 499 and 522 come from proxies)."""


class Busy(MlpkgError):
    """An answer that may be different in a moment. `retry_after` is what the server asks us to wait, in seconds."""

    retry_after: float | None = None


class Overloaded(Unreachable, Busy):
    """A busy service without an error of its own kind."""


class Dropped(Unreachable):
    """A connection that worked was lost, or made no progress."""


class Stopped(MlpkgError):
    """All was given up; no message of its own, something else is the reason."""


def retry_after_seconds(value: str, now: float) -> float | None:
    """Seconds named by a Retry-After header: a number or a date (RFC 9110, 10.2.3). `now` is Unix time."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


class Backoff:
    """Repeats steps with growing, jittered delays, within a budget shared by all threads of one transport."""

    def __init__(self, stop: threading.Event, attempts: int) -> None:
        self._stop = stop
        self._attempts = attempts
        self._lock = threading.Lock()
        self._failures_in_a_row = 0

    def run(self, step: Callable[[], T]) -> T:
        """What `step` returns. It is repeated after Busy and Dropped, and must start from its own beginning.

        Raises the last failure, or Stopped when all was given up meanwhile.
        """
        failures = 0
        while True:
            self.check()
            try:
                result = step()
            except (Busy, Dropped) as error:
                failures += 1
                self.pause(failures, error)
            else:
                self.succeeded()
                return result

    def check(self) -> None:
        """Raise Stopped when all was given up."""
        if self._stop.is_set():
            raise Stopped("given up")

    def succeeded(self) -> None:
        """Note that the service works."""
        with self._lock:
            self._failures_in_a_row = 0

    def pause(self, failures: int, error: Busy | Dropped) -> None:
        """Wait before the next try of a step that failed `failures` times, or raise `error` when it was the last."""
        self.check()
        delay = self._delay(failures, error)
        if delay is None:
            raise error
        self._stop.wait(delay)
        self.check()

    def _delay(self, attempt: int, error: Busy | Dropped) -> float | None:
        with self._lock:
            self._failures_in_a_row += 1
            exhausted = self._failures_in_a_row >= BUDGET
        if exhausted or attempt >= self._attempts:
            return None
        delay: float = min(FIRST_DELAY * 2.0 ** (attempt - 1), LONGEST_DELAY)
        delay *= random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        asked = error.retry_after if isinstance(error, Busy) else None
        if asked is None:
            return delay
        return None if asked > LONGEST_RETRY_AFTER else max(asked, delay)
