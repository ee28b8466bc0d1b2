"""A package served on this machine: the folder it is served from is the image's, made of links."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlpkg.errors import UsageError
from mlpkg.local import application
from mlpkg.spec import workspace

SPEC = """
[package]
name = "p"
[[models]]
name = "m"
path = "model/{model}"
[entry]
script = "{script}"
source_directory = "src"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace that is one package."""
    for name in ("src/score.py", "src/other.py", "model/one/weights", "model/two/weights"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def laid_out(folder: Path, *, model: str, script: str = "score.py") -> Path:
    """The folder that the package would be served from."""
    (folder / "package.toml").write_text(SPEC.format(model=model, script=script))
    (package,) = workspace.load(folder).packages
    arguments, environ, app = application.command(package, Path(sys.executable), "127.0.0.1", 6789)
    assert arguments[0] == sys.executable
    assert environ["AZUREML_MODEL_DIR"] == str(app / "azureml-models/m/1")
    assert environ["MLPKG_PORT"] == "6789"
    assert Path(environ["PYTHONPATH"], "mlpkg/runtime/__main__.py").is_file()
    return app


def test_a_renamed_model_leaves_nothing_behind(folder: Path) -> None:
    app = laid_out(folder, model="one")
    inode = app.stat().st_ino
    (app / "written-by-the-service").touch()
    assert names(app / "azureml-models/m/1") == ["one"]
    assert laid_out(folder, model="two", script="other.py") == app
    assert names(app / "azureml-models/m/1") == ["two"]
    assert names(app) == ["azureml-models", "src"]
    assert app.stat().st_ino == inode, "a server that is at work in it keeps its working folder"


def test_links_are_removed_and_never_followed(folder: Path) -> None:
    app = laid_out(folder, model="one")
    laid_out(folder, model="one")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    app.rename(folder / "aside")
    app.symlink_to(elsewhere)
    laid_out(folder, model="two")
    assert not app.is_symlink()
    assert (elsewhere / "kept").is_file()
    for name in ("src/score.py", "src/other.py", "model/one/weights", "model/two/weights"):
        assert (folder / name).read_text() == name


def test_a_model_that_is_not_there(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"model/none: no such file"):
        laid_out(folder, model="none")
