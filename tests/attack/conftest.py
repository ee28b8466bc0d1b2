"""The environment of the attacks: caches of their own, no engine, so that the registry is a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .ground import Ground, ground


@pytest.fixture(scope="session")
def attack_environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("attack")
    return {
        "MLPKG_CACHE_HOME": str(home / "cache"),
        "MLPKG_STATE_HOME": str(home / "state"),
        "DOCKER_HOST": f"unix://{home}/no.sock",
    }


@pytest.fixture
def attacked(
    attack_environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ground]:
    for name, value in attack_environ.items():
        monkeypatch.setenv(name, value)
    with ground(tmp_path, attack_environ) as made:
        yield made
