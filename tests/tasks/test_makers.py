"""Tasks that make a package's files: any of them, however spelled, before the first step that reads them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlpkg.tasks.makers import find_makers

from .place import Place


def task(*targets: str, target_regex: str = "") -> Any:
    loader = SimpleNamespace(target_regex=target_regex) if target_regex else None
    return SimpleNamespace(targets=targets, loader=loader)


def test_targets_are_places_however_they_are_spelled(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to("real")
    tasks = {
        "relative": task("real/a"),
        "absolute": task(str(tmp_path / "real/b")),
        "dotted": task("./real//c"),
        "linked": task("linked/d"),
        "inside": task("real/model/deep/file"),
        "folder": task("real/whole/"),
        "other": task("elsewhere"),
    }
    found = find_makers(tasks, tmp_path)
    real = tmp_path / "real"
    for name, path in {
        "relative": "a",
        "absolute": "b",
        "dotted": "c",
        "linked": "d",
        "inside": "model",
        "folder": "whole/part",
    }.items():
        assert found.of([real / path]) == (name,)
        assert found.of([tmp_path / "linked" / path]) == (name,)
    assert found.of([real / "a", real / "b"]) == ("absolute", "relative")
    assert not found.make(real / "model/other")
    assert not found.make(real / "wholes")


def test_tasks_that_are_made_later_are_known_by_their_pattern(tmp_path: Path) -> None:
    found = find_makers({"late": task(target_regex=r"p/model\..*"), "silent": task()}, tmp_path)
    assert found.of([tmp_path / "p/model.bin"]) == ("late",)
    assert not found.make(tmp_path / "p/other")


def test_a_thousand_targets_and_a_thousand_packages_take_time_in_proportion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = os.path.realpath

    def counted(path: str) -> str:
        asked.append(path)
        return real(path)

    monkeypatch.setattr(os.path, "realpath", counted)
    found = find_makers({f"make:{number}": task(f"packages/{number}/m") for number in range(1000)}, tmp_path)
    for number in range(1000):
        assert found.of([tmp_path / f"packages/{number}/m"]) == (f"make:{number}",)
    assert len(asked) <= 2002
    folders = sum(len(names) for names in found.below.values())
    assert folders <= 1000 * (2 + len(tmp_path.parts))


MAKE = """
from pathlib import Path
from mlpkg.tasks import *

def copy(source, target):
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text(Path(source).read_text())

def task_make():
    for source, target in {MADE}.items():
        yield {"name": source, "actions": [(copy, [source, target])], "file_dep": [source], "targets": [target]}
"""

CODE = """
[entry]
script = "score.py"
source_directory = "code"
"""


def makes(place: Place, **made: str) -> None:
    """Let tasks `make:NAME` copy the file NAME to the place given."""
    place.write("dodo.py", MAKE.replace("{MADE}", repr(made)))


@pytest.mark.mirror
@pytest.mark.parametrize("reporter", ["", "json"])
@pytest.mark.long
def test_all_files_of_a_package_may_be_made_by_tasks(
    environ: dict[str, str], lock: Path, tmp_path: Path, reporter: str
) -> None:
    place = Place(tmp_path / "w", environ)
    place.write("mlpkg.toml", '[python]\nindex = ""\n')
    place.package(spec=f'{CODE}\n[environment]\nrequirements = "requirements.txt"\n')
    folder = "packages/p"
    makes(
        place,
        reqs=f"{folder}/requirements.txt",
        more=str(place.folder / folder / "more.txt"),
        script=f"{folder}/code/score.py",
    )
    for name, text in {"reqs": "# none\n", "more": "# none\n", "script": "pass\n"}.items():
        place.write(name, text)
    options = ("-r", reporter) if reporter else ()
    first = place.doit(*options, "build:p")
    assert (place.folder / folder / "code/score.py").exists()
    if not reporter:
        assert sorted(first.done) == ["build:p", "lock:p", "make:reqs", "make:script", "render:p"]
        assert first.done.index("make:reqs") < first.done.index("lock:p")
        assert first.done.index("make:script") < first.done.index("render:p")
        assert place.doit("build:p").done == []
    before = place.digest()
    place.write("script", "other = 1\n")
    place.doit(*options, "build:p")
    assert place.digest() != before, "a maker that changes a file makes the steps run in the same run"
    place.write("reqs", "-r more.txt\n")
    place.doit(*options, "make:reqs", "make:more")
    place.write("more", "# other\n")
    done = place.doit("build:p").done
    assert done[:2] == ["make:more", "lock:p"], "what the requirements include is read by the lock too"
    assert place.doit("-n", "2", "build:p").done == []
    place.write("script", "def (\n")
    broken = place.doit(*options, "build:p", code=1)
    assert "is not Python" in broken.text


@pytest.mark.mirror
def test_what_nobody_makes_is_refused_before_any_work(place: Place) -> None:
    place.package(spec=f'{CODE}\n[environment]\nrequirements = "r.txt"\n')
    makes(place, weights="packages/p/model/weights")
    place.write("weights", "w")
    for ended in (place.doit(code=2), place.mlpkg("build", code=2), place.doit("-n", "2", code=2)):
        for key in ("entry.source_directory", "environment.requirements"):
            assert key in ended.err
        assert "no task makes it" in ended.err
        assert ended.done == []


@pytest.mark.mirror
@pytest.mark.parametrize("reporter", ["console", "json", "zero"])
def test_a_delayed_task_with_a_pattern_comes_first(place: Place, reporter: str) -> None:
    (place.folder / "packages/p/model/weights").unlink()
    place.write(
        "dodo.py",
        "from doit import create_after\nfrom mlpkg.tasks import *\n"
        "def task_first():\n    return {'actions': ['true']}\n"
        "@create_after(executed='first', target_regex='packages/p/model/')\n"
        "def task_late():\n"
        "    target = 'packages/p/model/weights'\n"
        "    yield {'name': 'p', 'actions': [f'echo late > {target}'], 'targets': [target]}\n",
    )
    place.doit("-r", reporter, "build:p")
    assert (place.folder / "packages/p/model/weights").read_text() == "late\n"
    assert place.digest()


@pytest.mark.mirror
def test_a_step_alone_runs_no_maker(place: Place) -> None:
    makes(place, weights="packages/p/model/weights")
    place.write("weights", "made")
    for reporter in ("console", "zero"):
        place.doit("-r", reporter, "-s", "lock:p", "render:p")
        assert (place.folder / "packages/p/model/weights").read_text() == "weights of p"
