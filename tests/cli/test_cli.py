"""The command line by itself: help, usage errors, the generated page, the boundary."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlpkg.cli import commands as cli
from mlpkg.cli.manual import commands_page
from mlpkg.digest import sha256
from mlpkg.lock import inputs as lockinputs
from mlpkg.lockfile import LockedLayer, PackageLock, to_text
from mlpkg.service.running import Service
from mlpkg.spec import workspace
from mlpkg.spec.workspace import Package
from mlpkg.steps.pipeline import STEPS
from mlpkg.steps.step import Consumed, file_states, write_record
from mlpkg.store import records
from mlpkg.tasks.run import RunOutcome

DOCS = Path(__file__).parents[2] / "docs"


def test_the_commands_page_is_the_generated_one() -> None:
    page = DOCS / "reference" / "commands.md"
    assert page.read_text() == commands_page(cli.parser()), "run `mlpkg schema --write docs/reference`"


def test_every_command_has_an_example_that_parses() -> None:
    parser = cli.parser()
    page = commands_page(parser)
    examples = [line.strip() for line in page.splitlines() if line.startswith("    mlpkg ")]
    assert len(examples) == page.count("## mlpkg ")
    for example in examples:
        arguments = example.partition(" > ")[0].split()[1:]
        assert parser.parse_args(arguments).run


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        [],
        ["run"],
        ["registry", "sideways"],
        ["lock", "--jobs", "x"],
        ["build", "-n", "-1"],
        ["push", "-n", "0"],
        ["run", "p", "-p", "0"],
        ["run", "p", "-p", "99999"],
        ["serve", "p", "-p", "65536"],
        ["serve", "score.py", "-p", "-1"],
        ["score", "p", "-", "--timeout", "0"],
        ["score", "p", "-", "--timeout", "-1"],
        ["score", "p", "-", "--timeout", "nan"],
        ["score", "p", "-", "--timeout", "1e300"],
    ],
)
def test_wrong_usage_is_exit_2(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert "usage: mlpkg" in said.err
    assert cli.main([*arguments, "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 2
    assert document["error"]


def test_a_relative_workspace_is_the_callers_also_after_a_run(
    simple: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`run` and `serve` ask for the workspace again after the tasks, which move into its folder."""
    seen = []

    def driven(options: argparse.Namespace, *_: object) -> RunOutcome:
        os.chdir(options.workspace)
        seen.append(options.workspace)
        return RunOutcome()

    def started(package: Package, *_: object) -> Service:
        seen.append(package.root)
        return Service("process", "1", 6789)

    monkeypatch.chdir(simple.parent)
    monkeypatch.setattr(cli, "_driven", driven)
    monkeypatch.setattr("mlpkg.service.running.start", started)
    monkeypatch.setattr("mlpkg.service.running.require_port", lambda *_: None)
    assert cli.main(["run", "p", "--workspace", simple.name]) == 0, capsys.readouterr().err
    assert seen == [simple, simple]


def test_plan_says_little_when_it_is_asked_to(simple: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "-q", "--workspace", str(simple)]) == 0
    assert capsys.readouterr().out == "p: lock render build tag push\n"


def test_an_error_is_one_message_and_one_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plan", "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["exit_code"] == 2
    assert captured.err.startswith("error: no workspace here")


def test_a_bug_says_so_and_is_exit_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Path) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("mlpkg.spec.workspace.find_root", broken)
    assert cli.main(["plan"]) == 3
    assert "this is a bug in mlpkg" in capsys.readouterr().err


def test_ctrl_c_is_exit_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlpkg.spec.workspace.find_root", interrupted)
    assert cli.main(["plan"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["plan"], ["build"], ["stop", "p"], ["registry", "status"]])
