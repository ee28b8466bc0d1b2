"""Ports for services on this machine: the one asked for, else the first free one from the default on."""

from __future__ import annotations

from collections.abc import Callable

from mlpkg.errors import Taken
from mlpkg.registry import probe

HOST = "127.0.0.1"

DEFAULT_PORT = 6789
"""Where a service answers, where no port is asked for and it is free."""

PORTS = 100
"""How many ports, from the default on, are tried before none is found."""


def require_free(port: int) -> None:
    """Raises Taken when something listens on the port."""
    if probe.is_taken(port):
        raise Taken(f"port {port} of {HOST} is taken", hint="choose another with --port")


def first_free() -> int:
    """The first free port from the default on. Raises Taken when all that are tried are taken."""
    port, last = probe.next_free(DEFAULT_PORT - 1), DEFAULT_PORT + PORTS - 1
    if not DEFAULT_PORT <= port <= last:
        raise Taken(
            f"ports {DEFAULT_PORT} to {last} of {HOST} are all taken", hint="choose another with --port"
        )
    return port


def said(port: int, asked: int | None, notify: Callable[[str], None]) -> int:
    """Say a port that nobody asked for and that is not the default; and return it."""
    if asked is None and port != DEFAULT_PORT:
        reason = f"port {DEFAULT_PORT} of {HOST} is taken: " if probe.is_taken(DEFAULT_PORT) else ""
        notify(f"{reason}the service gets port {port}")
    return port
