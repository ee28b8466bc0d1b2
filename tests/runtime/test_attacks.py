"""The attacks of `attacks`, against our server: a short run always, the long one with `pytest -m long`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import attacks
from .hostile import Target, watched
from .serving import Launch, Running, serving

SCRIPT = """
def init(): pass
def run(data, request_headers):
    return {"size": len(data), "headers": request_headers}
"""
LIMIT = 256
"""Connections that the server keeps open in the short run."""
ENVIRONMENT = {
    "MLPKG_READ_TIMEOUT": "2",
    "MLPKG_MAX_BODY": "1000000",
    "MLPKG_ACCESS_LOG": "false",
}


@pytest.fixture(scope="module")
def server(runtime_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("app")
    (folder / "score.py").write_text(SCRIPT)
    environ = {**ENVIRONMENT, "MLPKG_MAX_CONNECTIONS": str(LIMIT)}
    with serving(Launch(Path(sys.executable), runtime_root, folder, environ), "ours", "score.py") as running:
        yield running


@pytest.fixture
def target(server: Running) -> Iterator[Target]:
    """The server; whatever a test does to it, it goes on, holds nothing and has complained of nothing."""
    yield Target(server.port, server.process.pid)
    end = time.monotonic() + 15
    while True:
        text = server.ask("GET", "/metrics").body.decode()
        if "\nmlpkg_connections 1\n" in text and "\nmlpkg_body_bytes 0\n" in text:
            break
        assert time.monotonic() < end, text
        time.sleep(0.05)
    assert server.ask(body=b"next").status == 200
    assert "Traceback" not in server.text


@pytest.fixture
def large(launch: Launch, tmp_path: Path) -> Iterator[Target]:
    """A server with its usual number of connections."""
    (tmp_path / "score.py").write_text(SCRIPT)
    usual = Launch(launch.python, launch.root, tmp_path, ENVIRONMENT)
    with serving(usual, "ours", "score.py") as running:
        yield Target(running.port, running.process.pid)
        assert "Traceback" not in running.text


@pytest.mark.parametrize("name", attacks.BAD)
def test_smuggling(target: Target, name: str) -> None:
    attacks.smuggling(target, name)


def test_trailers_are_no_fields(target: Target) -> None:
    attacks.trailers_are_no_fields(target)


@pytest.mark.parametrize("name", attacks.TOO_MUCH)
def test_too_much(target: Target, name: str) -> None:
    attack, processor, memory = attacks.TOO_MUCH[name]
    with watched(target, processor=processor, memory=memory, wall=60):
        attack(target, 1)


def test_slow(target: Target) -> None:
    # An idle connection may stay for longer than this test is willing to wait.
    with watched(target, processor=3, memory=30, wall=60):
        attacks.slow(target, 2, leaving_out=("nothing", "empty lines"))


@pytest.mark.parametrize("name", attacks.SILENT)
def test_crowd(target: Target, name: str) -> None:
    with watched(target, processor=3, memory=30, wall=60):
        attacks.crowd(target, name, 3 * LIMIT)


def test_crowd_beyond_the_files_that_may_be_open(launch: Launch, tmp_path: Path) -> None:
    """The limit of connections is what the process can hold, not what the settings wish for."""
    (tmp_path / "score.py").write_text(SCRIPT)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nulimit -n 200\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with serving(Launch(python, launch.root, tmp_path, ENVIRONMENT), "ours", "score.py") as running:
        attacks.crowd(Target(running.port, running.process.pid), "silent", 400)
        assert "Too many open files" not in running.text


def test_flood(target: Target) -> None:
    with watched(target, processor=5, memory=30, wall=60):
        attacks.flood(target, 2_000)


@pytest.mark.parametrize("name", attacks.PIPELINES)
def test_pipelining(target: Target, name: str) -> None:
    attack, processor, memory = attacks.PIPELINES[name]
    with watched(target, processor=processor, memory=memory, wall=60):
        attack(target, 1)


@pytest.mark.long
@pytest.mark.parametrize("name", attacks.TOO_MUCH)
def test_too_much_of_it(large: Target, name: str) -> None:
    attack, processor, memory = attacks.TOO_MUCH[name]
    with watched(large, processor=processor * 8, memory=memory * 4, wall=600):
        attack(large, 4)


@pytest.mark.long
def test_slow_in_numbers(large: Target) -> None:
    with watched(large, processor=20, memory=100, wall=120):
        attacks.slow(large, 60, leaving_out=("nothing", "empty lines"))


@pytest.mark.long
@pytest.mark.parametrize("name", attacks.SILENT)
@pytest.mark.parametrize("number", [1_024, 3_000])
def test_large_crowd(large: Target, name: str, number: int) -> None:
    with watched(large, processor=10, memory=150, wall=120):
        attacks.crowd(large, name, number)


@pytest.mark.long
def test_long_flood(large: Target) -> None:
    with watched(large, processor=60, memory=60, wall=300):
        attacks.flood(large, 40_000)


@pytest.mark.long
@pytest.mark.parametrize("name", attacks.PIPELINES)
def test_long_pipelining(large: Target, name: str) -> None:
    attack, processor, memory = attacks.PIPELINES[name]
    with watched(large, processor=processor * 20, memory=memory * 2, wall=600):
        attack(large, 10)
