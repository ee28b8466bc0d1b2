"""Blobs on their way: what they are, and the check that they are what was named. Loads no HTTP client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mlpkg.digest import Descriptor, verified
from mlpkg.errors import ChangedInput, MlpkgError
from mlpkg.http.retry import Stopped

SMALL_PIECE = 64 << 10
"""Bytes. Pieces below this are joined: a layer of many small files must not become many small packets."""

DAMAGED = "what it is made from changed, or it is damaged where it lies: run the step again"
"""What to do about a blob whose bytes are not those that were named."""

JOINED_PIECE = 256 << 10
"""Bytes of joined small pieces that are sent at once."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob by descriptor, and the way to its bytes.

    `open` gives a fresh iterator at each call (an upload may have to start over); its pieces are immutable
    and non-empty, best 1 MiB each. It may raise MlpkgError (ChangedInput, …) or OSError.
    """

    descriptor: Descriptor
    open: Callable[[], Iterator[bytes]]


class SourceFailed(Exception):
    """The blob's own bytes failed, not the connection; `Feed.error` says how."""


class Feed:
    """The body of an upload: the blob's bytes, verified and counted while they are sent.

    The last piece leaves only when size and digest are right, so a wrong blob can never be committed.
    A resource: `with contextlib.closing(Feed(…)) as feed:`.
    """

    def __init__(self, blob: Blob, stop: threading.Event, progress: Callable[[int], None] | None) -> None:
        self._blob = blob
        self._stop = stop
        self._progress = progress
        self._pieces: Iterator[bytes] = iter(())
        self._reported = 0
        self.error: MlpkgError | None = None
        self.is_complete = False

    def start(self) -> Iterator[bytes]:
        """The bytes from the beginning; what an earlier start had reported is taken back (a negative delta)."""
        self.close()
        if self._reported and self._progress:
            self._progress(-self._reported)
        self._reported = 0
        self._pieces = self._guarded()
        return self._pieces

    def close(self) -> None:
        """Close the files behind the bytes."""
        close = getattr(self._pieces, "close", None)
        if close:
            close()

    def _guarded(self) -> Iterator[bytes]:
        self.is_complete = False
        descriptor = self._blob.descriptor
        source: Iterator[bytes] = iter(())
        try:
            source = self._blob.open()
            for piece in verified(joined(source), descriptor.digest, descriptor.size, hint=DAMAGED):
                if self._stop.is_set():
                    raise Stopped("given up")
                yield piece
                # Asked for the next one: this one has left.
                self._reported += len(piece)
                if self._progress:
                    self._progress(len(piece))
        except MlpkgError as error:
            self.error = error
            raise SourceFailed from error
        except OSError as error:
            self.error = ChangedInput(f"{descriptor.digest}: its bytes cannot be read: {error}")
            raise SourceFailed from error
        finally:
            close = getattr(source, "close", None)
            if close:
                close()
        self.is_complete = True


def joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes with runs of small pieces made one; big pieces pass uncopied."""
    small: list[bytes] = []
    size = 0
    for piece in pieces:
        if len(piece) < SMALL_PIECE:
            small.append(piece)
            size += len(piece)
            if size < JOINED_PIECE:
                continue
            yield b"".join(small)
        else:
            if size:
                yield b"".join(small)
            yield piece
        small, size = [], 0
    if size:
        yield b"".join(small)
