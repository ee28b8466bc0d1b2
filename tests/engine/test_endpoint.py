"""Where the engine is looked for, and what is said when it is not there. Needs no engine."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlpkg import engine


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "docker"
    folder.mkdir()
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


def make_context(folder: Path, name: str, text: str) -> None:
    (folder / "config.json").write_text(json.dumps({"currentContext": name}))
    meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(text)


def test_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    reason = engine.available()
    assert reason
    assert "No such file or directory" in reason
    assert f"{tmp_path}/no.sock" in reason


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{unused.getsockname()[1]}")
        reason = engine.available()
    assert reason
    assert "Connection refused" in reason


def test_a_silent_engine_is_given_up_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "silent.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        start = time.monotonic()
        reason = engine.available()
    assert reason
    assert "timed out" in reason
    assert time.monotonic() - start < 10


def test_a_nonsense_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "gopher://name:pass-word@nowhere")
    reason = engine.available()
    assert reason
    assert "pass-word" not in reason


def test_the_current_context_is_used(own_configuration: Path, tmp_path: Path) -> None:
    host = f"unix://{tmp_path}/of-the-context.sock"
    make_context(
        own_configuration,
        "desktop",
        json.dumps({"Name": "desktop", "Metadata": {}, "Endpoints": {"docker": {"Host": host}}}),
    )
    reason = engine.available()
    assert reason
    assert "of-the-context.sock" in reason
    assert engine.is_local()


def test_a_context_on_another_machine_is_not_local(own_configuration: Path) -> None:
    endpoints = {"docker": {"Host": "tcp://build.example:2376"}}
    make_context(
        own_configuration, "far", json.dumps({"Name": "far", "Metadata": {}, "Endpoints": endpoints})
    )
    assert not engine.is_local()


@pytest.mark.parametrize("text", ["{torn", "[]", "{}", '{"Endpoints": null}'])
def test_a_torn_context_is_named(own_configuration: Path, text: str) -> None:
    make_context(own_configuration, "torn", text)
    reason = engine.available()
    assert reason
    assert "Docker context torn" in reason


def test_an_absent_context_is_named(own_configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")
    reason = engine.available()
    assert reason
    assert "Docker context gone" in reason


def test_importing_the_adapter_does_not_import_the_sdk() -> None:
    code = "import sys, mlpkg.engine, mlpkg.registry.bundled; print(*{'docker', 'requests', 'urllib3'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == ""
