"""Where no port is written, the next free one is taken, kept, and said; a written one stays an error."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlpkg import engine
from mlpkg.errors import Taken, UsageError
from mlpkg.registry import bundled as registry
from mlpkg.registry import container, probe, state
from mlpkg.registry.bundled import Endpoint
from mlpkg.registry.own_image import BundledSource
from mlpkg.spec.model import RegistryTable

from .asking import ask, quiet
from .source import BinarySource

ANY = RegistryTable()


def port_in(endpoint: Endpoint) -> int:
    return int(endpoint.address.rpartition(":")[2])


@pytest.fixture
def first_port(port: int, no_engine: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The default port for this test. The registry is a process, and is stopped afterwards."""
    monkeypatch.setattr(registry, "DEFAULT_PORT", port)
    yield port
    registry.down(ANY)


class Stranger:
    """A program that listens on a port and hangs up on whoever calls."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_server(("127.0.0.1", port))
        self._socket.settimeout(0.05)
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._is_closed.is_set():
            with suppress(TimeoutError):
                self._socket.accept()[0].close()

    def close(self) -> None:
        self._is_closed.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def taken(first_port: int) -> Iterator[Stranger]:
    """Something else listens on the default port."""
    with closing(Stranger(first_port)) as other:
        yield other


def test_the_default_is_taken_where_it_is_free(first_port: int, registry_source: BinarySource) -> None:
    assert registry.known_endpoint(ANY) is None
    assert registry.status(ANY).address == f"127.0.0.1:{first_port}"
    endpoint = registry.up(ANY, registry_source, notify=quiet)
    assert port_in(endpoint) == first_port
    assert registry.known_endpoint(ANY) == endpoint
    assert registry.known_endpoint(RegistryTable(port=first_port)) == endpoint, (
        "written or not, it is the same"
    )


def test_the_next_free_port_is_taken_said_and_kept(
    taken: Stranger, first_port: int, registry_source: BinarySource
) -> None:
    lines: list[str] = []
    first = registry.up(ANY, registry_source, notify=lines.append)
    assert port_in(first) > first_port
    said = "\n".join(lines)
    assert f"port {first_port} of 127.0.0.1 is taken by " in said
    assert f"process {os.getpid()}" in said
    assert f"uses port {port_in(first)} from now on" in said
    assert registry.known_endpoint(ANY) == first
    taken.close()
    lines.clear()
    assert registry.up(ANY, registry_source, notify=lines.append) == first
    assert registry.down(ANY)
    assert registry.up(ANY, registry_source, notify=quiet) == first, "run after run the same"
    assert registry.status(ANY).address == first.address
    assert registry.credentials(ANY) == first
    assert lines == []
    assert not (state.port_path(first_port) / "secrets.json").exists()


def test_a_written_port_stays_an_error(
    taken: Stranger, first_port: int, registry_source: BinarySource
) -> None:
    with pytest.raises(
        Taken, match=f"port {first_port} of 127.0.0.1 is taken by .*process {os.getpid()}"
    ) as no:
        registry.up(RegistryTable(port=first_port), registry_source, notify=quiet)
    assert no.value.exit_code == 2
    assert state.read_port() is None


def test_the_kept_port_taken_by_a_stranger_is_an_error(
    first_port: int, registry_source: BinarySource
) -> None:
    """Another port would be another storage under another address."""
    endpoint = registry.up(ANY, registry_source, notify=quiet)
    registry.down(ANY)
    with closing(Stranger(first_port)):
        with pytest.raises(Taken, match="is taken by") as refused:
            registry.up(ANY, registry_source, notify=quiet)
        assert "[registry] port = " in refused.value.hint
        said = registry.status(ANY)
        assert not said.running
        assert said.note
        assert f"port {first_port} is taken by" in said.note
    assert registry.up(ANY, registry_source, notify=quiet) == endpoint


def test_nothing_is_known_before_the_first_start(first_port: int) -> None:
    with pytest.raises(UsageError, match="no port yet"):
        registry.credentials(ANY)


@pytest.mark.long
def test_a_lost_choice_is_found_again(
    taken: Stranger, registry_source: BinarySource, state_home: Path
) -> None:
    first = registry.up(ANY, registry_source, notify=quiet)
    (state_home / "registry" / "port.json").write_text("{torn")
    assert registry.up(ANY, registry_source, notify=quiet) == first
    assert registry_source.asked == ["binary"]


@dataclass
class Overtaken:
    """A source that is so slow that somebody else takes the port meanwhile."""

    source: BinarySource | BundledSource
    port: int
    others: list[Stranger] = field(default_factory=list)

    def _take(self) -> None:
        if not self.others:
            self.others.append(Stranger(self.port))

    def binary(self) -> Path:
        self._take()
        return self.source.binary()

    def image(self) -> tuple[str, Iterator[bytes]]:
        self._take()
        return self.source.image()


def test_a_port_lost_between_the_look_and_the_start(first_port: int, registry_source: BinarySource) -> None:
    slow = Overtaken(registry_source, first_port)
    lines: list[str] = []
    endpoint = registry.up(ANY, slow, notify=lines.append)
    assert port_in(endpoint) > first_port
    assert "from now on" in "\n".join(lines)
    slow.others[0].close()
    assert registry.up(ANY, registry_source, notify=quiet) == endpoint


@pytest.mark.docker
@pytest.mark.mirror
@pytest.mark.long
def test_a_container_takes_the_next_free_port_too(
    port: int, shipped: BundledSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "DEFAULT_PORT", port)
    slow = Overtaken(shipped, port)
    try:
        endpoint = registry.up(ANY, slow, notify=quiet)
        assert registry.status(ANY).mode == "container"
        assert port_in(endpoint) > port
        assert ask(endpoint, "GET", "/v2/")[0] == 200
        slow.others[0].close()
        assert registry.up(ANY, shipped, notify=quiet) == endpoint
    finally:
        registry.down(ANY)
        for one in {port, state.read_port() or port}:
            engine.remove(container.container_name(one))
            engine.remove_volume(container.volume_name(one))
            engine.remove_volume(container.config_volume(one))


def test_two_starts_at_once_make_one_registry(taken: Stranger, registry_source: BinarySource) -> None:
    found: list[Endpoint] = []
    threads = [
        threading.Thread(target=lambda: found.append(registry.up(ANY, registry_source, notify=quiet)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4
    assert len(set(found)) == 1
    assert registry_source.asked == ["binary"]


STARTER = """
import sys
from pathlib import Path
from mlpkg.registry import bundled, state
from mlpkg.spec.model import RegistryTable
class Source:
    def binary(self): return Path(sys.argv[2])
bundled.DEFAULT_PORT = int(sys.argv[1])
sys.stdin.readline()
endpoint = bundled.up(RegistryTable(), Source(), notify=lambda line: None)
print(endpoint.address, state.read_state(int(endpoint.address.split(":")[1])).pid, flush=True)
"""


@pytest.mark.long
def test_two_users_at_once_have_one_registry_each(
    first_port: int, tmp_path: Path, registry_program: Path
) -> None:
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, str(first_port), str(registry_program)],
            env={**os.environ, "MLPKG_STATE_HOME": str(tmp_path / user)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for user in ("anna", "bert", "carl")
    ]
    for starter in starters:
        assert starter.stdin
        starter.stdin.write("go\n")
        starter.stdin.flush()
    rows = [starter.communicate(timeout=60)[0].split() for starter in starters]
    try:
        assert [starter.returncode for starter in starters] == [0, 0, 0]
        assert len({address for address, _ in rows}) == 3
        assert all(probe.is_taken(int(address.rpartition(":")[2])) for address, _ in rows)
    finally:
        for row in rows:
            if row:
                os.kill(int(row[1]), signal.SIGTERM)
