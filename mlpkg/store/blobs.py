"""The local blob cache: content-addressed files, shared by all workspaces of a user.

A blob is written aside and renamed, so that a file under its digest is whole. Reading checks again: a
damaged blob is removed and counts as absent, never as an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlpkg.digest import Digest, Tally
from mlpkg.errors import DigestMismatch
from mlpkg.store.files import file_digest, read_pieces, write_stream


def cache_folder() -> Path:
    """`$MLPKG_CACHE_HOME`, else ``mlpkg`` below XDG's cache folder."""
    own = os.environ.get("MLPKG_CACHE_HOME")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlpkg"


@dataclass(frozen=True, slots=True)
class Blobs:
    """A folder of blobs, named by digest."""

    folder: Path

    def path(self, digest: Digest) -> Path:
        """Where a blob of that digest lies, or would lie."""
        return self.folder / "sha256" / digest.removeprefix("sha256:")

    def has(self, digest: Digest, size: int) -> bool:
        """Whether a blob of that digest and size (bytes) is there; its content is checked when read."""
        try:
            return self.path(digest).stat().st_size == size
        except OSError:
            return False

    def is_whole(self, digest: Digest, size: int) -> bool:
        """Whether a blob of that digest and size is there and undamaged; reads it."""
        try:
            return self.has(digest, size) and file_digest(self.path(digest)) == digest
        except OSError:
            return False

    def write(self, stream: Iterable[bytes]) -> tuple[Digest, int]:
        """Keep a stream; its digest and size in bytes. Nothing stays behind when it fails. Raises MlpkgError."""
        return write_stream(self.folder / "sha256", stream, self.path)

    def read(self, digest: Digest) -> Iterator[bytes]:
        """The blob in pieces of 1 MiB. Raises OSError, and DigestMismatch at the end when it is damaged."""
        tally = Tally()
        yield from tally.of(read_pieces(self.path(digest)))
        if tally.digest != digest:
            self.path(digest).unlink(missing_ok=True)
            raise DigestMismatch(
                f"cached blob {digest} is damaged; it has been removed",
                hint="run the step again: it is made anew",
            )
