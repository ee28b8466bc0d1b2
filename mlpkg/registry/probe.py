"""What listens on a port of 127.0.0.1, and whether it is our registry."""

from __future__ import annotations

import base64
import errno
import http.client
import socket
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 30.0
"""Seconds that a registry has to answer after its start."""


def is_taken(port: int) -> bool:
    """Whether something listens where the registry would."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def next_free(port: int) -> int:
    """The first port after this one that nothing listens on; 0 when there is none."""
    return next((other for other in range(port + 1, 65536) if not is_taken(other)), 0)


def stays_taken(port: int, seconds: float = 2.0) -> bool:
    """Whether something goes on listening: a killed registry's port is free only after its last thread."""
    end = time.monotonic() + seconds
    while is_taken(port):
        if time.monotonic() > end:
            return True
        time.sleep(0.05)
    return False


def is_ours(port: int, login: tuple[str, str] | None) -> bool:
    """Whether a registry answers that takes these credentials and, where there are any, nobody without.

    The password is random, so a registry that knows it is the one that was started with it.
    """
    if login is None:
        return _status(port, None) == 200
    return _status(port, None) == 401 and _status(port, login) == 200


def wait(port: int, login: tuple[str, str] | None, is_alive: Callable[[], bool]) -> bool:
    """Wait until our registry answers; False when it ends before that, or after `PATIENCE` seconds."""
    end = time.monotonic() + PATIENCE
    pause = 0.01
    while not is_ours(port, login):
        if not is_alive() or time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)
    return True


def _status(port: int, login: tuple[str, str] | None, patience: float = 5.0) -> int:
    """The answer's status to ``GET /v2/`` (distribution-spec, "Determining Support"); 0 for none."""
    headers = {}
    if login:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        connection.request("GET", "/v2/", headers=headers)
        answer = connection.getresponse()
        is_registry = answer.getheader("Docker-Distribution-Api-Version") == "registry/2.0"
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
    return answer.status if is_registry else 0


def listener(port: int) -> str:
    """Who listens on a port, for people: as much as can be known."""
    program = _program(port)
    what = "an image registry" if _status(port, None, patience=1.0) else "a program"
    return f"{program} ({what})" if program else f"{what} of another user or container"


def _program(port: int) -> str | None:
    """Name and number of the listening process: socket inodes from /proc/net (proc(5)). Linux only."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(file.readlink()) in sockets for file in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()}, process {process.name}"
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return None


def _listening_inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
        except OSError:
            continue
        found |= {row[9] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
    return found
