"""The engine takes an image from the bundled registry by digest, with the generated credentials."""

from __future__ import annotations

import pytest

from mlpkg import engine
from mlpkg.errors import MlpkgError
from mlpkg.registry import bundled as registry
from mlpkg.spec.model import RegistryTable

from .asking import push_image, quiet
from .source import BinarySource

pytestmark = pytest.mark.docker


def test_pull_by_digest(process_settings: RegistryTable, registry_source: BinarySource) -> None:
    endpoint = registry.up(process_settings, registry_source, notify=quiet)
    reference = f"{endpoint.address}/try@{push_image(endpoint)}"
    assert endpoint.credentials
    login = (endpoint.credentials.username, endpoint.credentials.password)
    with pytest.MonkeyPatch.context() as with_engine:
        with_engine.delenv("DOCKER_HOST")  # the registry is a process here, the engine only a client
        if reason := engine.available():
            pytest.skip(reason)
        with pytest.raises(MlpkgError) as refused:
            engine.pull(reference, (login[0], "wrong-word"))
        assert "wrong-word" not in str(refused.value)
        loaded = engine.pull(reference, login)
        assert engine.image_id(reference) == loaded
        engine.remove_image(reference)
        assert engine.image_id(reference) is None
