"""One house for each process that runs tests: the first run in any is cold, and a house's registry starts once.

All processes of a run share the cache, as a user's workspaces do; the registry and its state are each one's own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mlpkg import engine
from mlpkg.registry import container
from tests.ports import free_port
from tests.sharing import one_at_a_time, run_folder

from .house import House, Workspace


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    house = House(run_folder(tmp_path_factory) / "house-cache", folder / "state", free_port())
    yield house
    keeper = house.workspace(folder / "keeper")
    keeper.mlpkg("registry", "down", code=None)
    if engine.available() is None:
        remove_traces(house.port)


def remove_traces(port: int) -> None:
    """The registry's container, volumes and what was pulled from it."""
    import docker

    engine.remove(container.container_name(port))
    engine.remove_volume(container.volume_name(port))
    engine.remove_volume(container.volume_name(port) + "-config")
    client = docker.from_env()
    try:
        for image in client.images.list():
            for name in image.attrs.get("RepoDigests") or []:
                if name.startswith(f"127.0.0.1:{port}/"):
                    # Another session may be running the same image: then only our name of it goes.
                    with suppress(docker.errors.APIError):
                        client.images.remove(name)
    finally:
        client.close()


@pytest.fixture(scope="session")
def pushed(house: House, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace that was built and pushed. Tests only look at it."""
    workspace = house.workspace(tmp_path_factory.mktemp("pushed") / "workspace")
    # Who comes first fills the cache; who comes second would else do the same beside it.
    with one_at_a_time(house.cache):
        workspace.doit()
    return workspace


@pytest.fixture
def workspace(house: House, pushed: Workspace, tmp_path: Path) -> Workspace:
    """A workspace of one's own that was built and pushed, and copied, before the test begins."""
    folder = tmp_path / "workspace"
    shutil.copytree(pushed.folder, folder, symlinks=True)
    return Workspace(folder, house)
