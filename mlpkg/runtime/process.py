"""Worker processes: started with one end of a socket pair, ended by signal."""

# Importing pathlib would be a tenth of the start-up.
# ruff: noqa: PTH100, PTH120

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

_BOOT = """\
import os, sys
sys.path[:] = [place for place in sys.path if place not in ("", os.getcwd())]
if {root!r} not in sys.path:
    sys.path.append({root!r})
from mlpkg.runtime.worker import main
sys.path.insert(0, os.getcwd())
main({descriptor})
"""
"""The server's own imports come before the working directory is on the path: a file there may be called like
a module of the standard library. The script then finds the working directory first, as under gunicorn."""


@dataclass(frozen=True)
class Process:
    """A worker process and the front's end of its socket."""

    pid: int
    channel: socket.socket

    def is_alive(self) -> bool:
        """Whether the process still runs; one that has ended is left for `exited`."""
        if not hasattr(os, "waitid"):
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def kill(self) -> None:
        """End the worker and what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def spawn(environ: Mapping[str, str]) -> Process:
    """Start a worker in a process group of its own, without standard input."""
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = _BOOT.format(root=root, descriptor=theirs.fileno())
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", code],
            dict(environ),
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setpgroup=0,
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGCHLD),
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.settimeout(0)
    return Process(pid, ours)


def exited() -> list[tuple[int, int]]:
    """Reap what has ended: (pid, wait status). As process 1 of a container this is orphans too."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not pid:
            return found
        found.append((pid, status))


def describe(status: int) -> str:
    """How a process ended, for the log."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = str(number)
        return f"was killed by signal {name}"
    return f"exited with code {os.WEXITSTATUS(status)}"
