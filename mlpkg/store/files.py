"""Files: replaced whole or not at all, and read with their digest. A full disk or a closed folder is said in words."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path

from mlpkg.digest import Digest, Tally
from mlpkg.errors import MlpkgError, NotWritten, UsageError

PIECE = 1 << 20
"""Bytes that are read or written at once."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_IN_THE_WAY = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace a file whole or not at all, also across a crash of the machine. Raises MlpkgError."""
    write_stream(path.parent, (data,), lambda _: path, mode=mode)


def write_stream(
    folder: Path, pieces: Iterable[bytes], place: Callable[[Digest], Path], *, mode: int = 0o644
) -> tuple[Digest, int]:
    """Write a new file of `folder`, put where `place` says for its digest when it is whole; its digest and size.

    `folder` is made where it is missing. Nothing stays behind when anything fails. Raises MlpkgError when the
    folder cannot be written to, or the pieces cannot be read; and what `pieces` and `place` raise.
    """
    tally = Tally()
    temporary: Path | None = None
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=folder, prefix=".incoming.")
            temporary = Path(name)
            with os.fdopen(handle, "wb", buffering=PIECE) as file:
                file.writelines(tally.of(_read(pieces, folder)))
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(mode)
            temporary.replace(place(tally.digest))
            _sync(folder)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return tally.digest, tally.size


def _read(pieces: Iterable[bytes], folder: Path) -> Iterator[bytes]:
    """The pieces; that they cannot be read is not the fault of where they go."""
    try:
        yield from pieces
    except OSError as error:
        what = error.filename or f"what belongs into {folder}"
        raise MlpkgError(f"{what}: cannot be read: {error.strerror}", hint="run the step again") from error


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def writing(path: Path, *, setting: str = "") -> Iterator[None]:
    """What the block does writes to `path`, a file or folder. Raises MlpkgError where it cannot.

    `setting` is a variable that names another place. FileNotFoundError passes: it is about something else.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unwritable(path, error, setting=setting) from error


@contextmanager
def incoming_folder(folder: Path | None = None) -> Iterator[Path]:
    """A new folder for the block, which writes there, in `folder` or the system's own place. Raises MlpkgError."""
    place = folder or Path(tempfile.gettempdir())
    with writing(place, setting="" if folder else "TMPDIR"):
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place, prefix=".incoming." if folder else "mlpkg-") as name:
            yield Path(name)


def unwritable(path: Path | str, error: OSError, *, setting: str = "") -> MlpkgError:
    """The error for a place that cannot be written to: what, where, and what to do."""
    other = f", or set {setting} to a folder of your own" if setting else ""
    message = f"{path}: cannot be written: {error.strerror or error}"
    if error.errno in _FULL:
        return NotWritten(message, hint=f"free some space there{other}")
    if error.errno in _IN_THE_WAY:
        return UsageError(message, hint=f"something else is in the way: it must be writable{other}")
    return NotWritten(message, hint=f"check the permissions and the disk: it must be writable{other}")


def is_unwritable(error: OSError) -> bool:
    """Whether an error speaks of a full disk or a closed folder."""
    return error.errno in _FULL | _CLOSED


def read_pieces(path: Path) -> Iterator[bytes]:
    """A file's bytes. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            yield piece


def file_digest(path: Path) -> Digest:
    """A file's digest. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        return digest_of(file)


def digest_of(file: RawIOBase | BufferedReader) -> Digest:
    """The digest of what is left of an open file. Raises OSError."""
    return Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
