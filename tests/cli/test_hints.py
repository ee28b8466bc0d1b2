"""No message, page, template or rendered file names a command or an option that does not exist."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from doit.doit_cmd import DoitMain

from mlpkg.cli.commands import parser
from mlpkg.errors import UsageError
from mlpkg.steps.pipeline import STEPS

ROOT = Path(__file__).parents[2]

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(path for path in (ROOT / "docs").rglob("*.md") if "decisions" not in path.parts),
        *(ROOT / "templates").iterdir(),
        *(ROOT / "examples").rglob("*.py"),
        *(ROOT / "examples").rglob("*.toml"),
        *(ROOT / "registry").iterdir(),
    ]
)
SOURCES = sorted(path for path in (ROOT / "mlpkg").rglob("*.py"))

QUOTED = re.compile(r"`+((?:mlpkg|doit) [^`\n]+?)`+")
BLOCK = re.compile(r"^(?: {4,}|\$ )((?:mlpkg|doit) .+)$", re.MULTILINE)

BARE = re.compile(r"(?:run|with) (mlpkg [a-z-]+)")

VERBS = next(item for item in parser()._actions if isinstance(item, argparse._SubParsersAction)).choices
DOIT = {command.get_name() for command in DoitMain.DOIT_CMDS}
STEP_NAMES = {step.NAME for step in STEPS}


def texts(path: Path) -> Iterator[str]:
    """The texts of a Python file as people would see them: a value in an f-string stands as ``VALUE``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "VALUE" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def named() -> list[tuple[str, str]]:
    """Each command with the file that names it."""
    found = set()
    for path in PAGES:
        text, place = path.read_text(), path.relative_to(ROOT).as_posix()
        found |= {(match[1], place) for pattern in (QUOTED, BLOCK) for match in pattern.finditer(text)}
    for path in SOURCES:
        place = path.relative_to(ROOT).as_posix()
        for text in texts(path):
            found |= {(match[1], place) for pattern in (QUOTED, BARE) for match in pattern.finditer(text)}
    return sorted(found)


def words_of(command: str) -> list[str]:
    """The command's words after the program's name, without a comment, a redirection, or what follows in a pipe."""
    plain = re.split(r"\s+#|\s[|>&]|…|\[|;", command)[0].strip().rstrip(".,:")
    return shlex.split(plain)[1:]


def wrong(words: list[str]) -> str | None:
    """What the parser has against a command. A hint may leave out what the reader knows: which package."""
    try:
        parser().parse_args(words)
    except UsageError as error:
        if not error.message.startswith("the following arguments are required") and not {
            "VERB",
            "ACTION",
        } & set(words):
            return error.message
    return None


@pytest.mark.parametrize(("command", "place"), [row for row in named() if row[0].startswith("mlpkg ")])
def test_every_command_that_is_named_exists(command: str, place: str) -> None:
    verbs, *rest = words_of(command)
    for verb in verbs.split("|"):
        actions = rest[0].split("|") if rest and verb == "registry" else [None]
        for action in actions:
            words = [verb, *([action, *rest[1:]] if action else rest)]
            problem = wrong(words)
            assert problem is None, f"{place}: {problem}"


@pytest.mark.parametrize(("command", "place"), [row for row in named() if row[0].startswith("doit ")])
def test_every_doit_command_that_is_named_exists(command: str, place: str) -> None:
    for word in words_of(command):
        base = word.partition(":")[0]
        if word.startswith("-") or base in STEP_NAMES or base in ("train", "NAME", "VALUE") or word.isdigit():
            continue
        assert set(base.split("|")) <= DOIT, f"{place}: {command}"


def test_the_check_sees_what_it_should() -> None:
    """Without hints to look at, the tests above could not fail."""
    assert len([row for row in named() if row[1].startswith("mlpkg/")]) > 20
    assert {"run", "push", "lock"} <= set(VERBS)
    assert wrong(["nonsense"])
    assert wrong(["lock", "--nonsense"])
