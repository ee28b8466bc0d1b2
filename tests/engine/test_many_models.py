"""An image of more models than an engine takes layers: the engine itself is asked."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from mlpkg import engine
from mlpkg.builders import direct
from mlpkg.builders.archive import archive
from mlpkg.builders.sources import Sources, layer_stream
from mlpkg.digest import sha256
from mlpkg.lockfile import PackageLock
from mlpkg.plan.plan import plan
from mlpkg.spec.listing import Snapshot, SourceEntry
from mlpkg.spec.model import ModelTable, PackageSpec, PackageTable, ServerTable

pytestmark = pytest.mark.docker

COUNT = 300


@pytest.fixture
def name() -> Iterator[str]:
    if reason := engine.available():
        pytest.skip(reason)
    name = f"mlpkg-test:{uuid.uuid4().hex}"
    yield name
    engine.remove_image(name)


@pytest.mark.long
def test_the_engine_takes_300_models(name: str, tmp_path: Path) -> None:
    models = tuple(ModelTable(name=f"m{number:03}", path=f"m{number:03}.bin") for number in range(COUNT))
    for model in models:
        (tmp_path / model.path).write_text(model.name)
    spec = PackageSpec(
        package=PackageTable(name="many"), models=models, server=ServerTable(kind="custom", command=("/x",))
    )
    lock = PackageLock(sha256(b""), "trixie", "linux/amd64", "", (), (), (), (), ())
    files = tuple((SourceEntry(model.path, len(model.name)),) for model in models)
    planned = plan(spec, lock, Snapshot(models=files, model_is_folder=(False,) * COUNT))
    sources = Sources(tmp_path, tmp_path, tmp_path)
    built = direct.build(planned, sources, None, {}).image

    def no_lock(layer: str) -> Iterator[bytes]:
        raise AssertionError(layer)

    engine.load(archive(built, lambda layer: layer_stream(layer, sources, no_lock), [name]))
    client = docker.from_env()
    try:
        loaded = client.images.get(name)
        assert len(loaded.attrs["RootFS"]["Layers"]) == len(built.layers) <= 127
        assert len([label for label in loaded.labels if label.startswith("org.mlpkg.model.")]) == COUNT
        # The engine mounts all layers at once for a container, even one that is never started.
        container = client.containers.create(name)
        try:
            pieces, _ = container.get_archive("/var/azureml-app/azureml-models/m299/1/m299.bin")
            assert b"m299" in b"".join(pieces)
        finally:
            container.remove()
    finally:
        client.close()
