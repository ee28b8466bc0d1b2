"""The bundled registry as a container: the same promises, kept by the engine."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg import engine
from mlpkg.errors import Unreachable, UsageError
from mlpkg.registry import bundled as registry
from mlpkg.registry import container, probe, state
from mlpkg.spec.model import RegistryTable

from .asking import ask, port_of, push_blob, quiet
from .source import BinarySource

pytestmark = pytest.mark.docker


@pytest.mark.long
def test_up_answers_only_with_the_credentials(
    container_settings: RegistryTable, registry_source: BinarySource
) -> None:
    endpoint = registry.up(container_settings, registry_source, notify=quiet)
    assert ask(endpoint, "GET", "/v2/")[0] == 200
    assert ask(endpoint, "GET", "/v2/", login=False)[0] == 401
    assert registry.known_endpoint(container_settings) == endpoint
    said = registry.status(container_settings)
    assert (said.running, said.mode) == (True, "container")
    assert said.version
    assert said.version.startswith(("2.", "3."))
    assert json.loads(json.dumps(said.to_json()))["storage"].startswith("volume ")


def test_it_is_confined_and_holds_no_secret(
    container_settings: RegistryTable, registry_source: BinarySource
) -> None:
    endpoint = registry.up(container_settings, registry_source, notify=quiet)
    push_blob(endpoint, b"weights")
    assert endpoint.credentials
    name = container.container_name(port_of(container_settings))
    text = subprocess.run(["docker", "inspect", name], capture_output=True, text=True, check=True).stdout
    secrets = state.read_secrets(port_of(container_settings))
    assert secrets
    assert not any(word in text for word in (secrets.password, secrets.http, secrets.htpasswd.strip()))
    value = json.loads(text)[0]
    assert value["HostConfig"]["ReadonlyRootfs"]
    assert value["HostConfig"]["CapDrop"] == ["ALL"]
    assert value["Config"]["User"] == "65532:65532"
    assert value["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    (found,) = engine.find(f"{container.LABEL}={port_of(container_settings)}")
    assert dict(found.ports) == {5000: ("127.0.0.1", port_of(container_settings))}


def test_data_and_identity_outlive_the_container(
    container_settings: RegistryTable, registry_source: BinarySource
) -> None:
    first = registry.up(container_settings, registry_source, notify=quiet)
    blob = push_blob(first, b"weights")
    assert registry.up(container_settings, registry_source, notify=quiet) == first
    assert registry_source.asked == ["image"]
    assert registry.down(container_settings)
    assert engine.inspect(container.container_name(port_of(container_settings))) is None
    assert not registry.down(container_settings)
    assert registry.known_endpoint(container_settings) == first
    second = registry.up(container_settings, registry_source, notify=quiet)
    assert second == first
    assert ask(second, "HEAD", blob)[0] == 200


def test_a_running_registry_is_confirmed_without_the_engine(
    container_settings: RegistryTable, registry_source: BinarySource, state_home: Path
) -> None:
    first = registry.up(container_settings, registry_source, notify=quiet)
    code = (
        "import sys; from mlpkg.registry import bundled as registry; from mlpkg.spec.model import RegistryTable; "
        f"print(registry.up(RegistryTable(port={port_of(container_settings)}), None, notify=print).instance, "
        "'docker' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [first.instance, "False"]


def test_a_stopped_container_is_started_again(
    container_settings: RegistryTable, registry_source: BinarySource
) -> None:
    first = registry.up(container_settings, registry_source, notify=quiet)
    engine.stop(container.container_name(port_of(container_settings)))
    assert not registry.status(container_settings).running
    assert registry.up(container_settings, registry_source, notify=quiet) == first
    assert registry_source.asked == ["image"]


def test_a_removed_volume_is_another_instance(
    container_settings: RegistryTable, registry_source: BinarySource
) -> None:
    first = registry.up(container_settings, registry_source, notify=quiet)
    registry.down(container_settings)
    engine.remove_volume(container.volume_name(port_of(container_settings)))
    second = registry.up(container_settings, registry_source, notify=quiet)
    assert second.instance != first.instance
    assert registry.known_endpoint(container_settings) == second


def test_a_lost_state_file_is_made_again(
    container_settings: RegistryTable, registry_source: BinarySource
) -> None:
    first = registry.up(container_settings, registry_source, notify=quiet)
    (state.port_path(port_of(container_settings)) / "state.json").write_text("{torn")
    assert registry.known_endpoint(container_settings) is None
    assert registry.up(container_settings, registry_source, notify=quiet) == first
    assert registry.known_endpoint(container_settings) == first
    assert registry_source.asked == ["image"]


@pytest.mark.long
def test_lost_secrets_stop_nothing(
    container_settings: RegistryTable,
    registry_source: BinarySource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = registry.up(container_settings, registry_source, notify=quiet)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("MLPKG_STATE_HOME", str(tmp_path / "other"))
        with pytest.raises(UsageError, match=f"port {port_of(container_settings)}"):
            registry.up(container_settings, registry_source, notify=quiet)
    assert ask(first, "GET", "/v2/")[0] == 200


def test_a_storage_folder_is_the_same_registry_in_both_ways(
    container_settings: RegistryTable,
    registry_source: BinarySource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = replace(container_settings, storage=str(tmp_path / "data"))
    first = registry.up(settings, registry_source, notify=quiet)
    assert registry.status(settings).mode == "container"
    blob = push_blob(first, b"weights")
    registry.down(settings)
    with monkeypatch.context() as without:
        without.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
        second = registry.up(settings, registry_source, notify=quiet)
    try:
        assert registry.status(settings).mode == "process"
        assert second == first
        assert ask(second, "HEAD", blob)[0] == 200
    finally:
        registry.down(settings)


def test_a_change_to_a_process_is_told_and_is_another_instance(
    container_settings: RegistryTable,
    registry_source: BinarySource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = registry.up(container_settings, registry_source, notify=quiet)
    registry.down(container_settings)
    lines: list[str] = []
    with monkeypatch.context() as without:
        without.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
        second = registry.up(container_settings, registry_source, notify=lines.append)
    assert second.instance != first.instance
    assert "no Docker engine answers" in "\n".join(lines)
    assert container.volume_name(port_of(container_settings)) in "\n".join(lines)
    registry.down(container_settings)
    assert registry.up(container_settings, registry_source, notify=quiet) == second
    assert registry.down(container_settings)


def test_a_container_that_came_back_first_is_told(
    container_settings: RegistryTable,
    registry_source: BinarySource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine restarts the container after a reboot; a process had taken its place meanwhile."""
    first = registry.up(container_settings, registry_source, notify=quiet)
    name = container.container_name(port_of(container_settings))
    engine.stop(name)
    with monkeypatch.context() as without:
        without.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
        registry.up(container_settings, registry_source, notify=quiet)
        registry.down(container_settings)
    engine.start(name)
    login = registry.credentials(container_settings).credentials
    assert login
    assert probe.wait(port_of(container_settings), (login.username, login.password), lambda: True)
    lines: list[str] = []
    assert registry.up(container_settings, registry_source, notify=lines.append) == first
    assert "runs again" in "\n".join(lines)


def test_the_port_answers_and_the_engine_does_not(
    container_settings: RegistryTable,
    registry_source: BinarySource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry.up(container_settings, registry_source, notify=quiet)
    assert registry.status(container_settings).note is None
    with monkeypatch.context() as without:
        without.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
        said = registry.status(container_settings)
        assert said.running, "it answers, with its own password"
        assert said.note
        assert said.note.startswith(
            "it answers, and the engine that runs it cannot be asked: no Docker engine"
        )
        with pytest.raises(Unreachable):
            registry.down(container_settings)
    registry.down(container_settings)
    with monkeypatch.context() as without:
        without.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
        said = registry.status(container_settings)
        assert not said.running
        assert said.note
        assert "cannot be asked" in said.note
