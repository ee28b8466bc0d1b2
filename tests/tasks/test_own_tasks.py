"""A user's own tasks beside mlpkg's are doit's alone: the same ones run as without mlpkg, in every sequence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .place import Place

pytestmark = pytest.mark.mirror

# Each action writes its task's name to `ran`; the sequences compare what was written.
OWN = """
import sys
from doit import create_after
from doit.tools import config_changed, result_dep

def did(name, *files):
    with open("ran", "a") as log:
        log.write(name + "\\n")
    for file in files:
        with open(file, "w") as out:
            out.write(name)
    return True

def value():
    did("value")
    return {"number": len(open("b").read())}

def use(number):
    did("use")

def deps():
    did("deps")
    return {"file_dep": ["c"]}

def task_plain():
    return {"actions": [(did, ["plain"])], "file_dep": ["a", "b"]}

def task_shell():
    return {"actions": ["echo shell >> ran", "cp a shell.out"], "file_dep": ["a"], "targets": ["shell.out"]}

def task_target():
    return {"actions": [(did, ["target", "made"])], "targets": ["made"], "file_dep": ["a"]}

def task_after_target():
    return {"actions": [(did, ["after_target"])], "file_dep": ["made"]}

def task_false():
    return {"actions": [(did, ["false"])], "uptodate": [False], "file_dep": ["a"]}

def task_true():
    return {"actions": [(did, ["true"])], "uptodate": [True]}

def task_called():
    return {"actions": [(did, ["called"])], "uptodate": [lambda: open("b").read() == "b one"]}

def task_config():
    return {"actions": [(did, ["config"])], "uptodate": [config_changed(open("c").read())]}

def text():
    did("text")
    return open("a").read()

def task_text():
    return {"actions": [text], "file_dep": ["a"]}

def task_result():
    return {"actions": [(did, ["result"])], "uptodate": [result_dep("text")]}

def task_value():
    return {"actions": [value], "file_dep": ["b"]}

def task_use():
    return {"actions": [use], "getargs": {"number": ("value", "number")}, "file_dep": ["c"]}

def task_deps():
    return {"actions": [deps], "file_dep": ["a"]}

def task_calc():
    return {"actions": [(did, ["calc"])], "calc_dep": ["deps"]}

@create_after(executed="target", target_regex=r"late\\..*")
def task_late():
    for number in range(2):
        yield {"name": str(number), "actions": [(did, [f"late:{number}", f"late.{number}"])],
               "file_dep": ["made", "b"], "targets": [f"late.{number}"]}

def task_none():
    return {"actions": [(did, ["none"])]}

def task_fails():
    def fail():
        did("fails")
        return open("c").read() != "c two"
    return {"actions": [fail], "file_dep": ["c"]}

NAMES = ["plain", "shell", "target", "after_target", "false", "true", "called", "config", "text", "result",
         "value", "use", "deps", "calc", "late", "none", "fails"]
"""

BARE = """
from own import *
DOIT_CONFIG = {"default_tasks": NAMES, "verbosity": 2, "backend": "BACKEND", "dep_file": "own.db"}
"""

OURS = """
from mlpkg.tasks import *
from own import *
DOIT_CONFIG = {**DOIT_CONFIG, "default_tasks": [*NAMES, "build"], "backend": "BACKEND", "dep_file": "own.db"}

def task_follows():
    return {"actions": [(did, ["follows"])], "task_dep": ["build:p"], "file_dep": ["packages/p/model/weights"]}
