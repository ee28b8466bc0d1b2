"""What changes under a run, what comes from elsewhere, and what is damaged: nothing untrue is ever recorded."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg import engine
from tests.ports import free_port

from .conftest import remove_traces
from .house import House, Workspace

pytestmark = pytest.mark.mirror


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.long
def test_a_spec_that_changes_during_the_run_is_not_planned(
    house: House, pushed: Workspace, tmp_path: Path
) -> None:
    workspace = house.workspace(tmp_path / "w")
    process = workspace.start("doit")
    assert process.stderr is not None
    assert any("choosing Python packages" in line for line in process.stderr)
    edit(workspace.package / "package.toml", 'name = "diabetes"\npath', 'name = "renamed"\npath')
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "package.toml: changed since the run began" in out + err
    workspace.doit()
    assert "org.mlpkg.model.renamed" in workspace.record("image.json")["config"]


@pytest.mark.long
def test_requirements_that_change_while_they_are_locked_are_not_locked(
    house: House, pushed: Workspace, tmp_path: Path
) -> None:
    workspace = house.workspace(tmp_path / "w")
    process = workspace.start("doit", "lock")
    assert process.stderr is not None
    assert any("choosing Python packages" in line for line in process.stderr)
    edit(workspace.package / "requirements.txt", "joblib==1.5.2", "joblib==1.5.1")
    process.communicate(timeout=120)
    assert process.returncode == 1
    workspace.doit("lock")
    assert "joblib==1.5.1 " in (workspace.package / "requirements.lock").read_text()


@pytest.mark.long
def test_a_committed_lock_serves_a_machine_with_nothing(
    house: House, pushed: Workspace, tmp_path: Path
) -> None:
    """Another cache, another registry: all layers are made again from the lock, and are the same."""
    bare = House(tmp_path / "cache", tmp_path / "state", free_port())
    workspace = bare.workspace(tmp_path / "w")
    for name in ("package.lock", "requirements.lock"):
        shutil.copy(pushed.package / name, workspace.package)
    settings = workspace.folder / "mlpkg.toml"
    settings.write_text(settings.read_text() + f'storage = "{tmp_path / "storage"}"\n')
    try:
        run = workspace.doit()
        assert "fits: " in run.out
        assert workspace.digest() == pushed.digest()
        assert (run.out + run.err).count("installing 6 Python packages") == 1
        assert (workspace.package / "package.lock").read_text() == (
            pushed.package / "package.lock"
        ).read_text()
    finally:
        workspace.mlpkg("registry", "down", code=None)
        if engine.available() is None:
            remove_traces(bare.port)


def test_a_lost_requirements_lock_is_written_again(workspace: Workspace) -> None:
    path = workspace.package / "requirements.lock"
    text = path.read_text()
    path.unlink()
    workspace.doit("lock")
    assert path.read_text() == text
    path.write_text("junk")
    workspace.doit("lock")
    assert path.read_text() == text


def test_a_lock_in_conflict_is_never_replaced(workspace: Workspace) -> None:
    path = workspace.package / "package.lock"
    text = path.read_text()
    path.write_text(f"<<<<<<< ours\n{text}=======\n{text}>>>>>>> theirs\n")
    broken = path.read_text()
    run = workspace.mlpkg("lock", code=2)
    assert "merge conflict" in run.err
    assert path.read_text() == broken
    workspace.mlpkg("lock", "--upgrade")
    assert path.read_text().startswith("{")


@pytest.mark.long
def test_a_debian_package_that_is_no_longer_asked_for_goes(workspace: Workspace) -> None:
    spec = workspace.package / "package.toml"
    edit(spec, '"requirements.txt"', '"requirements.txt"\ndebian = ["libgomp1", "jq"]')
    workspace.doit("build")
    assert "system" in workspace.made()
    assert '"jq"' in (workspace.package / "package.lock").read_text()
    edit(spec, '["libgomp1", "jq"]', '["libgomp1"]')
    workspace.doit("build")
    assert '"jq"' not in (workspace.package / "package.lock").read_text()
    assert '"libgomp1"' in (workspace.package / "package.lock").read_text()


@pytest.mark.parametrize("target", ["examples/diabetes/model/deep/diabetes.joblib", "ABSOLUTE"])
@pytest.mark.long
def test_makers_come_first_however_their_target_is_spelled(workspace: Workspace, target: str) -> None:
    """A model folder that is not there yet, and a target given as an absolute path."""
    shutil.rmtree(workspace.package / "model")
    tasks = workspace.folder / "examples" / "tasks.py"
    if target == "ABSOLUTE":
        edit(tasks, '"targets": [model]', '"targets": [str(__import__("pathlib").Path(model).absolute())]')
    else:
        edit(workspace.package / "package.toml", '"model/diabetes.joblib"', '"model"')
        edit(tasks, "/model/diabetes.joblib", "/model/deep/diabetes.joblib")
    run = workspace.doit("build:diabetes")
    assert run.done[0] == "train:diabetes"
    assert workspace.mlpkg("plan", "--json").json()[0]["would_run"]["build"] == []


def test_bad_input_is_refused_before_training_in_a_built_workspace_too(workspace: Workspace) -> None:
    edit(workspace.package / "package.toml", '"score.py"', '"nope.py"')
    edit(workspace.package / "train.py", "alpha=0.03", "alpha=0.04")
    run = workspace.doit(code=2)
    assert "entry.script" in run.err
    assert run.done == []


def test_a_doit_config_of_ones_own_is_ones_own(workspace: Workspace) -> None:
    dodo = workspace.folder / "dodo.py"
    text = dodo.read_text()
    dodo.write_text(text + '\nDOIT_CONFIG = {**DOIT_CONFIG, "default_tasks": ["push"]}\n')
    assert workspace.doit().done == []
    dodo.write_text(text + '\nDOIT_CONFIG = {"verbosity": 2, "backend": "json", "dep_file": "own.json"}\n')
    digest = workspace.digest()
    assert "nothing to do" not in workspace.doit("push").out, "doit's own reporter knows no reports"
    assert workspace.digest() == digest


@pytest.mark.parametrize("command", ["doit", "mlpkg"])
@pytest.mark.long
def test_a_killed_worker_ends_the_run(house: House, pushed: Workspace, tmp_path: Path, command: str) -> None:
    workspace = house.workspace(tmp_path / "w")
    arguments = ["-n", "2"] if command == "doit" else ["push", "-n", "2"]
    process = workspace.start(command, *arguments)
    assert process.stderr is not None
    assert any("choosing" in line for line in process.stderr)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    begun = time.monotonic()
    try:
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert time.monotonic() - begun < 20
    assert "a worker process was killed by signal 9" in err
    assert process.returncode not in (0, 3)
    workspace.doit("-n", "2")
    assert workspace.digest() == pushed.digest()


def test_a_workspace_that_cannot_be_written_is_a_usage_error(workspace: Workspace) -> None:
    shutil.rmtree(workspace.folder / ".mlpkg")
    (workspace.folder / ".mlpkg").write_text("a file")
    run = workspace.mlpkg("push", code=2)
    assert "must be writable" in run.err
    assert "Traceback" not in run.err


@pytest.mark.long
def test_a_package_folder_that_is_a_link(house: House, pushed: Workspace, tmp_path: Path) -> None:
    workspace = house.workspace(tmp_path / "w")
    real = tmp_path / "elsewhere"
    shutil.move(workspace.package, real)
    workspace.package.symlink_to(real)
    workspace.doit()
    assert workspace.digest() == pushed.digest()


@pytest.mark.long
def test_records_of_two_workspaces_do_not_mix(house: House, pushed: Workspace, tmp_path: Path) -> None:
    other = replace(house, cache=house.cache).workspace(tmp_path / "w")
    edit(other.package / "score.py", "tolist()", "tolist()  # other")
    other.doit()
    assert other.digest() != pushed.digest()
    assert pushed.doit("build").done == []
