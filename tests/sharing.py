"""What the processes of one test run (`pytest -n`) share: a folder, and a lock for whoever makes something in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of this run: that above pytest-xdist's one for each process, or pytest's own."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Wait until no other process is here with that path; its lock is a file beside it, and stays."""
    with path.with_name(path.name + ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
