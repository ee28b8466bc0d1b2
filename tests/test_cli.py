"""The command line by itself: help, usage errors, the generated page, the boundary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlpkg import cli
from mlpkg.manual import commands_page

DOCS = Path(__file__).parents[1] / "docs"


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
    "arguments", [["nonsense"], [], ["run"], ["registry", "sideways"], ["lock", "--jobs", "x"]]
)
def test_wrong_usage_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().out == ""


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

    monkeypatch.setattr("mlpkg.workspace.find_root", broken)
    assert cli.main(["plan"]) == 3
    assert "this is a bug in mlpkg" in capsys.readouterr().err


def test_ctrl_c_is_exit_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlpkg.workspace.find_root", interrupted)
    assert cli.main(["plan"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_plan_needs_no_lock_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "package.toml").write_text('[package]\nname = "p"\n[entry]\nscript = "score.py"\n')
    (tmp_path / "score.py").write_text("def init(): ...\ndef run(data): ...\n")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert cli.main(["plan", "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["plan"] is None
    assert document["would_run"]["lock"] == ["never done"]
    assert sorted(tmp_path.iterdir()) == before


def test_a_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema", "--of", "workspace"]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"].endswith("2020-12/schema")
