"""Commands about a whole workspace, as a user runs them: broken packages, empty workspaces, input refused before work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = "def init():\n    pass\n\n\ndef run(data):\n    return data\n"
DODO = "from mlpkg.tasks import *\n"


def put(root: Path, place: str, more: str = "", **files: str) -> Path:
    folder = root / place
    folder.mkdir(parents=True, exist_ok=True)
    text = f'[package]\nname = "{folder.name}"\n\n[entry]\nscript = "score.py"\n{more}'
    (folder / "package.toml").write_text(text)
    (folder / "score.py").write_text(SCRIPT)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)
    return folder


def run(root: Path, *arguments: str, code: int) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "MLPKG_CACHE_HOME": str(root / ".c"), "MLPKG_STATE_HOME": str(root / ".s")}
    ran = subprocess.run(
        [sys.executable, "-m", *arguments],
        check=False,
        cwd=root,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == code, f"{arguments}: {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
    assert "Traceback" not in ran.stderr
    return ran


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dodo.py").write_text(DODO)
    return tmp_path


@pytest.mark.parametrize("verb", ["plan", "push", "build", "lock"])
def test_an_empty_workspace_speaks(root: Path, verb: str) -> None:
    put(root, "models/x")
    ran = run(root, "mlpkg", verb, code=2)
    assert f"no packages in {root}: looked for packages/*/package.toml" in ran.stderr
    assert 'models/x/package.toml lies outside of `packages` in mlpkg.toml: add "models/*"' in ran.stderr
    assert json.loads(run(root, "mlpkg", verb, "--json", code=2).stdout)["exit_code"] == 2


@pytest.mark.parametrize("arguments", [(), ("list",), ("push",)])
def test_an_empty_workspace_speaks_in_doit_too(root: Path, arguments: tuple[str, ...]) -> None:
    put(root, "models/x")
    ran = run(root, "doit", *arguments, code=0)
    assert "looked for packages/*/package.toml" in ran.stderr
    assert "models/x/package.toml lies outside" in ran.stderr


@pytest.mark.parametrize("arguments", [("doit", "list"), ("mlpkg", "plan")])
def test_a_package_beside_the_patterns_is_named(root: Path, arguments: tuple[str, ...]) -> None:
    put(root, "packages/a")
    put(root, "models/x")
    assert "note: models/x/package.toml lies outside" in run(root, *arguments, code=0).stderr
    (root / "mlpkg.toml").write_text('[workspace]\npackages = ["packages/*", "!models/*"]\n')
    assert run(root, *arguments, code=0).stderr == ""


def test_named_packages_are_not_bothered(root: Path) -> None:
    put(root, "packages/a")
    put(root, "packages/b", "wrong = 1\n")
    put(root, "models/x")
    assert run(root, "mlpkg", "plan", "a", code=0).stderr == ""
    assert run(root, "doit", "info", "push:a", code=1).stderr == ""


def test_the_plan_shows_the_sound_and_ends_with_2(root: Path) -> None:
    put(root, "packages/a")
    put(root, "packages/b", "wrong = 1\n")
    ran = run(root, "mlpkg", "plan", code=2)
    assert "packages/b/package.toml:6: entry.wrong: unknown key" in ran.stderr
    assert ran.stdout.startswith("a\n  lock")
    rows = json.loads(run(root, "mlpkg", "plan", "--json", code=2).stdout)
    assert [row["package"] for row in rows] == ["a", "b"]
    assert "entry.wrong" in rows[1]["errors"][0]
    assert "packages/b/package.toml:6" in run(root, "mlpkg", "plan", "b", code=2).stderr
    listed = run(root, "doit", "list", "--all", code=0)
    assert "push:a" in listed.stdout
    assert "packages/b/package.toml:6: entry.wrong" in listed.stderr


def test_nothing_but_broken_packages(root: Path) -> None:
    put(root, "packages/b", "wrong = 1\n")
    for verb in ("lock", "push"):
        assert "entry.wrong" in run(root, "mlpkg", verb, code=2).stderr
    assert "entry.wrong" in run(root, "doit", code=2).stderr
    assert "entry.wrong" in run(root, "doit", "push:b", code=2).stderr


def test_bad_input_is_refused_before_any_work_and_all_at_once(root: Path) -> None:
    (root / "mlpkg.toml").write_text('[python]\nca_file = "gone.pem"\n')
    more = (
        'source_directory = "src"\nignore = ["[z-a]"]\n\n[environment]\nrequirements = "requirements.txt"\n'
    )
    put(root, "packages/a", more, requirements_txt="numpy\n-e .\n./local\n")
    (root / "packages/a/src").mkdir()
    (root / "packages/a/src/score.py").write_text(SCRIPT)
    put(root, "packages/c", '\n[[models]]\nname = "m"\npath = "m"\n')
    (root / "packages/c/m").mkdir()
    (root / "packages/c/m/kept").write_text("")
    (root / "packages/c/m/link").symlink_to("../out")
    for arguments in (("doit",), ("mlpkg", "push"), ("mlpkg", "build")):
        said = run(root, *arguments, code=2).stderr
        for text in (
            'mlpkg.toml:2: python.ca_file: "gone.pem" does not exist',
            'packages/a/package.toml:7: entry.ignore[0]: "[z-a]" is not a pattern',
            "packages/a/requirements.txt:2: an editable requirement",
            "packages/a/requirements.txt:3: './local' is a path",
            'packages/c/package.toml:9: models[0].path: "m/link" is a link that leaves the folder',
        ):
            assert text in said, arguments
        assert said.count("gone.pem") == 1
    said = run(root, "mlpkg", "lock", code=2).stderr
    assert "gone.pem" in said
    assert "packages/a/requirements.txt:3" in said
    assert not list((root / "packages").rglob("*.lock"))


def test_a_line_break_in_a_variable_is_refused_before_any_work(root: Path) -> None:
    put(root, "packages/a", '\n[environment.variables]\nA = "one\\ntwo"\n\n[image.labels]\nb = "one\\rtwo"\n')
    said = run(root, "mlpkg", "push", code=2).stderr
    assert "packages/a/package.toml:8: environment.variables.A: holds a line break" in said
    assert "packages/a/package.toml:11: image.labels.b: holds a line break" in said


def test_a_missing_quote_has_its_line_and_a_caret(root: Path) -> None:
    folder = put(root, "packages/a")
    (folder / "package.toml").write_text('[package]\nname = "a\n')
    said = run(root, "mlpkg", "plan", code=2).stderr
    assert (
        "  packages/a/package.toml:2: is not TOML: a text lacks its closing quote\n"
        '      name = "…\n'
        "             ^\n"
    ) in said


def test_what_the_safe_list_keeps_out_is_in_the_plan(root: Path) -> None:
    from .test_cli import locked

    folder = put(root, "packages/a", '\n[[models]]\nname = "m"\npath = "m"\n')
    for name in ("weights", ".env", ".git/config"):
        (folder / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "m" / name).write_text("")
    locked(root)
    assert "left out by default: m/.env, m/.git/" in run(root, "mlpkg", "plan", code=0).stdout
    (row,) = json.loads(run(root, "mlpkg", "plan", "--json", code=0).stdout)
    assert row["left_out"] == {"first": ["m/.env", "m/.git/"], "count": 2}
