"""What of a script decides its lock: its imports, with those of the modules beside it; found once, then remembered."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

from mlpkg.lock.inputs import lock_values, runtime_requirements
from mlpkg.lock.script import needs_rawhttp
from mlpkg.runtime.requirements import RAWHTTP, REQUIREMENTS
from mlpkg.spec import workspace
from mlpkg.spec.workspace import Package
from mlpkg.store import records, runlock

PLAIN = "def init(): pass\ndef run(data): return data\n"
RAW = "from azureml.contrib.services.aml_request import rawhttp\n" + PLAIN
SPEC = '[package]\nname = "a"\n[entry]\nscript = "score.py"\n'
FOLDER = SPEC + 'source_directory = "code"\n'


def package(root: Path, spec: str, files: Mapping[str, str]) -> Package:
    for name, text in {"package.toml": spec, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return workspace.load(root).package("a")


@pytest.mark.parametrize(
    ("spec", "files", "needed"),
    [
        (SPEC, {"score.py": PLAIN}, False),
        (SPEC, {"score.py": RAW}, True),
        (SPEC, {"score.py": f"# {RAW}"}, False),
        (SPEC, {"score.py": "import helper\n" + PLAIN, "helper.py": RAW}, False),  # only the script ships
        (FOLDER, {"code/score.py": "import helper\n" + PLAIN, "code/helper.py": RAW}, True),
        (FOLDER, {"code/score.py": "import json\n" + PLAIN, "code/helper.py": RAW}, False),
        (FOLDER, {"code/score.py": "import a\n", "code/a.py": "import b\n", "code/b.py": RAW}, True),
        (FOLDER, {"code/score.py": "import a\n", "code/a.py": "import b\n", "code/b.py": "import a\n"}, False),
        (FOLDER, {"code/score.py": "from p import x\n", "code/p/__init__.py": "", "code/p/x.py": RAW}, True),
        (FOLDER, {"code/score.py": "import p.x\n", "code/p/__init__.py": RAW, "code/p/x.py": ""}, True),
        (FOLDER, {"code/score.py": "import p.x\n", "code/p/x.py": "from . import y\n", "code/p/y.py": RAW}, True),
        (FOLDER, {"code/score.py": "from code import helper\n", "code/helper.py": RAW}, False),  # stdlib's `code`
        (FOLDER.replace('"code"', '"my-src"'), {"my-src/score.py": PLAIN}, False),
        (FOLDER.replace('"code"', '"src"'), {"src/score.py": "import src.helper\n", "src/helper.py": RAW}, True),
        (SPEC, {"score.py": "def init(: pass\n"}, True),  # not to be judged here
        (SPEC + '[server]\nkind = "azureml"\n', {"score.py": RAW}, False),  # it brings Flask
        (SPEC + '[server]\nkind = "custom"\ncommand = ["x"]\n', {"score.py": RAW}, False),
    ],
)  # fmt: skip
def test_needs(spec: str, files: Mapping[str, str], needed: bool, tmp_path: Path) -> None:
    assert needs_rawhttp(package(tmp_path, spec, files)) is needed


def test_the_lock_has_werkzeug_only_where_the_script_needs_it(tmp_path: Path) -> None:
    plain = package(tmp_path, SPEC, {"score.py": PLAIN})
    assert runtime_requirements(plain) == REQUIREMENTS
    before = lock_values(plain)
    (tmp_path / "score.py").write_text(PLAIN + "# another text\n")
    assert lock_values(plain) == before
    (tmp_path / "score.py").write_text(RAW)
    assert runtime_requirements(plain) == (*REQUIREMENTS, *RAWHTTP)
    assert lock_values(plain) != before
    (tmp_path / "score.py").write_text(PLAIN)
    assert lock_values(plain) == before


def test_a_script_that_does_not_exist_yet(tmp_path: Path) -> None:
    mine = package(tmp_path, SPEC, {})
    assert needs_rawhttp(mine) is False
    assert not (mine.records / "script.json").exists()


@pytest.fixture
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A package whose script was looked at by a run of this process."""
    mine = package(
        tmp_path,
        FOLDER.replace('"code"', '"src"'),
        {"src/score.py": "import helper, absent\n" + PLAIN, "src/helper.py": PLAIN},
    )
    monkeypatch.setattr(runlock, "_held", {})
    runlock.hold_workspace(tmp_path)
    assert needs_rawhttp(mine) is False
    return mine


def forbid_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a script was parsed")

    monkeypatch.setattr(ast, "parse", parse)


def test_nothing_is_parsed_twice(remembered: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_parsing(monkeypatch)
    assert needs_rawhttp(remembered) is False
    (remembered.folder / "src" / "score.py").touch()  # the same content
    assert needs_rawhttp(remembered) is False
    record = records.read(remembered.records / "script.json", remembered.name, "script")
    assert record is not None
    assert set(record.inputs) == {"src/score.py", "src/helper.py"}


@pytest.mark.parametrize("name", ["score.py", "helper.py", "absent.py", "absent/__init__.py"])
def test_what_changes_is_parsed_again(
    name: str, remembered: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = remembered.folder / "src" / name
    path.parent.mkdir(exist_ok=True)
    before = path.read_text() if path.exists() else None
    path.write_text(RAW)
    assert needs_rawhttp(remembered) is True
    if before is None:
        path.unlink()
    else:
        path.write_text(before)
    assert needs_rawhttp(remembered) is False
    path.write_text((before or PLAIN) + "# A, B, A\n")
    assert needs_rawhttp(remembered) is False
    forbid_parsing(monkeypatch)
    assert needs_rawhttp(remembered) is False


def test_another_entry_is_looked_at(remembered: Package, tmp_path: Path) -> None:
    (tmp_path / "src" / "other.py").write_text(RAW)
    (tmp_path / "package.toml").write_text(SPEC.replace("score", "other") + 'source_directory = "src"\n')
    assert needs_rawhttp(workspace.load(tmp_path).package("a")) is True


def test_readers_write_nothing(tmp_path: Path) -> None:
    mine = package(tmp_path, SPEC, {"score.py": RAW})
    assert needs_rawhttp(mine) is True
    assert not (mine.records / "script.json").exists()
