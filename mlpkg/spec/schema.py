"""The JSON Schemas (draft 2020-12) and the reference pages of package.toml and mlpkg.toml, for `mlpkg schema`.

Everything comes from the fields of `mlpkg.spec.model`, the strings that follow them, and the rules of
`mlpkg.spec.fields`: there is nothing here to keep in step by hand.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mlpkg.spec import model as spec
from mlpkg.spec.fields import SpecField, fields_of
from mlpkg.spec.model import PackageSpec, WorkspaceSpec
from mlpkg.spec.withheld import CLUTTER, PRIVATE
from mlpkg.spec.words import allowed_text, header_text, type_text

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_CUSTOM = {
    "properties": {"server": {"properties": {"kind": {"const": "custom"}}, "required": ["kind"]}},
    "required": ["server"],
}
_PACKAGE_CONDITIONS = {
    "if": _CUSTOM,
    "then": {"properties": {"server": {"required": ["command"]}}},
    "else": {"required": ["entry"]},
}
"""What hangs on another key, as far as a schema can say it plainly; `mlpkg.spec.checks` knows the rest."""


def package_schema() -> dict[str, Any]:
    """JSON Schema of package.toml: what this version accepts, key by key."""
    return {**_root(PackageSpec, "package.toml"), **_PACKAGE_CONDITIONS}


def workspace_schema() -> dict[str, Any]:
    """JSON Schema of mlpkg.toml."""
    return _root(WorkspaceSpec, "mlpkg.toml")


def package_reference() -> str:
    """The reference page of package.toml, as Markdown."""
    return _page(PackageSpec, "package.toml")


def workspace_reference() -> str:
    """The reference page of mlpkg.toml, as Markdown."""
    return _page(WorkspaceSpec, "mlpkg.toml")


def left_out_reference() -> str:
    """The reference page of the safe list, as Markdown."""
    return (
        "\n\n".join(
            (
                "# What does not ship",
                "Generated from `mlpkg/spec/withheld.py` by `mlpkg schema --write docs/reference`: change it there.",
                (
                    "Of a source folder and of a model's folder, what these patterns (.gitignore's syntax) mean stays out of"
                    ' the image. Patterns of `ignore` come on top, and `!` takes back: `ignore = ["!ca.pem"]`. Below a folder'
                    " that stays out nothing can be taken back. A file that the spec itself names ships, whatever it is called."
                ),
                "## Told by name when an image is planned",
                _patterns(PRIVATE),
                "## Left out without a word",
                _patterns(CLUTTER),
            )
        )
        + "\n"
    )


def _patterns(patterns: Iterable[str]) -> str:
    return ", ".join(f"`{pattern}`" for pattern in patterns)


def texts() -> dict[str, str]:
    """The text of each generated file, by file name."""
    return {
        "package.schema.json": _json(package_schema()),
        "mlpkg.schema.json": _json(workspace_schema()),
        "package-toml.md": package_reference(),
        "mlpkg-toml.md": workspace_reference(),
        "left-out.md": left_out_reference(),
    }


def write_all(folder: Path) -> list[Path]:
    """Write all generated files into a folder, which is made. Returns their paths. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in texts().items():
        paths.append(folder / name)
        paths[-1].write_text(text, encoding="utf-8", newline="\n")
    return paths


@cache
def field_texts() -> Mapping[tuple[str, str], str]:
    """The string after each field of `mlpkg.spec.model`, by class and field name, on one line."""
    tree = ast.parse(inspect.getsource(spec))
    return {
        (table.name, name): text
        for table in tree.body
        if isinstance(table, ast.ClassDef)
        for name, text in _documented(table)
    }


