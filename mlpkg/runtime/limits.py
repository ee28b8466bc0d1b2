"""What the server's numbers may be. The rules of package.toml (`mlpkg.spec.fields`) are made of these."""

from __future__ import annotations

from typing import Final, NamedTuple


class Range(NamedTuple):
    """The smallest and the largest whole number that is taken."""

    low: int
    high: int


PORT: Final = Range(1, 65535)

WORKERS: Final = Range(1, 1024)

TIMEOUT_MS: Final = Range(1, 10**12)
"""Milliseconds of one call of `run`, up to 31 years: beyond nine times that, Python's setitimer fails."""

MAX_BODY: Final = Range(1, 2**31)
"""Bytes of a request body; a frame to a worker holds less than twice as many."""

ORIGIN_PATTERN_MARKS: Final = "*\\]?$^[]()"
"""An allowed origin with one of these is a regular expression for the server, as for flask-cors."""
