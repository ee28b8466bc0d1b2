"""Keys and values of spec files in words, safe to show: on one line, cut, without passwords."""

from __future__ import annotations

import re
from typing import Any

from mlpkg.spec.fields import KeyPath, SpecField

TYPES = {
    "text": "a text",
    "whole": "a whole number",
    "number": "a number",
    "flag": "true or false",
    "texts": "a list of texts",
    "mapping": "a table of texts",
    "table": "a table",
    "tables": "a list of tables",
}

_USER_INFO = r"//[^/\s]*@"
_BARE_KEY = r"[A-Za-z0-9_-]+"
_LONGEST = 60


def key_text(at: KeyPath) -> str:
    """A key path as text: ``models[0].path``, with quotes round a part that TOML would not take bare."""
    text = ""
    for part in at:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if re.fullmatch(_BARE_KEY, part) else quoted(part))
    return text


def header_text(field: SpecField) -> str:
    """How TOML heads the table of a field: ``[entry]``, ``[[models]]``."""
    return f"[[{field.name}]]" if field.kind == "tables" else f"[{field.name}]"


def key_path(text: str) -> KeyPath:
    """The key path behind a text that `key_text` made of plain keys and indexes."""
    return tuple(
        int(part) if part.isdigit() else part for part in text.replace("[", ".").replace("]", "").split(".")
    )


def printable(text: str) -> str:
    """A text that cannot move the cursor or break a line: what is not printable, escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def without_login(text: str) -> str:
    """A text whose addresses have no user name and password."""
    return re.sub(_USER_INFO, "//***@", text)


def quoted(text: str) -> str:
    """A text as it may be shown: in quotes, on one line, cut, and without user name and password."""
    safe = printable(without_login(text))
    return f'"{safe[:_LONGEST]}…"' if len(safe) > _LONGEST else f'"{safe}"'


def found_text(value: Any, *, private: bool) -> str:
    """What a TOML value is, for a message. Of a `private` one, only what cannot be a password."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(_masked(value) if private else value)
    if isinstance(value, int | float):
        too_long = isinstance(value, int) and value.bit_length() > 64  # str() refuses thousands of digits
        return "a number" if private else "a number of more than 64 bits" if too_long else str(value)
    kinds = (dict, "a table"), (list, "a list" if value else "an empty list")
    return next((text for kind, text in kinds if isinstance(value, kind)), "a date or time")


def _masked(value: str) -> str:
    """An address without what may be a password: all before an `@`, all after a `?`."""
    address, question, _ = value.partition("?")
    _, user, host = address.rpartition("@")
    return ("***@" if user else "") + host + ("?***" if question else "")


def allowed_text(field: SpecField) -> str:
    """What a field may hold."""
    return field.rule.allowed or type_text(field)


def type_text(field: SpecField) -> str:
    """Of which type a field is."""
    choices = (field.later and field.later.supported) or field.choices
    return " or ".join(f'"{choice}"' for choice in choices) or TYPES[field.kind]
