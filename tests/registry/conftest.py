"""Settings and a source for a real registry, stopped and removed after each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlpkg import engine
from mlpkg.registry import bundled as registry
from mlpkg.registry import container
from mlpkg.registry.own_image import BundledSource
from mlpkg.spec.model import RegistryTable, WorkspaceSpec
from tests.ports import free_port

from .source import BinarySource


@pytest.fixture(scope="session")
def packed() -> Iterator[set[str]]:
    """The digests of the images that were made; removed from the engine at the end."""
    digests: set[str] = set()
    yield digests
    for digest in digests:
        engine.remove_image(f"mlpkg-registry:{digest.removeprefix('sha256:')}")


@pytest.fixture
def registry_source(packed: set[str], registry_program: Path) -> BinarySource:
    return BinarySource(registry_program, packed)


@pytest.fixture(scope="session")
def shipped_lock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lock of the registry's own image, chosen once for all tests."""
    home = tmp_path_factory.mktemp("shipped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLPKG_STATE_HOME", str(home))
        BundledSource(WorkspaceSpec(), lambda _: None).binary()
    return home / "registry-image"


@pytest.fixture
def shipped(shipped_lock: Path, state_home: Path) -> BundledSource:
    """What users get: the image that mlpkg builds, and the program out of it."""
    shutil.copytree(shipped_lock, state_home / "registry-image")
    return BundledSource(WorkspaceSpec(), lambda _: None)


@pytest.fixture(params=["process", pytest.param("container", marks=pytest.mark.docker)])
def settings(request: pytest.FixtureRequest) -> RegistryTable:
    """Settings of a registry of either kind."""
    made: RegistryTable = request.getfixturevalue(f"{request.param}_settings")
    return made


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "state"
    monkeypatch.setenv("MLPKG_STATE_HOME", str(home))
    return home


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")


@pytest.fixture
def process_settings(no_engine: None, port: int) -> Iterator[RegistryTable]:
    """Settings of a registry that runs as a process and is stopped afterwards."""
    settings = RegistryTable(port=port)
    yield settings
    registry.down(settings)


@pytest.fixture
def container_settings(port: int) -> Iterator[RegistryTable]:
    """Settings of a registry that runs as a container; it and its volumes are removed afterwards."""
    reason = engine.available()
    if reason:
        pytest.skip(reason)
    settings = RegistryTable(port=port)
    yield settings
    registry.down(settings)
    engine.remove(container.container_name(port))
    engine.remove_volume(container.volume_name(port))
    engine.remove_volume(container.config_volume(port))
