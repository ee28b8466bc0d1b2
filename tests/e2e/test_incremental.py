"""What runs again, and what does not: the promise of the project, on the real example."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg import engine
from tests.ports import free_port

from .conftest import remove_traces
from .house import House, Workspace

pytestmark = pytest.mark.mirror

STEPS = [f"{step}:diabetes" for step in ("lock", "render", "build", "tag", "push")]


def test_the_first_run_does_every_step_and_ends_with_a_table(
    pushed: Workspace, house: House, tmp_path: Path
) -> None:
    fresh = house.workspace(tmp_path / "fresh")
    run = fresh.doit()
    assert run.done == ["train:diabetes", *STEPS]
    table = run.out[run.out.index("step     package") :].splitlines()
    assert [line.split()[0] for line in table[1:6]] == ["lock", "render", "build", "tag", "push"]
    assert all(re.search(r"\d+\.\d\d s +(-|\d+(\.\d)? (B|kB|MB))$", line) for line in table[1:6])
    # Another folder, another day in principle: the same image.
    assert fresh.digest() == pushed.digest()


def test_the_second_run_does_nothing_and_loads_nothing_slow(workspace: Workspace) -> None:
    run = workspace.doit()
    assert [line for line in run.out.splitlines() if not line.startswith("-- ")] == []
    environ = {**workspace.house.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    traced_run = subprocess.run(
        [sys.executable, "-m", "doit"],
        cwd=workspace.folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = {
        line.rsplit("|", 1)[1].strip().split(".")[0] for line in traced_run.stderr.splitlines() if "|" in line
    }
    assert "mlpkg" in loaded
    assert not loaded & {
        "docker",
        "jinja2",
        "rich",
        "urllib3",
        "requests",
        "debian",
        "pysequoia",
        "packaging",
    }


def test_a_changed_script_makes_the_code_layer_only(workspace: Workspace) -> None:
    with (workspace.package / "score.py").open("a") as script:
        script.write("# changed\n")
    run = workspace.doit()
    assert run.done == ["build:diabetes", "tag:diabetes", "push:diabetes"]
    assert workspace.made() == ["code"]
    assert "kept: base, bytecode, wheel:scipy, wheels, runtime, model:diabetes:1" in run.out


def test_a_changed_requirement_locks_again_and_makes_the_environment_only(workspace: Workspace) -> None:
    path = workspace.package / "requirements.txt"
    path.write_text(path.read_text().replace("joblib==1.5.2", "joblib==1.5.1"))
    before = (workspace.package / "package.lock").read_text()
    run = workspace.doit()
    # The example's training reads the requirements too; it gives the same model, and the model's layer stays.
    assert run.done == ["train:diabetes", *STEPS]
    assert workspace.made() == ["wheels"]
    after = (workspace.package / "package.lock").read_text()
    assert [line for line in before.splitlines() if "pool/" in line] == [
        line for line in after.splitlines() if "pool/" in line
    ]
    moved = {
        line.split('"')[3]
        for line in set(after.splitlines()) ^ set(before.splitlines())
        if '"filename"' in line
    }
    assert moved == {"joblib"}


def test_a_comment_in_the_requirements_moves_nothing(workspace: Workspace) -> None:
    with (workspace.package / "requirements.txt").open("a") as file:
        file.write("# a comment\n")
    run = workspace.doit()
    assert run.done == ["train:diabetes", "lock:diabetes", "render:diabetes"]
    assert "the plan is the same" in run.out


def test_another_model_makes_the_models_layer_only(workspace: Workspace) -> None:
    train = workspace.package / "train.py"
    train.write_text(train.read_text().replace("alpha=0.03", "alpha=0.5"))
    run = workspace.doit()
    assert run.done == ["train:diabetes", "build:diabetes", "tag:diabetes", "push:diabetes"]
    assert workspace.made() == ["model:diabetes:1"]


def test_a_touched_file_runs_nothing(workspace: Workspace) -> None:
    for name in ("score.py", "model/diabetes.joblib", "package.toml", "requirements.txt"):
        os.utime(workspace.package / name)
    assert workspace.doit("push").done == []


def test_a_comment_in_the_spec_renders_again_and_goes_no_further(workspace: Workspace) -> None:
    with (workspace.package / "package.toml").open("a") as file:
        file.write("# a comment\n")
    run = workspace.doit()
    assert run.done == ["render:diabetes"]
    assert "the plan is the same" in run.out


def test_new_tags_read_nothing_again(workspace: Workspace) -> None:
    path = workspace.package / "package.toml"
    before = workspace.digest()
    path.write_text(path.read_text().replace('version = "1.0.0"', 'version = "1.0.0"\ntags = ["candidate"]'))
    workspace.doit()
    assert workspace.digest() == before
    assert workspace.record("push.json")["tags"] == ["1.0.0", "candidate"]


def test_a_vanished_model_is_made_by_the_users_task_first(workspace: Workspace) -> None:
    (workspace.package / "model/diabetes.joblib").unlink()
    before = workspace.digest()
    run = workspace.doit("push:diabetes")
    assert run.done[0] == "train:diabetes"
    assert workspace.digest() == before


def test_records_decide_when_doits_database_is_lost(workspace: Workspace) -> None:
    for path in workspace.folder.glob(".doit.sqlite*"):
        path.unlink()
    run = workspace.doit("push")
    said = [line.strip() for line in run.out.splitlines() if line.startswith("     ")]
    assert said == ["nothing to do"] * len([name for name in run.done if name != "train:diabetes"])


def test_a_torn_database_and_torn_records_only_cost_time(workspace: Workspace) -> None:
    digest = workspace.digest()
    for path in (workspace.folder / ".mlpkg" / "diabetes").glob("*.json"):
        path.write_bytes(path.read_bytes()[:20])
    workspace.doit("push")
    assert workspace.digest() == digest


@pytest.mark.long
def test_two_workers_give_the_same_image(house: House, pushed: Workspace, tmp_path: Path) -> None:
    two = house.workspace(tmp_path / "two")
    two.doit("-n", "2")
    assert two.digest() == pushed.digest()
    assert two.doit("-n", "2").done == []


@pytest.mark.long
def test_a_killed_run_is_taken_up_where_it_stopped(house: House, pushed: Workspace, tmp_path: Path) -> None:
    killed = house.workspace(tmp_path / "killed")
    process = killed.start("doit", start_new_session=True)
    lock = killed.folder / ".mlpkg" / "diabetes" / "lock.json"
    end = time.monotonic() + 120
    while not lock.exists() and time.monotonic() < end:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    run = killed.doit()
    assert killed.digest() == pushed.digest()
    assert "lock:diabetes" not in run.done, "what was recorded is not done again"


def test_a_second_run_waits_for_the_first(workspace: Workspace) -> None:
    path = workspace.folder / ".mlpkg" / ".lock"
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write("4711\n")
        file.flush()
        process = workspace.start("doit")
        assert process.stderr is not None
        assert "waiting for process 4711" in process.stderr.readline()
        assert workspace.doit("list").code == 0  # readers do not wait
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


def test_what_doit_users_type(workspace: Workspace) -> None:
    listed = workspace.doit("list", "--all").out
    assert all(step in listed for step in STEPS)
    assert "build" in workspace.doit("list").out
    assert "push:diabetes" in workspace.doit("info", "push:diabetes").out
    assert workspace.doit("build:diabetes").done == []
    workspace.doit("clean", "build")
    assert not (workspace.folder / ".mlpkg/diabetes/image.json").exists()
    assert (workspace.package / "package.lock").exists()
    assert workspace.doit("build").done == ["build:diabetes"]


@pytest.mark.long
def test_a_wiped_registry_is_filled_again(pushed: Workspace, tmp_path: Path) -> None:
    house = House(pushed.house.cache, tmp_path / "state", free_port())
    workspace = house.workspace(tmp_path / "workspace")
    settings = workspace.folder / "mlpkg.toml"
    storage = tmp_path / "storage"
    settings.write_text(settings.read_text() + f'storage = "{storage}"\n')
    try:
        workspace.doit()
        workspace.mlpkg("registry", "down")
        shutil.rmtree(storage)
        run = workspace.doit()
        assert run.done == ["push:diabetes"]
        assert workspace.record("push.json")["bytes"] > 200_000_000
    finally:
        workspace.mlpkg("registry", "down", code=None)
        if engine.available() is None:
            remove_traces(house.port)


@pytest.mark.parametrize("command", ["doit", "mlpkg"])
@pytest.mark.long
def test_an_interrupted_run_is_taken_up(
    house: House, pushed: Workspace, tmp_path: Path, command: str
) -> None:
    # A cache of its own: what others write at the moment is no leftover.
    own = replace(house, cache=tmp_path / "cache")
    shutil.copytree(house.cache, own.cache, ignore=shutil.ignore_patterns(".incoming.*"))
    workspace = own.workspace(tmp_path / "interrupted")
    process = workspace.start(command, *(["push"] if command == "mlpkg" else []))
    stream = process.stderr
    assert stream is not None
    assert any("choosing" in line for line in stream)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    if command == "mlpkg":
        assert process.returncode == 130
        assert "Traceback" not in err
        assert "interrupted; what was done is kept" in err
    assert workspace.doit().done[-1] == "push:diabetes"
    assert workspace.digest() == pushed.digest()
    leftovers = [*own.cache.rglob(".incoming.*"), *workspace.folder.rglob(".incoming.*")]
    assert leftovers == []


@pytest.mark.long
def test_a_lock_moves_when_it_is_asked_to(workspace: Workspace) -> None:
    requirements = workspace.package / "requirements.txt"
    requirements.write_text("joblib==1.5.1\nnumpy==2.3.5\nscikit-learn==1.7.2\n")
    workspace.doit("lock")
    requirements.write_text("joblib>=1.5\nnumpy==2.3.5\nscikit-learn==1.7.2\n")
    workspace.doit("lock")
    lock = workspace.package / "requirements.lock"
    assert "joblib==1.5.1 " in lock.read_text(), "what still fits does not move"
    run = workspace.mlpkg("lock", "--upgrade", "--json")
    (report,) = run.json()["steps"]
    assert report["lines"][0].startswith("chosen")
    assert "joblib==1.5.1 " not in lock.read_text()
    assert "://" not in lock.read_text() + (workspace.package / "package.lock").read_text()
