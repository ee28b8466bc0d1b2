"""The wheel: what an installed mlpkg has with it, and that it works away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, built by its own build backend."""
    folder = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return folder / ran.stdout.split()[-1]


def test_templates_registry_types_and_command_are_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(name for name in names if name.endswith("/entry_points.txt"))
        assert "mlpkg = mlpkg.cli:main" in archive.read(metadata).decode()
    assert {
        "mlpkg/py.typed",
        "mlpkg/_data/templates/Dockerfile.j2",
        "mlpkg/_data/templates/dockerignore.j2",
        "mlpkg/_data/registry/package.toml",
        "mlpkg/runtime/__main__.py",
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "examples/", "dodo.py"))]


def test_an_installed_mlpkg_needs_no_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    package = tmp_path / "package"
    package.mkdir()
    (package / "package.toml").write_text('[package]\nname = "p"\n[entry]\nscript = "score.py"\n')
    (package / "score.py").write_text("def init(): ...\ndef run(data): ...\n")
    code = (
        "from pathlib import Path; from mlpkg.plan import resources, snapshot; from mlpkg.spec import workspace\n"
        f"assert Path(resources.__file__).is_relative_to({str(site)!r})\n"
        "assert resources.templates().keys() == {'Dockerfile.j2', 'dockerignore.j2'}\n"
        "assert (resources.data_folder('registry') / 'package.toml').is_file()\n"
        f"(package,) = workspace.load(Path({str(package)!r})).packages\n"
        "assert [entry.path for entry in snapshot.snapshot(package).runtime if entry.path == '__main__.py']\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(site)}
    subprocess.run([sys.executable, "-c", code], env=environ, cwd=tmp_path, timeout=60, check=True)