"""

Step = tuple[str, tuple[str, ...]]

SEQUENCE: tuple[Step, ...] = (
    ("", ("run",)),
    ("", ("run",)),
    ("a=a two", ("run",)),
    ("", ("run",)),
    ("", ("run",)),
    ("a=a one", ("run",)),
    ("", ("run",)),
    ("b=b two", ("run",)),
    ("", ("run",)),
    ("c=c two", ("run", "-c")),
    ("", ("run", "-c")),
    ("c=c one", ("run", "-c")),
    ("", ("run",)),
    ("a=A ONE", ("run",)),  # the same size
    ("", ("run",)),
    ("", ("forget", "plain", "value")),
    ("", ("run",)),
    ("", ("ignore", "plain")),
    ("a=a three", ("run",)),
    ("", ("forget", "plain")),
    ("", ("run",)),
    ("", ("clean", "target")),
    ("", ("run",)),
    ("", ("list", "-s")),
    ("", ("list", "--deps")),
    ("", ("info", "plain")),
    ("", ("run", "late:1")),
    ("b=b three", ("run", "late.0")),
    ("", ("run", "-a", "shell")),
    ("b=b one", ("run", "-s", "after_target", "use")),
    ("", ("run",)),
    ("", ("forget", "-a")),
    ("", ("run",)),
    ("", ("run",)),
)


SHORT = 15
"""Steps for each way to keep and to run: edits there and back, failures, contents of the same size."""


def sides(place: Place, backend: str, folder: Path) -> tuple[Place, Place]:
    """The workspace with a user's own tasks and mlpkg's, and a folder with the same tasks and doit alone."""
    bare = Place(folder / "bare", place.environ)
    for side, text in ((place, OURS), (bare, BARE)):
        side.write("own.py", OWN)
        side.write("dodo.py", text.replace("BACKEND", backend))
        for name in "abc":
            side.write(name, f"{name} one")
    return place, bare


def ran(side: Place) -> list[str]:
    """What ran since it was asked last."""
    log = side.folder / "ran"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return sorted(line for line in lines if line != "follows")


@pytest.mark.parametrize(
    ("backend", "workers", "steps"),
    [
        ("sqlite3", (), len(SEQUENCE)),
        ("json", (), SHORT),
        ("dbm", (), SHORT),
        ("sqlite3", ("-n", "2"), SHORT),
        ("json", ("-n", "4"), SHORT),
        ("sqlite3", ("-n", "2", "-P", "thread"), SHORT),
    ],
)
@pytest.mark.long
def test_the_same_tasks_run_as_with_doit_alone(
    place: Place, tmp_path: Path, backend: str, workers: tuple[str, ...], steps: int
) -> None:
    ours, bare = sides(place, backend, tmp_path)
    for number, (edit, (command, *arguments)) in enumerate(SEQUENCE[:steps]):
        found = []
        for side in (ours, bare):
            if edit:
                name, _, text = edit.partition("=")
                side.write(name, text)
            more = workers if command == "run" else ()
            ended = side.doit(command, *more, *arguments, code=None)
            found.append((ran(side), ended.code))
        assert found[0] == found[1], f"step {number}: {edit} doit {command} {arguments}"
    listed = [side.doit("list", "-s", "--all", "plain", "use", "late", "config").out for side in (ours, bare)]
    assert listed[0] == listed[1]


@pytest.mark.parametrize("reporter", ["console", "json", "zero", "executed-only", "error-only"])
@pytest.mark.long
def test_any_reporter_may_be_chosen(place: Place, tmp_path: Path, reporter: str) -> None:
    ours, bare = sides(place, "sqlite3", tmp_path)
    for edit in ("", "", "a two", "", "a one", ""):
        found = []
        for side in (ours, bare):
            if edit:
                side.write("a", edit)
            side.doit("-r", reporter)
            found.append(ran(side))
        assert found[0] == found[1], edit
    assert ours.digest()


def test_a_task_may_depend_on_a_step(place: Place, tmp_path: Path) -> None:
    ours, _ = sides(place, "sqlite3", tmp_path)
    assert ours.doit("follows").done == ["lock:p", "render:p", "build:p", "follows"]
    assert ours.doit("follows").done == []
    ours.write("packages/p/model/weights", "other weights")
    assert ours.doit("-n", "2", "follows").done == ["build:p", "follows"]
    assert ours.doit("follows").done == []


def test_settings_of_ones_own_may_replace_all_of_ours(place: Place, tmp_path: Path) -> None:
    ours, bare = sides(place, "sqlite3", tmp_path)
    for side, text in ((ours, "from mlpkg.tasks import *\n"), (bare, "")):
        side.write(
            "dodo.py",
            f'{text}from own import *\nDOIT_CONFIG = {{"check_file_uptodate": "timestamp", "backend": "json",'
            ' "dep_file": "x.json", "default_tasks": ["plain"]}\n',
        )
    for edit in ("", "", "a two", "", ""):
        for side in (ours, bare):
            if edit:
                side.write("a", edit)
            side.doit()
        assert ran(ours) == ran(bare)
    assert ours.doit("build:p").code == 0
    assert "packages" not in json.loads((ours.folder / "x.json").read_text())["plain"]


def test_doit_and_the_verbs_share_one_database(place: Place, tmp_path: Path) -> None:
    ours, _ = sides(place, "json", tmp_path)
    ours.write(
        "dodo.py",
        (ours.folder / "dodo.py").read_text().replace('["packages/p/model/weights"]', '["a"]')
        + '\ndef task_train():\n    return {"actions": [(did, ["train", "packages/p/model/weights"])],'
        ' "file_dep": ["b"], "targets": ["packages/p/model/weights"]}\n',
    )
    assert ours.doit("build:p").done[0] == "train"
    assert ours.mlpkg("build", "p").done == []
    ours.write("b", "b two")
    assert ours.mlpkg("build", "p").done == ["train"]
    assert ours.doit("build:p").done == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("forget",),
        ("forget", "build"),
        ("clean",),
        ("clean", "-n"),
        ("list", "-s"),
        ("ignore", "build:p"),
        ("reset-dep",),
    ],
    ids=str,
)
def test_commands_of_doit_work_before_anything_was_done(place: Place, arguments: tuple[str, ...]) -> None:
    assert place.doit(*arguments).code == 0


def test_steps_write_nothing_of_files_to_doits_database(place: Place) -> None:
    place.write(
        "dodo.py",
        'from mlpkg.tasks import *\nDOIT_CONFIG = {**DOIT_CONFIG, "backend": "json", "dep_file": "x.json"}\n',
    )
    place.doit("build")
    kept = json.loads((place.folder / "x.json").read_text())
    assert {key for task in kept.values() for key in task} <= {"_values_:", "result:", "checker:", "deps:"}
    shutil.rmtree(place.folder / "packages" / "p" / "model")
    assert place.doit("list", "-s", "--all").code == 0
