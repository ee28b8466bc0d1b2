"""One run per workspace at a time: a file lock that says whom one waits for. Readers never wait."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import sys
from pathlib import Path

from mlpkg.store.files import writing

_held: dict[Path, int] = {}
"""Locks of this process; they are held until it ends."""


def hold_workspace(root: Path) -> None:
    """Wait until this process is the only run in the workspace. Raises MlpkgError where nothing can be written.

    A worker process works under its parent's lock, however it was started.
    """
    if root in _held or multiprocessing.parent_process() is not None:
        return
    path = root / ".mlpkg" / ".lock"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
        sys.stderr.write(f"waiting for process {holder or '?'}, which is at work in {root}\n")
        sys.stderr.flush()
        fcntl.flock(handle, fcntl.LOCK_EX)
    with writing(path):
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    _held[root] = handle


def holds_workspace(root: Path) -> bool:
    """Whether this process is the run in the workspace."""
    return root in _held
