"""What a person sees while a step works: notes, and bars for long transfers. Always on stderr.

A bar needs a terminal; without one, long work says a plain line every few seconds.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BAR_FROM = 8 * 1024 * 1024
"""Bytes below which a transfer is over before a bar would be read."""

LINE_EVERY = 5.0
"""Seconds between plain lines."""

Notify = Callable[[str], None]
"""Takes one line for people."""

_quiet = False


def set_quiet(*, quiet: bool) -> None:
    """Say nothing but errors from now on."""
    global _quiet  # noqa: PLW0603 - one switch of the process, set once by the command line
    _quiet = quiet


def note(text: str) -> None:
    """One line for people."""
    if not _quiet:
        sys.stderr.write(f"     {text}\n")
        sys.stderr.flush()


@contextmanager
def transfer(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar over `total` bytes; the value given is called with the bytes that were moved since."""
    if _quiet or total < BAR_FROM:
        yield lambda _: None
    elif sys.stderr.isatty() and multiprocessing.parent_process() is None:
        with _bar(title, total) as advance:
            yield advance
    else:
        yield _Lines(title, total).advance


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("     {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)


class _Lines:
    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.moved = title, total, 0
        self.said_at = time.monotonic()

    def advance(self, count: int) -> None:
        self.moved += count
        now = time.monotonic()
        if now - self.said_at >= LINE_EVERY:
            self.said_at = now
            note(f"{self.title}: {size_text(self.moved)} of {size_text(self.total)}")


def size_text(size: float) -> str:
    """Bytes for people, in powers of 1000 as registries and disks count them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError
