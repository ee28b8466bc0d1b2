"""Shared by all tests: what a test needs from the machine, and that CI does not silently go without it."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

import pytest


@cache
def lacking(need: str) -> str | None:
    """Why the machine cannot serve a need, or None."""
    if need == "docker":
        from mlpkg import engine

        return engine.available()
    return None if shutil.which(need) else f"the program {need} is not installed"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests come with the marker `docker` when they use the engine: skipped where there is none, but not in CI."""
    for item in items:
        if item.get_closest_marker("docker") is None:
            continue
        reason = lacking("docker")
        if reason and not os.environ.get("CI"):
            item.add_marker(pytest.mark.skip(reason=f"no Docker engine: {reason}"))


@pytest.fixture(scope="session")
def registry_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real registry: this machine's `docker-registry`, else the one that mlpkg takes out of Debian's package."""
    found = shutil.which("docker-registry")
    if found:
        return Path(found)
    from mlpkg.registry.own_image import BundledSource
    from mlpkg.spec.model import WorkspaceSpec

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLPKG_STATE_HOME", str(tmp_path_factory.mktemp("registry-program")))
        return BundledSource(WorkspaceSpec(), lambda _: None).binary()
