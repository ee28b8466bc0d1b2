"""Mistakes: refused before any work, with the place and what to do, and exit 2; nothing built is lost."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from .house import House, Workspace

pytestmark = pytest.mark.mirror


@pytest.fixture
def fresh(house: House, tmp_path: Path) -> Workspace:
    return house.workspace(tmp_path / "fresh")


def spoil(workspace: Workspace, old: str, new: str, name: str = "package.toml") -> None:
    path = workspace.package / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[entry]", '[entry]\nscrpt = "x"', "entry.scrpt"),
        ('version = "1.0.0"', "version = 1", "package.version"),
        ('version = "1.0.0"', 'version = "1.0 beta"', "package.version"),
        ('name = "diabetes"\nversion', 'name = "Dia betes"\nversion', "package.name"),
        ('"model/diabetes.joblib"', '"../../outside.joblib"', "models[0].path"),
        ('"requirements.txt"', '"requirements.txt"\nconda = "environment.yml"', "environment"),
        ("[package]", "[package", "package.toml:1"),
    ],
)
@pytest.mark.long
def test_a_wrong_spec(fresh: Workspace, old: str, new: str, said: str) -> None:
    spoil(fresh, old, new)
    for command in (fresh.doit("push", code=2), fresh.mlpkg("push", code=2)):
        assert said in command.err
        assert "examples/diabetes/package.toml" in command.err
        assert "Traceback" not in command.err
        assert command.done == []
    assert not (fresh.package / "package.lock").exists()


def test_a_model_that_nobody_makes(fresh: Workspace) -> None:
    spoil(fresh, '"model/diabetes.joblib"', '"model/other.joblib"')
    for command in (fresh.doit(code=2), fresh.mlpkg("push", code=2)):
        assert 'models[0].path: "model/other.joblib" does not exist, and no task makes it' in command.err
        assert command.done == []


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("def init(:\n", "score.py"),
        ("def run(data):\n    return data\n", "init"),
        ("def init():\n    pass\n", "run"),
        ("def init():\n    pass\ndef run():\n    pass\n", "run"),
    ],
)
def test_a_wrong_entry_script(fresh: Workspace, script: str, said: str) -> None:
    (fresh.package / "score.py").write_text(script)
    run = fresh.mlpkg("build", code=2)
    assert said in run.err
    assert "Traceback" not in run.err
    assert not (fresh.package / "package.lock").exists()


def test_a_script_that_breaks_later_loses_nothing(workspace: Workspace) -> None:
    digest = workspace.digest()
    spoil(workspace, "def run(data: str)", "def run(data: str", "score.py")
    run = workspace.mlpkg("push", code=2)
    assert "score.py" in run.err
    spoil(workspace, "def run(data: str", "def run(data: str)", "score.py")
    again = workspace.mlpkg("push")
    assert again.done in ([], ["build:diabetes"])  # doit forgets a task that failed; the record does not
    assert "kept" not in again.err
    assert workspace.digest() == digest


def test_an_absent_script_and_requirements_at_once(fresh: Workspace) -> None:
    (fresh.package / "score.py").unlink()
    (fresh.package / "requirements.txt").unlink()
    spoil(fresh, "scikit", "scikit", "train.py")
    run = fresh.mlpkg("lock", code=2)
    assert "entry.script" in run.err
    assert "environment.requirements" in run.err


def test_an_unknown_package(fresh: Workspace) -> None:
    assert "did you mean diabetes?" in fresh.mlpkg("build", "diabets", code=2).err


def test_no_workspace(house: House, tmp_path: Path) -> None:
    empty = Workspace(tmp_path, house)
    run = empty.mlpkg("build", code=2)
    assert "no workspace here" in run.err
    assert run.out == ""


def test_a_requirement_without_a_wheel(fresh: Workspace) -> None:
    (fresh.package / "requirements.txt").write_text("docopt==0.6.2\n")
    run = fresh.mlpkg("lock", code=2)
    assert "docopt" in run.err
    assert "linux/amd64" in run.err
    assert not (fresh.package / "package.lock").exists()


def test_a_mirror_that_does_not_answer_is_exit_4(house: House, tmp_path: Path) -> None:
    workspace = house.workspace(tmp_path / "fresh")
    settings = workspace.folder / "mlpkg.toml"
    settings.write_text(settings.read_text() + '[debian]\nmirror = "http://127.0.0.1:9/debian"\n')
    run = workspace.mlpkg("lock", code=4)
    assert "127.0.0.1:9" in run.err


@pytest.mark.long
def test_a_registry_port_that_is_taken(house: House, tmp_path: Path) -> None:
    from dataclasses import replace

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        workspace = replace(house, state=tmp_path / "state", port=port).workspace(tmp_path / "fresh")
        run = workspace.mlpkg("push", code=2)
        assert str(port) in run.err
        assert "[registry] port" in run.err
        assert (workspace.folder / ".mlpkg/diabetes/image.json").exists(), "what was built is kept"


def test_json_says_the_error_too(fresh: Workspace) -> None:
    run = fresh.mlpkg("build", "diabets", "--json", code=2)
    assert run.json()["exit_code"] == 2
