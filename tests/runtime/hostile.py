"""A hostile client: how it sends and what it gets; and what it may cost its server.

`watched` bounds processor time and memory, which a busy machine does not change; its wall-clock bound is far above
what is needed.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

HEAD = b"POST /score HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
PROBE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENCE = 20.0
"""Seconds after which a server that was given a read timeout of two has let a slow client wait for too long."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server: its port, and the process that (with its descendants) pays for what we send."""

    port: int
    pid: int

    def connect(self, seconds: float = 10.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=seconds)


def request(body: bytes, fields: bytes = b"") -> bytes:
    return HEAD + fields + b"Content-Length: %d\r\n\r\n" % len(body) + body


# -- what an attack may cost ---------------------------------------------------------------------------


def tree(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


def processor_seconds(pid: int) -> float:
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return total * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def watched(target: Target, *, processor: float, memory: float, wall: float) -> Iterator[None]:
    """Bound what the block costs the server: seconds of processor, MB of memory on top, seconds; probes are answered."""
    started, before, base = time.monotonic(), processor_seconds(target.pid), resident_bytes(target.pid)
    done, peak, failures = threading.Event(), [base], list[str]()

    def sample() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], resident_bytes(target.pid))

    def ask() -> None:
        while not done.wait(0.1):
            status = probe(target)
            if status != "200":
                failures.append(status)

    threads = [threading.Thread(target=each) for each in (sample, ask)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()
    spent = processor_seconds(target.pid) - before
    grown = (peak[0] - base) / 1e6
    assert not failures, f"probes failed: {failures[:3]} ({len(failures)})"
    assert spent <= processor, f"{spent:.2f} s of processor"
    assert grown <= memory, f"{grown:.0f} MB of memory"
    assert time.monotonic() - started <= wall, f"{time.monotonic() - started:.1f} s"


def probe(target: Target, data: bytes = PROBE) -> str:
    """The status of a probe on a connection of its own, or why there was none.

    A connection that is closed before its request was read may be tried again (RFC 9112, 9.3.1), as
    a client does that the busy machine kept from sending for long.
    """
    found = _probe(target, data)
    return (
        found if found not in ("closed", "ConnectionResetError", "BrokenPipeError") else _probe(target, data)
    )


def _probe(target: Target, data: bytes) -> str:
    try:
        with target.connect(5) as client:
            client.sendall(data)
            answer = client.recv(65536)
    except OSError as error:
        return type(error).__name__
    return answer.split(b" ", 2)[1].decode("latin-1") if answer.startswith(b"HTTP/") else "closed"


# -- how a client sends --------------------------------------------------------------------------------


def pour(client: socket.socket, pieces: Iterable[bytes]) -> int:
    """Send until the server will not have more; return the bytes that it had."""
    sent = 0
    client.settimeout(3)
    with contextlib.suppress(OSError):
        for piece in pieces:
            client.sendall(piece)
            sent += len(piece)
    return sent


def received(client: socket.socket, seconds: float = 5.0) -> tuple[bytes, bool]:
    """All that comes until the server closes or is silent, and whether it closed."""
    client.settimeout(seconds)
    data = b""
    while True:
        try:
            more = client.recv(65536)
        except TimeoutError:
            return data, False
        except OSError:
            return data, True
        if not more:
            return data, True
        data += more


def must_be_refused(client: socket.socket) -> None:
    """The client was answered so, or cut off; it is not waited for."""
    answer, is_closed = received(client, 3)
    found = statuses(answer)
    assert is_closed, "the server takes all of it, and waits for more"
    assert set(found) <= {400, 413, 431}, f"answers: {found}"


def statuses(data: bytes) -> list[int]:
    """Statuses of the answers in what was received; bodies of our answers never hold such a line."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


def wait_until_closed(clients: dict[str, tuple[socket.socket, Iterator[bytes]]], every: float) -> set[str]:
    """Send each client's next piece now and then; return the names of those that the server never closes."""
    end = time.monotonic() + PATIENCE
    open_ones = dict(clients)
    with selectors.DefaultSelector() as selector:
        for name, (client, _) in clients.items():
            client.setblocking(False)
            selector.register(client, selectors.EVENT_READ, name)
        while open_ones and time.monotonic() < end:
            for client, pieces in open_ones.values():
                with contextlib.suppress(OSError):
                    client.send(next(pieces))
            time.sleep(every)
            for key, _ in selector.select(0):
                client = open_ones[key.data][0]
                try:
                    is_closed = not client.recv(65536)
                except OSError:
                    is_closed = True
                if is_closed:
                    selector.unregister(client)
                    del open_ones[key.data]
    return set(open_ones)


def forever(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


def slowly(piece: bytes, number: int) -> Iterator[bytes]:
    for _ in range(number):
        time.sleep(0.001)
        yield piece


@contextlib.contextmanager
def held(target: Target, number: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections that have sent this, and keep silent from then on."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(number):
            client = stack.enter_context(target.connect())
            with contextlib.suppress(OSError):
                client.sendall(data)
            clients.append(client)
        yield clients
