"""Where a text is not TOML, and why: a line, and a caret below it. Pure; needed for mistakes only.

A line is shown without its values: one that lacks a quote may hold a password.
"""

from __future__ import annotations

import re

from mlpkg.errors import Problem
from mlpkg.spec.words import printable, without_login

_PLACE = r" \(at (?:line (\d+), column (\d+)|end of document)\)$"

_STRINGS = r"""
      \"\"\"(?:\\.|[^\\])*?\"\"\"\"{0,2}
    | '''.*?''''{0,2}
    | "(?!"")(?:\\.|[^"\\\n])*"
    | '(?!'')[^'\n]*'
    | \#[^\n]*
    | (?P<lone>["'])
    """
"""Texts and comments; a quote that closes none of them stands alone."""

_LONGEST = 100


def syntax_problem(message: str, text: str, shown: str) -> Problem:
    """What a TOML parser's `message` says of a text, with line and column where they can be had."""
    text = text.replace("\r\n", "\n")
    if "integer string conversion" in message:  # Python's own limit, without a place
        found = re.search(r"[0-9_]{4000,}", text)
        return _at("an integer is too long", text, found.start() if found else 0, shown)
    place = re.search(_PLACE, message)
    what = message[: place.start()] if place else message
    offset = len(text.rstrip())
    if place and place[1]:
        lines = text.split("\n")[: int(place[1]) - 1]
        offset = sum(len(line) + 1 for line in lines) + int(place[2]) - 1
    opened = _bare(text)[1]
    if opened is not None and opened <= offset:
        return _at("a text lacks its closing quote", text, opened, shown)
    return _at(what, text, offset, shown)


def depth_problem(text: str, shown: str) -> Problem:
    """A text whose brackets are too deep for a parser: where they are deepest."""
    depth = deepest = at = 0
    for match in re.finditer(r"[\[\]{}]", _bare(text)[0]):
        depth += 1 if match.group() in "[{" else -1
        if depth > deepest:
            deepest, at = depth, match.start()
    return Problem(shown, "", "is nested too deeply", line=text.count("\n", 0, at) + 1)


def _bare(text: str) -> tuple[str, int | None]:
    """A text with blanks for its strings and comments, up to the quote that nothing closes; and where that is."""
    parts: list[str] = []
    at = 0
    for match in re.finditer(_STRINGS, text, re.VERBOSE | re.DOTALL):
        parts.append(text[at : match.start()])
        if match["lone"]:
            return "".join(parts), match.start()
        parts.append(re.sub(r"[^\n]", " ", match.group()))
        at = match.end()
    return "".join([*parts, text[at:]]), None


def _at(what: str, text: str, offset: int, shown: str) -> Problem:
    start = text.rfind("\n", 0, offset) + 1
    line = text[start:].partition("\n")[0]
    excerpt, column = _excerpt(line, offset - start)
    return Problem(
        shown, "", f"is not TOML: {printable(what)}", "", text.count("\n", 0, offset) + 1, excerpt, column
    )


def _excerpt(line: str, column: int) -> tuple[str, int]:
    """A line without its values, and the column in it, from 1, that stands for `column` (from 0)."""
    key, equals, value = line.partition("=")
    if not equals:
        key, value = "", line
        if not re.search("[\"']", line):  # a table's header, or a word that is none
            shown = printable(without_login(line))[:_LONGEST]
            return shown, min(column, len(shown)) + 1
    quote = re.match("\\s*[\"']*", value)
    head = key + equals + (quote[0] if quote else "")
    shown = printable(without_login(head))[:_LONGEST] + "…"
    return shown, min(column, len(shown) - 1) + 1
