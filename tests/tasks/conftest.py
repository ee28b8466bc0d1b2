"""One cache for all tests of this folder; a workspace of one's own for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from .place import Place


@pytest.fixture(scope="session")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("home")
    return {"MLPKG_CACHE_HOME": str(home / "cache"), "MLPKG_STATE_HOME": str(home / "state")}


@pytest.fixture(scope="session")
def lock(environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package.lock that fits every package of `Place.package`; its layers are in the cache."""
    place = Place(tmp_path_factory.mktemp("locked"), environ)
    place.write("mlpkg.toml", "")
    folder = place.package()
    place.mlpkg("lock", "p")
    return folder / "package.lock"


@pytest.fixture
def place(environ: dict[str, str], lock: Path, tmp_path: Path) -> Place:
    """A workspace with the package `p`."""
    found = Place(tmp_path / "w", environ)
    found.write("mlpkg.toml", "")
    found.write("dodo.py", "from mlpkg.tasks import *\n")
    found.package(lock=lock)
    return found
