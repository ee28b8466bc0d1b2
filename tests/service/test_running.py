"""Which port a service gets, and how its process is found again."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mlpkg.errors import Taken
from mlpkg.registry import process
from mlpkg.service import ports, running
from mlpkg.service.running import Service
from mlpkg.spec import workspace
from mlpkg.spec.workspace import Package


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    (tmp_path / "score.py").touch()
    (tmp_path / "package.toml").write_text('[package]\nname = "p"\n[entry]\nscript = "score.py"\n')
    (found,) = workspace.load(tmp_path).packages
    found.records.mkdir(parents=True)
    return found


@pytest.fixture
def default(monkeypatch: pytest.MonkeyPatch) -> int:
    """The port that services get first in this test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    monkeypatch.setattr(ports, "DEFAULT_PORT", port)
    return port


def test_the_default_port_or_the_next_free_one(package: Package, default: int) -> None:
    assert running.choose_port(package, None) == default
    with socket.create_server(("127.0.0.1", default)):
        assert running.choose_port(package, None) > default
        assert running.choose_port(None, None) > default
        with pytest.raises(Taken, match=f"port {default} of 127.0.0.1 is taken") as refused:
            running.choose_port(package, default)
        assert refused.value.exit_code == 2
    assert running.choose_port(package, None) == default


def test_no_port_at_all(package: Package, default: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "PORTS", 1)
    with socket.create_server(("127.0.0.1", default)), pytest.raises(Taken, match="are all taken"):
        running.choose_port(package, None)


@pytest.mark.parametrize("has_proc", [True, False])
def test_a_background_service_is_found_and_stopped(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_proc: bool
) -> None:
    """Without /proc (macOS, the BSDs) it was lost as soon as it was started."""
    if not has_proc:
        monkeypatch.setattr(process, "PROC", tmp_path / "no-proc")
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout
        port = int(server.stdout.readline())
        born = process.birth(server.pid)
        assert born
        running._remember(package, Service("process", str(server.pid), port, born))
        found = running.find(package)
        assert found
        assert running.choose_port(package, None) == found.port == port, "its own, run after run"
        assert running.choose_port(package, port) == port
        assert running.stop(package)
        server.wait(10)
        assert running.find(package) is None
        assert not running.stop(package)