def test_a_workspace_that_is_no_folder(
    verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for name in ("none", "file"):
        assert cli.main([*verb, "--workspace", str(tmp_path / name)]) == 2
        assert f"{tmp_path / name}: no such folder" in capsys.readouterr().err


def test_a_schema_folder_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["schema", "--write", str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


PACKAGE = '[package]\nname = "p"\n[entry]\nscript = "score.py"\n'
SCRIPT = "def init(): ...\ndef run(data): ...\n"


@pytest.fixture
def simple(tmp_path: Path) -> Path:
    """A workspace that is one package without a lock."""
    (tmp_path / "package.toml").write_text(PACKAGE)
    (tmp_path / "score.py").write_text(SCRIPT)
    return tmp_path


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """`mlpkg build --json` in a process of its own: dodo.py is a module, and Python keeps modules."""
    command = [sys.executable, "-m", "mlpkg", "build", "--json"]
    environ = {**os.environ, "MLPKG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("files", "place", "said"),
    [
        ({"dodo.py": "x = 1\ndef broken(:\n"}, "dodo.py:2", "SyntaxError"),
        ({"dodo.py": "\nimport not_there_at_all\n"}, "dodo.py:2", "not_there_at_all"),
        ({"dodo.py": "\n\n1 / 0\n"}, "dodo.py:3", "ZeroDivisionError: division by zero"),
        ({"dodo.py": "from own import x\n", "own.py": "x = y\n"}, "own.py:1", "NameError"),
        ({"dodo.py": "import json\njson.loads('{')\n"}, "dodo.py:2", "JSONDecodeError"),
        (
            {"dodo.py": "def task_t():\n    return {'name': open('/none/at/all')}\n"},
            "dodo.py:2",
            "/none/at/all",
        ),
        ({"dodo.py": "def task_t():\n    return {'actionz': []}\n"}, "dodo.py", "actionz"),
        ({"dodo.py": "def task_t():\n    yield {'actions': []}\n"}, "dodo.py", "Task 't'"),
        ({"dodo.py": "def task_t():\n    return {'actions': [], 'task_dep': ['none']}\n"}, "dodo.py", "none"),
    ],
)
def test_a_broken_dodo_file_is_a_mistake_with_its_place(
    simple: Path, files: dict[str, str], place: str, said: str
) -> None:
    for name, text in files.items():
        (simple / name).write_text(text)
    ended = build(simple)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {place}: ")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    document = json.loads(ended.stdout)
    assert document["exit_code"] == 2
    assert place in str(document)
    assert not (simple / "package.lock").exists()


def test_a_dodo_file_that_exits_keeps_its_code(simple: Path) -> None:
    (simple / "dodo.py").write_text("import sys\nsys.exit(7)\n")
    ended = build(simple)
    assert (ended.returncode, ended.stderr) == (7, "")


def planned(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    """What `mlpkg plan` says, for machines and for people."""
    arguments = ["plan", "--workspace", str(folder)]
    assert cli.main([*arguments, "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert cli.main(arguments) == 0
    return document, capsys.readouterr().out


def test_plan_needs_no_lock_and_changes_nothing(simple: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(simple.iterdir())
    document, text = planned(simple, capsys)
    assert document["plan"] is None
    assert document["would_run"]["lock"] == ["never done"]
    assert "layers: not known yet: `lock` chooses what they hold" in text
    assert sorted(simple.iterdir()) == before


def locked(folder: Path) -> workspace.Package:
    """The workspace's package, with a lock that fits."""
    (package,) = workspace.load(folder).packages
    lock = PackageLock(
        inputs=lockinputs.inputs_digest(package),
        suite="trixie",
        platform="linux/amd64",
        python="3.13",
        debian=(),
        base=(),
        system=(),
        wheels=(),
        layers=(LockedLayer("base", sha256(b"base"), 1000, "f"),),
    )
    package.lock_path.write_text(to_text(lock))
    return package


def test_plan_before_the_model_is_made(simple: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (simple / "package.toml").write_text(PACKAGE + '[[models]]\nname = "m"\npath = "m.bin"\n')
    locked(simple)
    document, text = planned(simple, capsys)
    assert document["plan"] is None
    assert "'m.bin' does not exist" in document["would_run"]["render"][0]
    assert "layers: not known yet: 1 problem in the package specs: package.toml: models[0].path" in text
    (simple / "m.bin").touch()
    document, text = planned(simple, capsys)
    assert "model" in str([layer["name"] for layer in document["plan"]["layers"]])
    assert "not known" not in text


CONFIG = "{}"
MANIFEST = json.dumps({"config": {"digest": sha256(CONFIG.encode())}, "layers": []})
DIGEST = sha256(MANIFEST.encode())
RESULTS: dict[str, dict[str, Any]] = {
    "build": {
        "digest": DIGEST,
        "manifest": MANIFEST,
        "manifest_type": "m",
        "config": CONFIG,
        "config_type": "c",
        "layers": [],
        "made": [],
    },
    "tag": {"repository": "p", "digest": DIGEST, "tags": []},
    "push": {"registry": "r", "repository": "r/p", "digest": DIGEST, "tags": []},
}


def test_plan_tells_steps_that_depend_on_what_an_earlier_one_does(
    simple: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (simple / "package.toml").write_text(PACKAGE + '[environment]\nrequirements = "r.txt"\n')
    requirements = simple / "r.txt"
    requirements.write_text("six\n")
    package = locked(simple)
    inputs = {"r.txt": records.file_state(requirements)}
    script = {"score.py": records.file_state(simple / "score.py")}
    for step in STEPS:
        want = step.wanted(package)
        files = file_states(package, want.files or ())
        own = {"lock": inputs, "build": script}.get(step.NAME, files)
        write_record(step, package, want, Consumed(own, result=RESULTS.get(step.NAME, {})))
    assert planned(simple, capsys)[0]["would_run"] == {step.NAME: [] for step in STEPS}

    (simple / "score.py").write_text(SCRIPT + "\n")
    would_run = planned(simple, capsys)[0]["would_run"]
    assert would_run["lock"] == would_run["render"] == []
    assert would_run["build"][0].startswith("score.py: ")
    assert would_run["tag"] == would_run["push"] == ["after build, if it changes"]

    requirements.write_text("six>=1\n")
    document, text = planned(simple, capsys)
    assert document["would_run"]["lock"][0].startswith("r.txt: ")
    assert document["would_run"]["render"] == ["after lock, if it changes"]
    assert document["would_run"]["build"][0].startswith("score.py: ")
    assert document["would_run"]["push"] == ["after build, if it changes"]
    assert document["plan"] is None
    assert "  render  after lock, if it changes" in text


def test_a_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema", "--of", "workspace"]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"].endswith("2020-12/schema")
