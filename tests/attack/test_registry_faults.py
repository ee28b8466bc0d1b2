"""A real registry behind a proxy that fails at random: a push ends well or in words, and never leaves a tag on half an image."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from mlpkg.digest import Descriptor, sha256
from mlpkg.errors import MlpkgError
from mlpkg.remote.client import Registry
from tests.remote.conftest import (
    Site,
    _process,
    binary_none,
    no_credentials_of_this_user,
    short_delays,
)
from tests.remote.images import Image, blob, image, repository

__all__ = ["_process", "binary_none", "no_credentials_of_this_user", "short_delays"]

FAULTS = ("none", "refuse", "cut request", "cut answer", "reset", "busy", "garble", "error", "slow")
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 0\r\nConnection: close\r\n\r\n"
ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class FaultProxy:
    """A proxy of bytes before one address. Each connection has one fault, drawn by the seed; `healthy` has none."""

    upstream: tuple[str, int]
    chance: random.Random
    healthy: bool = False
    drawn: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    server: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            with self.lock:
                fault = "none" if self.healthy or self.chance.random() < 0.4 else self.chance.choice(FAULTS)
                at = self.chance.randrange(1, 200_000)
                self.drawn[fault] += 1
            threading.Thread(target=self.relay, args=(client, fault, at), daemon=True).start()

    def relay(self, client: socket.socket, fault: str, at: int) -> None:
        """Move bytes both ways, until the fault."""
        with client, suppress(OSError):
            if fault == "refuse":
                return
            if fault in ("busy", "error"):
                client.settimeout(5)
                client.recv(1 << 16)
                client.sendall(BUSY if fault == "busy" else ERROR)
                return
            with socket.create_connection(self.upstream, timeout=10) as server:
                up = threading.Thread(
                    target=pump, args=(client, server, at if fault == "cut request" else None)
                )
                up.start()
                down(server, client, fault, at)
                if fault == "reset":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
                up.join(10)


def pump(source: socket.socket, target: socket.socket, most: int | None) -> None:
    """What the client sends; cut after `most` bytes."""
    left = most
    with suppress(OSError):
        while data := source.recv(1 << 16):
            if left is not None and len(data) >= left:
                target.sendall(data[:left])
                break
            left = None if left is None else left - len(data)
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR if most is None else socket.SHUT_RDWR)


def down(server: socket.socket, client: socket.socket, fault: str, at: int) -> None:
    """What the registry answers, until the fault."""
    left = at % 2_000 + 1
    while data := server.recv(1 << 12 if fault == "slow" else 1 << 16):
        if fault in ("cut answer", "reset") and len(data) >= left:
            client.sendall(data[:left])
            return
        if fault == "garble":
            place = at % len(data)
            data = data[:place] + bytes([data[place] ^ 0x20]) + data[place + 1 :]
        left -= len(data)
        client.sendall(data)


@contextmanager
def faulty(site: Site, seed: int) -> Iterator[FaultProxy]:
    host, _, port = site.address.rpartition(":")
    proxy = FaultProxy((host, int(port)), random.Random(seed))
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown(socket.SHUT_RDWR)
        proxy.server.close()
        thread.join(10)


def images(chance: random.Random) -> tuple[Image, Image]:
    """Two images that share a layer; the second one is to take the first one's tag."""
    shared = blob(chance.randbytes(300_000))
    return (
        image(shared, blob(chance.randbytes(50_000)), author="one"),
        image(shared, blob(chance.randbytes(120_000)), author="two"),
    )


def require_whole(direct: Registry, name: str, allowed: set[bytes]) -> bytes | None:
    """The tag names one of the images, in full, or nothing: asked without the proxy."""
    if direct.head_manifest(name, "latest") is None:
        return None
    _, manifest = direct.get_manifest(name, "latest")
    assert manifest in allowed
    document = json.loads(manifest)
    for row in (document["config"], *document["layers"]):
        for _ in direct.read_blob(name, Descriptor.from_json(row)):
            pass
    return manifest


def pushed(proxy: FaultProxy, name: str, wanted: Image) -> str:
    """Push through the proxy: ``done``, or the kind of error it ended with. Anything but our own errors is a bug."""
    try:
        with Registry(proxy.address) as registry:
            result = wanted.push(registry, name, tags=("latest",))
    except MlpkgError as error:
        return type(error).__name__
    assert result.digest == sha256(wanted.manifest)
    return "done"


def attack(site: Site, seed: int, rounds: int) -> Counter[str]:
    """Push through the proxy, often; after each push the tag names a whole image. Then healed, once more."""
    ended: Counter[str] = Counter()
    for number in range(rounds):
        chance, name = random.Random(seed * 1_000 + number), repository()
        first, second = images(chance)
        with faulty(site, seed * 1_000 + number) as proxy, Registry(site.address) as direct:
            known: bytes | None = None
            for wanted in (first, second, first):
                end = pushed(proxy, name, wanted)
                ended[end] += 1
                found = require_whole(direct, name, {first.manifest, second.manifest})
                allowed = (wanted.manifest,) if end == "done" else (known, wanted.manifest)
                assert found in allowed, f"seed {seed}, round {number}: {end}"
                known = found
            proxy.healthy = True
            with Registry(proxy.address) as registry:
                second.push(registry, name, tags=("latest",))
            assert require_whole(direct, name, {second.manifest}) == second.manifest
            ended.update({f"fault {fault}": count for fault, count in proxy.drawn.items()})
    return ended


def test_a_few_faults(binary_none: Site) -> None:
    ended = attack(binary_none, 20261123, 6)
    assert ended["done"] >= 6
    assert (
        sum(count for what, count in ended.items() if what.startswith("fault") and what != "fault none") > 10
    )


@pytest.mark.long
def test_many_faults(binary_none: Site) -> None:
    seed, rounds = int(os.environ.get("MLPKG_SEED", "4711")), int(os.environ.get("MLPKG_STEPS", "40"))
    ended = attack(binary_none, seed, rounds)
    print(f"seed {seed}, {rounds} rounds: {dict(sorted(ended.items()))}")
    assert ended["done"] > rounds
