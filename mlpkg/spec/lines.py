"""On which line of a TOML text each key stands. Only for text that a TOML parser has already accepted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from mlpkg.spec.fields import KeyPath

_DEEPEST = 12
"""Below this depth values are skipped: no spec key lies there."""

_GRAMMAR = r"""
      \"\"\"(?:\\.|[^\\])*?\"\"\"\"{0,2}
    | '''.*?''''{0,2}
    | "(?:\\.|[^"\\\n])*"
    | '[^'\n]*'
    | \#[^\n]*
    | [\n\[\]{}=,.]
    | [^\s\[\]{}=,.\#"']+
    """


class _Token(NamedTuple):
    text: str
    line: int


_END = _Token("", 0)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line, from 1, of every table header, key and list item of a valid TOML text."""
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    tokens = _tokens(text)
    for token in tokens:
        if token.text == "[":
            table = _header(next(tokens, _END), tokens, counts)
            _record(lines, table, token.line)
        elif token.text != "\n":
            at = (*table, *_key(token, tokens, "="))
            _record(lines, at, token.line, below=len(table))
            _value(next(tokens, _END), tokens, at, lines)
    return lines


def line_of(lines: dict[KeyPath, int], at: KeyPath) -> int | None:
    """The line of a key, or of the nearest table or list around it."""
    while at:
        if at in lines:
            return lines[at]
        at = at[:-1]
    return None


def _tokens(text: str) -> Iterator[_Token]:
    line, seen = 1, 0
    for match in re.finditer(_GRAMMAR, text.replace("\r\n", "\n"), re.VERBOSE | re.DOTALL):
        line += match.string.count("\n", seen, match.start())
        seen = match.start()
        if not match.group().startswith("#"):
            yield _Token(match.group(), line)


def _record(lines: dict[KeyPath, int], at: KeyPath, line: int, below: int = 0) -> None:
    for length in range(below + 1, len(at) + 1):
        lines.setdefault(at[:length], line)


def _header(first: _Token, tokens: Iterator[_Token], counts: dict[KeyPath, int]) -> KeyPath:
    """The path of a table header whose first bracket has been read; list elements are counted."""
    is_list = first.text == "["
    parts = _key(next(tokens, _END) if is_list else first, tokens, "]")
    at: KeyPath = ()
    for part in parts:
        at = (*at, part)
        if at in counts:
            at = (*at, counts[at] - 1)
    if is_list:
        next(tokens, _END)
        at = at[:-1] if at and isinstance(at[-1], int) else at
        counts[at] = counts.get(at, 0) + 1
        at = (*at, counts[at] - 1)
    return at


def _key(first: _Token, tokens: Iterator[_Token], end: str) -> tuple[str, ...]:
    """The parts of a dotted key up to the token that ends it."""
    parts = []
    token = first
    while token.text not in (end, ""):
        if token.text != ".":
            parts.append(_plain(token.text))
        token = next(tokens, _END)
    return tuple(parts)


def _plain(text: str) -> str:
    if text[0] not in "\"'":
        return text
    import tomli  # noqa: PLC0415

    return str(tomli.loads(f"key = {text}")["key"])


def _value(first: _Token, tokens: Iterator[_Token], at: KeyPath, lines: dict[KeyPath, int]) -> str:
    """Read a value. Returns the token after it where that had to be read (a scalar's), else nothing."""
    if first.text in ("[", "{") and len(at) > _DEEPEST:
        return _skip(tokens)
    if first.text == "[":
        return _items(tokens, at, lines)
    if first.text == "{":
        return _pairs(tokens, at, lines)
    for token in tokens:
        if token.text in ("\n", ",", "]", "}"):
            return token.text
    return ""


def _skip(tokens: Iterator[_Token]) -> str:
    depth = 1
    for token in tokens:
        depth += (token.text in ("[", "{")) - (token.text in ("]", "}"))
        if not depth:
            break
    return ""


def _items(tokens: Iterator[_Token], at: KeyPath, lines: dict[KeyPath, int]) -> str:
    index = 0
    for token in tokens:
        if token.text in ("\n", ","):
            continue
        if token.text == "]":
            break
        lines[*at, index] = token.line
        if _value(token, tokens, (*at, index), lines) == "]":
            break
        index += 1
    return ""


def _pairs(tokens: Iterator[_Token], at: KeyPath, lines: dict[KeyPath, int]) -> str:
    for token in tokens:
        if token.text in ("\n", ","):
            continue
        if token.text == "}":
            break
        key = (*at, *_key(token, tokens, "="))
        _record(lines, key, token.line, below=len(at))
        if _value(next(tokens, _END), tokens, key, lines) == "}":
            break
    return ""
