"""Disks that cannot be written to: real ones where this user may mount, else the kernel's limits for a process."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

SMALL = 64 << 10
"""Bytes that a small disk takes, at most."""


@dataclass(frozen=True)
class Disk:
    """A folder with less room than `SMALL`; `limit` is for `subprocess.run(preexec_fn=…)` to leave it none."""

    folder: Path
    limit: Callable[[], None] | None = None


@cache
def can_mount() -> bool:
    """Whether this user may mount a file system in memory."""
    if os.geteuid():
        return False
    with TemporaryDirectory() as name:
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", name], check=False, capture_output=True)
        if done.returncode == 0:
            subprocess.run(["umount", name], check=True)
    return done.returncode == 0


def kinds() -> list[str]:
    """How a full disk can be had here."""
    return ["limit", *(["tmpfs"] if can_mount() else [])]


@contextmanager
def small_disk(kind: str, folder: Path) -> Iterator[Disk]:
    """A disk of `SMALL` bytes at `folder`, a new one."""
    folder.mkdir()
    if kind == "tmpfs":
        with _mounted(folder, f"size={SMALL}"):
            yield Disk(folder)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, hard))
    try:
        yield Disk(folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def closed_folder(folder: Path) -> Iterator[Path]:
    """A new folder that nothing can be written to: a read-only disk for root, whom modes do not stop."""
    folder.mkdir()
    if can_mount():
        with _mounted(folder, "ro"):
            yield folder
        return
    folder.chmod(0o555)
    try:
        yield folder
    finally:
        folder.chmod(0o755)


def fill(folder: Path) -> None:
    """Take all the room that a small disk still has."""
    try:
        with (folder / "filler").open("wb", buffering=0) as file:
            for _ in range(SMALL // 512):
                file.write(bytes(512))
    except OSError:
        return


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)
