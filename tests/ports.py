"""Ports for servers that tests start by number: none is given twice, however many tests run at once.

To bind port 0 and let go of it again is no promise: until the server listens, the kernel may hand the same
port to another test, or to any connection. So these lie below the kernel's own range, and each is held by a
lock on a byte of a file, which all test runs on the machine see and which ends with the process.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from functools import cache
from pathlib import Path

LOWEST, HIGHEST = 15_000, 32_000
"""Linux hands out 32768 and above by itself, other systems 49152 and above."""

_given: set[int] = set()


@cache
def _locks() -> int:
    """One file for all test runs of this user; of it, the byte whose number is the port is locked."""
    return os.open(
        Path(tempfile.gettempdir()) / f"mlpkg-test-ports-{os.getuid()}", os.O_CREAT | os.O_RDWR, 0o600
    )


def free_port() -> int:
    """A port on which nobody listens, and that no other test is given as long as this process lives."""
    # Not by the seed of a test: two processes would try the same ports in the same order.
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(LOWEST, HIGHEST)
        if port in _given:
            continue
        try:
            fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        _given.add(port)
        return port
