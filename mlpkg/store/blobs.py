"""The local blob cache: content-addressed files, shared by all workspaces of a user.

A blob is written aside and renamed, so that a file under its digest is whole. Reading checks again: a
damaged blob is removed and counts as absent, never as an error.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlpkg.digest import Digest
from mlpkg.errors import DigestMismatch


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

    def write(self, stream: Iterable[bytes]) -> tuple[Digest, int]:
        """Keep a stream; its digest and size in bytes. Nothing stays behind when the stream fails."""
        target = self.folder / "sha256"
        target.mkdir(parents=True, exist_ok=True)
        state, size = hashlib.sha256(), 0
        handle, name = tempfile.mkstemp(dir=target, prefix=".incoming.")
        try:
            with os.fdopen(handle, "wb", buffering=1 << 20) as file:
                for piece in stream:
                    state.update(piece)
                    size += len(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            digest = Digest("sha256:" + state.hexdigest())
            Path(name).chmod(0o644)
            Path(name).replace(self.path(digest))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return digest, size

    def read(self, digest: Digest) -> Iterator[bytes]:
        """The blob in pieces of 1 MiB. Raises OSError, and DigestMismatch at the end when it is damaged."""
        state = hashlib.sha256()
        with self.path(digest).open("rb", buffering=0) as file:
            while piece := file.read(1 << 20):
                state.update(piece)
                yield piece
        if "sha256:" + state.hexdigest() != digest:
            self.path(digest).unlink(missing_ok=True)
            raise DigestMismatch(
                f"cached blob {digest} is damaged; it has been removed",
                hint="run the step again: it is made anew",
            )