def _documented(table: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for item, after in zip(table.body, table.body[1:], strict=False):
        match item, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(text.split())


def _text_of(table: type[Any], field: SpecField) -> str:
    """What a field is for; a table's own words where it has no string."""
    text = field_texts().get((table.__name__, field.name), "")
    return text or (_table_text(field.table) if field.table else "")


def _table_text(table: type[Any]) -> str:
    """The first sentence of a table's docstring, without the table's name."""
    words = " ".join((table.__doc__ or "").split())
    text = words.partition(": ")[2]
    return text[:1].upper() + text[1:]


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _root(table: type[Any], title: str) -> dict[str, Any]:
    return {"$schema": _DIALECT, "title": title, "description": _table_text(table), **_object(table)}


def _object(table: type[Any]) -> dict[str, Any]:
    known = [field for field in fields_of(table).values() if not field.is_refused]
    value: dict[str, Any] = {
        "type": "object",
        "properties": {field.name: _property(table, field) for field in known},
        "additionalProperties": False,
    }
    required = [field.name for field in known if field.required]
    return {**value, "required": required} if required else value


def _property(table: type[Any], field: SpecField) -> dict[str, Any]:
    value: dict[str, Any] = {"description": _text_of(table, field), **_value(field)}
    absent_only = (
        field.rule.filled and not field.default
    )  # what the key's absence means, but nobody may write
    if not (field.required or field.table or field.default is None or absent_only):
        value["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
    return value


def _value(field: SpecField) -> dict[str, Any]:
    """The schema of a field's values."""
    rule = field.rule
    if field.table is not None:
        nested = _object(field.table)
        return {"type": "array", "items": nested} if field.kind == "tables" else nested
    if field.kind == "texts":
        most = field.later.most if field.later else None
        limits = {
            "minItems": 1 if rule.filled else None,
            "uniqueItems": rule.distinct or None,
            "maxItems": most,
        }
        return {"type": "array", "items": _text(field), **_given(limits)}
    if field.kind == "mapping":
        names = {"propertyNames": {"pattern": rule.names}} if rule.names else {}
        values = {"type": "string", **_given({"pattern": rule.values or None})}
        return {"type": "object", **names, "additionalProperties": values}
    if field.kind in ("whole", "number"):
        limits = {"minimum": rule.minimum, "exclusiveMinimum": rule.above, "maximum": rule.maximum}
        number = {"type": "integer" if field.kind == "whole" else "number", **_given(limits)}
        return {"anyOf": [number, _text(field)]} if rule.size else number
    return {"type": "boolean"} if field.kind == "flag" else _text(field)


def _text(field: SpecField) -> dict[str, Any]:
    choices = (field.later and field.later.supported) or field.choices
    if choices:
        return {"type": "string", "enum": list(choices)}
    return {
        "type": "string",
        **_given({"pattern": field.rule.pattern or None, "maxLength": field.rule.longest}),
    }


def _given(limits: Mapping[str, Any]) -> dict[str, Any]:
    return {name: limit for name, limit in limits.items() if limit is not None}


def _page(root: type[Any], title: str) -> str:
    parts = [
        f"# {title}",
        "Generated from `mlpkg/spec.py` by `mlpkg schema --write docs/reference`: change it there.",
        f"{_table_text(root)} Unknown keys are refused.",
    ]
    for field in fields_of(root).values():
        if field.table is None:
            raise TypeError(f"{title} has a key outside of any table: {field.name}")
        note = " Required." if field.required else ""
        later = f" **Not supported yet:** {field.later.instead}." if field.later else ""
        parts += [f"## `{header_text(field)}`", _text_of(root, field) + note + later, _rows(field.table)]
    return "\n\n".join(parts) + "\n"


def _rows(table: type[Any]) -> str:
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for field in fields_of(table).values():
        cells = (f"`{field.name}`", _value_cell(field), _default_cell(field), _meaning_cell(table, field))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _value_cell(field: SpecField) -> str:
    allowed, kind = allowed_text(field), type_text(field)
    if field.kind == "mapping" and allowed != kind:
        return f"{kind}; each key: {allowed}"
    return f"{kind}; each: {allowed}" if field.kind == "texts" and field.rule.pattern else allowed


def _default_cell(field: SpecField) -> str:
    if field.required:
        return "required"
    if field.default is None:
        return "none"
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{json.dumps(default)}`"


def _meaning_cell(table: type[Any], field: SpecField) -> str:
    text, later = _text_of(table, field), field.later
    if later is None:
        return text
    if field.is_refused:
        return f"{text} **Not supported yet:** {later.instead}."
    what = f"More than {later.most}" if later.most is not None else "Another value"
    return f"{text} {what} is not supported yet: {later.instead}."
