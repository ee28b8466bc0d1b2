"""Whether the patterns of what does not ship can be read, and whether they leave the entry script in the image."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlpkg.errors import Problem
from mlpkg.spec.listing import DEFAULT_IGNORE
from mlpkg.spec.model import Entry
from mlpkg.spec.words import quoted


def hidden_problems(entry: Entry, *, shown: str) -> list[Problem]:
    """What is wrong with the patterns of an entry that has a source folder."""
    from pathspec import GitIgnoreSpec  # noqa: PLC0415 - only packages with folders need it

    wrong = []
    for index, line in enumerate(entry.ignore):
        try:
            GitIgnoreSpec.from_lines([line])
        except (ValueError, re.error):  # re.error: a range such as `[z-a]`
            wrong.append(Problem(shown, f"entry.ignore[{index}]", f"{quoted(line)} is not a pattern"))
    if wrong:
        return wrong
    lines = (*DEFAULT_IGNORE, *entry.ignore)
    patterns = GitIgnoreSpec.from_lines(lines)
    for path in _way_to(entry.script):
        result = patterns.check_file(path)
        if result.include and result.index is not None:
            return [
                _hidden(entry.script, path, result.index - len(DEFAULT_IGNORE), lines[result.index], shown)
            ]
    return []


def _way_to(script: str) -> Iterator[str]:
    """The folders above a script from the top, then itself: what lies in an ignored folder cannot be taken back."""
    for index, letter in enumerate(script):
        if letter == "/":
            yield script[: index + 1]
    yield script


def _hidden(script: str, path: str, index: int, pattern: str, shown: str) -> Problem:
    """A script that would not ship, because a pattern (of the user where `index` is not negative) matches `path`."""
    if index >= 0:
        message = f"{quoted(pattern)} hides the entry script {quoted(script)}"
        return Problem(
            shown, f"entry.ignore[{index}]", message, "take it out, or take the script back with `!`"
        )
    message = f"{quoted(script)} does not ship: {quoted(pattern)} is ignored by default"
    return Problem(shown, "entry.script", message, f'add "!/{path}" to `ignore`, or move the script')
