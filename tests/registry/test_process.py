"""The bundled registry as a process: started once, found again, stopped exactly."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg.errors import MlpkgError, UsageError
from mlpkg.registry import bundled as registry
from mlpkg.registry import probe, process, state
from mlpkg.registry.bundled import Endpoint
from mlpkg.spec.model import RegistryTable

from .asking import ask, port_of, push_blob, quiet
from .source import BinarySource


def _hang_up(server: socket.socket) -> None:
    server.accept()[0].close()


def pid_of(settings: RegistryTable) -> int:
    known = state.read_state(port_of(settings))
    assert known
    assert known.pid
    return known.pid


def test_up_answers_only_with_the_credentials(
    process_settings: RegistryTable, registry_source: BinarySource
) -> None:
    endpoint = registry.up(process_settings, registry_source, notify=quiet)
    assert ask(endpoint, "GET", "/v2/")[0] == 200
    assert ask(endpoint, "GET", "/v2/", login=False)[0] == 401
    assert endpoint == registry.credentials(process_settings)
    assert registry.known_endpoint(process_settings) == endpoint


def test_up_twice_keeps_the_process(process_settings: RegistryTable, registry_source: BinarySource) -> None:
    first = registry.up(process_settings, registry_source, notify=quiet)
    pid = pid_of(process_settings)
    assert registry.up(process_settings, registry_source, notify=quiet) == first
    assert pid_of(process_settings) == pid
    assert registry_source.asked == ["binary"]


def test_data_and_identity_outlive_a_restart(
    process_settings: RegistryTable, registry_source: BinarySource
) -> None:
    first = registry.up(process_settings, registry_source, notify=quiet)
    blob = push_blob(first, b"weights")
    assert registry.down(process_settings)
    assert registry.known_endpoint(process_settings) == first
    second = registry.up(process_settings, registry_source, notify=quiet)
    assert second == first
    assert ask(second, "HEAD", blob)[0] == 200


def test_a_wiped_storage_is_another_instance(
    process_settings: RegistryTable, registry_source: BinarySource, state_home: Path
) -> None:
    first = registry.up(process_settings, registry_source, notify=quiet)
    push_blob(first, b"weights")
    shutil.rmtree(state_home / "registry" / str(port_of(process_settings)) / "storage" / "docker")
    assert registry.known_endpoint(process_settings) is None
    second = registry.up(process_settings, registry_source, notify=quiet)
    assert second.instance != first.instance
    assert registry.known_endpoint(process_settings) == second


def test_down_stops_exactly_this_process(
    process_settings: RegistryTable, registry_source: BinarySource
) -> None:
    registry.up(process_settings, registry_source, notify=quiet)
    pid = pid_of(process_settings)
    assert registry.status(process_settings).running
    assert registry.down(process_settings)
    assert process.birth(pid) is None
    assert not registry.status(process_settings).running
    assert not registry.down(process_settings)


def test_a_recycled_pid_is_not_killed(process_settings: RegistryTable, registry_source: BinarySource) -> None:
    registry.up(process_settings, registry_source, notify=quiet)
    registry.down(process_settings)
    known = state.read_state(port_of(process_settings))
    assert known
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        state.write_state(replace(known, pid=stranger.pid, started="another-boot:1"))
        assert not registry.status(process_settings).running
        assert not registry.down(process_settings)
        assert stranger.poll() is None
        stranger.communicate(b"\n", timeout=10)


def test_it_is_found_and_stopped_without_proc(
    process_settings: RegistryTable,
    registry_source: BinarySource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """macOS and the BSDs have no /proc: there ps knows a process's start."""
    monkeypatch.setattr(process, "PROC", tmp_path / "no-proc")
    first = registry.up(process_settings, registry_source, notify=quiet)
    pid = pid_of(process_settings)
    assert registry.status(process_settings).running
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert registry.up(process_settings, registry_source, notify=quiet) == first
    assert pid_of(process_settings) == pid
    assert registry_source.asked == ["binary"]
    assert not process.is_alive(os.getpid(), process.birth(pid)), "another process is another"
    assert registry.down(process_settings)
    assert process.birth(pid) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MlpkgError, match="no /proc"):
        process.birth(os.getpid())


