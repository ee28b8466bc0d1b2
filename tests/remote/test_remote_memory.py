"""A push of much more than memory should hold, made of bytes that lie nowhere."""

from __future__ import annotations

import subprocess
import sys

from tests.fakes.registry import FakeRegistry

SIZE = 1 << 30

_PUSH = """
import hashlib, sys
from tests.remote.images import ping
from mlpkg.digest import Descriptor, Digest
from mlpkg.remote.client import Blob, Registry

def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

size, address = int(sys.argv[1]), sys.argv[2]

def pieces():
    for number in range(size >> 20):
        yield number.to_bytes(4, "big") * (1 << 18)

state = hashlib.sha256()
for piece in pieces():
    state.update(piece)
descriptor = Descriptor("application/octet-stream", Digest("sha256:" + state.hexdigest()), size)
with Registry(address) as registry:
    ping(registry)
    before = resident()
    assert registry.upload_blob("a/b", Blob(descriptor, pieces))
    print(resident() - before)
"""


def test_memory_does_not_grow_with_the_blob() -> None:
    with FakeRegistry(is_sink=True).serving() as fake:
        done = subprocess.run(
            [sys.executable, "-c", _PUSH, str(SIZE), fake.address],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert fake.sink_size == SIZE
        assert int(done.stdout) < 30 << 20
