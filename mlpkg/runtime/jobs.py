"""What stands between the HTTP side and the workers: a request on its way, and the flow of a streamed answer."""

from __future__ import annotations

from typing import Protocol


class Source(Protocol):
    """Where a streamed answer comes from; its reader may hold it back."""

    def hold(self) -> None:
        """Send no more for now."""

    def resume(self) -> None:
        """Go on."""


class Job(Protocol):
    """A request on its way through a worker; the pool calls exactly one of answer, (stream, chunks, end) or lost."""

    @property
    def head(self) -> str:
        """The request's head, as `frames` has it."""

    @property
    def body(self) -> bytes:
        """The request's body."""

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for the answer any more."""

    def begin(self) -> None:
        """A worker has taken the request."""

    def answer(self, head: str, body: bytes) -> None:
        """A whole answer has come."""

    def stream(self, head: str, source: Source) -> None:
        """An answer has begun; its body follows."""

    def chunk(self, data: bytes) -> None:
        """A piece of the body."""

    def end(self, *, failed: bool) -> None:
        """The body's end."""

    def lost(self, reason: str) -> None:
        """There will be no answer: the worker ``died``, was killed at its ``timeout``, or the server ``stopped``."""