def test_a_killed_registry_is_started_again(
    process_settings: RegistryTable, registry_source: BinarySource
) -> None:
    first = registry.up(process_settings, registry_source, notify=quiet)
    os.kill(pid_of(process_settings), signal.SIGKILL)
    end = time.monotonic() + 10
    while registry.status(process_settings).running and time.monotonic() < end:
        time.sleep(0.02)
    second = registry.up(process_settings, registry_source, notify=quiet)
    assert second == first
    assert ask(second, "GET", "/v2/")[0] == 200


def test_a_port_of_another_program_is_refused(
    process_settings: RegistryTable, registry_source: BinarySource
) -> None:
    with socket.create_server(("127.0.0.1", port_of(process_settings))) as other:
        other.settimeout(10)
        silent = threading.Thread(target=_hang_up, args=(other,))
        silent.start()
        with pytest.raises(UsageError) as caught:
            registry.up(process_settings, registry_source, notify=quiet)
        silent.join()
    text = str(caught.value)
    assert f"port {port_of(process_settings)}" in text
    assert f"process {os.getpid()}" in text
    assert "[registry] port" in text


def test_a_registry_of_another_state_folder_is_left_alone(
    process_settings: RegistryTable,
    registry_source: BinarySource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = registry.up(process_settings, registry_source, notify=quiet)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("MLPKG_STATE_HOME", str(tmp_path / "other"))
        with pytest.raises(UsageError, match="image registry"):
            registry.up(process_settings, registry_source, notify=quiet)
        assert not registry.down(process_settings)
    assert ask(first, "GET", "/v2/")[0] == 200


def test_other_settings_than_those_it_runs_with_are_refused(
    process_settings: RegistryTable, registry_source: BinarySource, tmp_path: Path
) -> None:
    registry.up(process_settings, registry_source, notify=quiet)
    for other in (
        replace(process_settings, storage=str(tmp_path / "data")),
        replace(process_settings, auth=False),
    ):
        assert registry.known_endpoint(other) is None
        with pytest.raises(UsageError, match="other settings"):
            registry.up(other, registry_source, notify=quiet)


def test_storage_folder_without_credentials(
    process_settings: RegistryTable, registry_source: BinarySource, tmp_path: Path
) -> None:
    settings = replace(process_settings, storage=str(tmp_path / "data"), auth=False)
    endpoint = registry.up(settings, registry_source, notify=quiet)
    assert endpoint.credentials is None
    push_blob(endpoint, b"weights")
    assert any((tmp_path / "data").rglob("blobs"))
    assert registry.known_endpoint(settings) == endpoint
    with pytest.raises(UsageError, match="auth is false"):
        registry.credentials(settings)


def test_a_registry_that_cannot_start_says_why(
    process_settings: RegistryTable, registry_source: BinarySource, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no disk today >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(MlpkgError, match="no disk today"):
        registry.up(process_settings, BinarySource(broken), notify=quiet)
    assert not registry.status(process_settings).running
    registry.up(process_settings, registry_source, notify=quiet)


def test_a_registry_that_never_answers_is_stopped_again(
    process_settings: RegistryTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "PATIENCE", 1.0)
    deaf = tmp_path / "deaf"
    deaf.write_text(f'#!/bin/sh\n[ "$1" = serve ] && echo $$ > {tmp_path}/pid && exec /bin/sleep 60\n')
    deaf.chmod(0o755)
    with pytest.raises(MlpkgError, match="does not answer on port"):
        registry.up(process_settings, BinarySource(deaf), notify=quiet)
    assert process.birth(int((tmp_path / "pid").read_text())) is None


def test_secrets_are_private_and_in_no_log(
    process_settings: RegistryTable, registry_source: BinarySource, state_home: Path
) -> None:
    lines: list[str] = []
    endpoint = registry.up(process_settings, registry_source, notify=lines.append)
    assert endpoint.credentials
    ask(endpoint, "GET", "/v2/try/manifests/none")
    password = endpoint.credentials.password
    assert password not in repr(endpoint) + repr(state.read_secrets(port_of(process_settings)))
    assert password not in "".join(lines) + process.log_tail(state.port_path(port_of(process_settings)))
    folder = state_home / "registry" / str(port_of(process_settings))
    assert [path.name for path in folder.iterdir() if path.is_file() and path.stat().st_mode & 0o077] == []
    assert folder.stat().st_mode & 0o777 == 0o700
    command = Path(f"/proc/{pid_of(process_settings)}/cmdline").read_bytes()
    assert password.encode() not in command


def test_the_callers_environment_does_not_configure_it(
    process_settings: RegistryTable, registry_source: BinarySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_HTTP_ADDR", "0.0.0.0:1")
    assert ask(registry.up(process_settings, registry_source, notify=quiet), "GET", "/v2/")[0] == 200


def test_a_grown_log_is_cut_while_the_registry_runs(
    process_settings: RegistryTable, registry_source: BinarySource
) -> None:
    registry.up(process_settings, registry_source, notify=quiet)
    folder = state.port_path(port_of(process_settings))
    with process.log_file(folder).open("ab") as log:
        log.write(b"x" * (process.LOG_LIMIT + 1))
    registry.up(process_settings, registry_source, notify=quiet)
    assert process.log_file(folder).stat().st_size < process.LOG_LIMIT
    assert (folder / "registry.log.1").stat().st_size == process.LOG_LIMIT


def test_two_starts_at_once_make_one_registry(
    process_settings: RegistryTable, registry_source: BinarySource
) -> None:
    found: list[Endpoint] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(registry.up(process_settings, registry_source, notify=quiet))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4
    assert len(set(found)) == 1
    assert registry_source.asked == ["binary"]


def test_an_interrupted_upload_goes_on_after_a_restart(
    process_settings: RegistryTable, registry_source: BinarySource
) -> None:
    """The fixed `http.secret`: without it the session would be unknown (distribution 2.8)."""
    endpoint = registry.up(process_settings, registry_source, notify=quiet)
    status, where = ask(endpoint, "POST", "/v2/try/blobs/uploads/")
    assert status == 202
    status, where = ask(endpoint, "PATCH", where.split(endpoint.address, 1)[1], b"half")
    assert status == 202
    registry.down(process_settings)
    registry.up(process_settings, registry_source, notify=quiet)
    assert ask(endpoint, "PATCH", where.split(endpoint.address, 1)[1], b"rest")[0] == 202


def test_a_start_that_cannot_be_remembered_leaves_nothing_running(
    process_settings: RegistryTable, registry_source: BinarySource
) -> None:
    """A full or broken state folder: the process would hold the port, and nobody would know it."""
    folder = state.port_path(port_of(process_settings))
    (folder / "state.json" / "in-the-way").mkdir(parents=True)
    with pytest.raises(MlpkgError, match="cannot be written"):
        registry.up(process_settings, registry_source, notify=quiet)
    assert not probe.stays_taken(port_of(process_settings))
    shutil.rmtree(folder / "state.json")
    assert ask(registry.up(process_settings, registry_source, notify=quiet), "GET", "/v2/")[0] == 200


@pytest.mark.parametrize("act", [registry.credentials, registry.down])
def test_a_state_folder_that_cannot_be_made(
    act: Callable[[RegistryTable], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLPKG_STATE_HOME", str(tmp_path / "file" / "state"))
    with pytest.raises(UsageError, match="cannot be written") as refused:
        act(RegistryTable(port=port))
    assert "MLPKG_STATE_HOME" in refused.value.hint


def test_a_lock_that_cannot_be_made(process_settings: RegistryTable, registry_source: BinarySource) -> None:
    (state.port_path(port_of(process_settings)) / "lock").mkdir(parents=True)
    with pytest.raises(UsageError, match="lock: cannot be written"):
        registry.up(process_settings, registry_source, notify=quiet)
    (state.port_path(port_of(process_settings)) / "lock").rmdir()
