"""Whether the patterns of what does not ship can be read, and whether they leave the entry script in the image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mlpkg.errors import Problem
from mlpkg.spec.model import EntryTable
from mlpkg.spec.withheld import Patterns, default_pattern
from mlpkg.spec.words import quoted


def pattern_problems(lines: Sequence[str], *, shown: str, key: str) -> list[Problem]:
    """The patterns that cannot be read, each by its place in the list that `key` names."""
    wrong = []
    for index, line in enumerate(lines):
        try:
            Patterns([line])
        except (ValueError, re.error):  # re.error: a range such as `[z-a]`
            wrong.append(Problem(shown, f"{key}[{index}]", f"{quoted(line)} is not a pattern"))
    return wrong


def hidden_problems(entry: EntryTable, *, shown: str) -> list[Problem]:
    """What is wrong with the patterns of an entry that has a source folder."""
    wrong = pattern_problems(entry.ignore, shown=shown, key="entry.ignore")
    if wrong:
        return wrong
    patterns = Patterns(entry.ignore)
    for path in _way_to(entry.script):
        reason, index = patterns.judge(path)
        if reason:
            return [_hidden(entry, path, index, shown)]
    return []


def _way_to(script: str) -> Iterator[str]:
    """The folders above a script from the top, then itself: what lies in an ignored folder cannot be taken back."""
    for index, letter in enumerate(script):
        if letter == "/":
            yield script[: index + 1]
    yield script


def _hidden(entry: EntryTable, path: str, index: int | None, shown: str) -> Problem:
    """A script that would not ship, because a pattern (the spec's of that index, or the safe list's) means `path`."""
    if index is not None:
        message = f"{quoted(entry.ignore[index])} hides the entry script {quoted(entry.script)}"
        return Problem(
            shown, f"entry.ignore[{index}]", message, "take it out, or take the script back with `!`"
        )
    message = f"{quoted(entry.script)} does not ship: {quoted(default_pattern(path))} is ignored by default"
    return Problem(shown, "entry.script", message, f'add "!/{path}" to `ignore`, or move the script')
