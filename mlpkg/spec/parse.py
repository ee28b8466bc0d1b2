"""From package.toml and mlpkg.toml to the values of `mlpkg.spec.model`, or to all their problems at once.

Nothing here looks at other files: `mlpkg.spec.disk` compares a spec with the disk.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import tomli

from mlpkg.errors import Problem, SpecError
from mlpkg.spec.checks import WRONG, Finding, Wrong, package_findings, workspace_findings
from mlpkg.spec.fields import NOT_YET, KeyPath, SpecField, fields_of
from mlpkg.spec.model import PackageSpec, WorkspaceSpec
from mlpkg.spec.words import TYPES, allowed_text, found_text, header_text, key_text, quoted, type_text

LARGEST = 1 << 20
"""Bytes of a spec file; more is a mistake."""

_Spec = TypeVar("_Spec", PackageSpec, WorkspaceSpec)
_Checks = Callable[[Mapping[str, Any]], Iterator[Finding]]

_SYNTAX_PLACE = r" \(at (?:line (\d+), column \d+|end of document)\)$"


def load_package(path: Path, *, shown: str) -> PackageSpec:
    """Read and check a package.toml; `shown` is its path as the user would type it. Raises SpecError."""
    spec, problems = parse_package(_text_of(path, shown), shown=shown)
    if spec is None:
        raise SpecError(problems)
    return spec


def load_workspace(path: Path, *, shown: str) -> WorkspaceSpec:
    """Read and check a mlpkg.toml; `shown` is its path as the user would type it. Raises SpecError."""
    spec, problems = parse_workspace(_text_of(path, shown), shown=shown)
    if spec is None:
        raise SpecError(problems)
    return spec


def parse_package(text: str, *, shown: str) -> tuple[PackageSpec | None, tuple[Problem, ...]]:
    """The spec in a package.toml's text, or None and all that is wrong with it, in the file's order."""
    return _parse(PackageSpec, package_findings, text, shown)


def parse_workspace(text: str, *, shown: str) -> tuple[WorkspaceSpec | None, tuple[Problem, ...]]:
    """The settings in a mlpkg.toml's text, or None and all that is wrong with it, in the file's order."""
    return _parse(WorkspaceSpec, workspace_findings, text, shown)


def _text_of(path: Path, shown: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise SpecError([Problem(shown, "", f"is larger than {LARGEST} bytes", "is it the right file?")])
        return data.decode("utf-8-sig")
    except OSError as error:
        raise SpecError([Problem(shown, "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem = Problem(shown, "", "is not UTF-8 text", "save it with the encoding UTF-8", line)
        raise SpecError([problem]) from error


def _parse(
    root: type[_Spec], checks: _Checks, text: str, shown: str
) -> tuple[_Spec | None, tuple[Problem, ...]]:
    try:
        document = tomli.loads(text)
    except ValueError as error:  # TOMLDecodeError, and an integer of thousands of digits
        return None, (_syntax_problem(str(error), text, shown),)
    except RecursionError:
        return None, (Problem(shown, "", "is nested too deeply"),)
    findings: list[Finding] = []
    checked = _check_table(root, document, (), findings)
    findings.extend(checks(checked))
    if not findings:
        return _build(root, checked), ()
    from mlpkg.spec.lines import key_lines, line_of  # noqa: PLC0415 (for mistakes only)

    lines = key_lines(text)
    problems = [
        Problem(shown, key_text(found.at), found.message, found.hint, line_of(lines, found.at))
        for found in findings
    ]
    return None, tuple(sorted(problems, key=lambda problem: problem.line or 0))


def _syntax_problem(message: str, text: str, shown: str) -> Problem:
    if "integer string conversion" in message:
        return Problem(shown, "", "is not TOML: an integer is too long")
    place = re.search(_SYNTAX_PLACE, message)
    what = message[: place.start()] if place else message
    line = int(place[1]) if place and place[1] else text.rstrip().count("\n") + 1
    return Problem(shown, "", f"is not TOML: {what}", line=line)


def _check_table(
    table: type[Any], given: Mapping[str, Any], at: KeyPath, findings: list[Finding]
) -> dict[str, Any]:
    """The given values, converted; WRONG for those that were refused."""
    fields = fields_of(table)
    checked: dict[str, Any] = {}
    replaced = set()
    for key, value in given.items():
        field = fields.get(key)
        if field is not None:
            checked[key] = _check_value(field, value, (*at, key), findings)
        else:
            replaced.add(_refuse_key(table, key, at, findings))
    for key, field in fields.items():
        if field.required and key not in given and key not in replaced:
            is_table = field.kind == "table"
            hint = f"add the table {header_text(field)}" if is_table else f"give {allowed_text(field)}"
            findings.append(Finding((*at, key), "missing", hint))
    return checked


def _refuse_key(table: type[Any], key: str, at: KeyPath, findings: list[Finding]) -> str:
    """Refuse a key that the table does not have. Returns the required key that it stands for, if any."""
    from mlpkg.spec.nearest import nearest  # noqa: PLC0415 (difflib, for mistakes only)

    later = NOT_YET.get((table, key))
    if later is not None:
        findings.append(Finding((*at, key), "not supported yet", later.instead))
        return later.replaces
    known = ", ".join(name for name, field in fields_of(table).items() if not field.is_refused)
    findings.append(Finding((*at, key), f"unknown key; allowed: {known}", nearest(table, key)))
    return ""


def _check_value(field: SpecField, value: Any, at: KeyPath, findings: list[Finding]) -> Any:
    later = field.later
    if later is not None and field.is_refused:
        findings.append(Finding(at, "not supported yet", later.instead))
        return WRONG
    before = len(findings)
    checked = _CHECKS[field.kind](field, value, at, findings)
    if later is None or len(findings) > before:
        return checked
    if later.supported and checked not in later.supported:
        message = f"{quoted(checked)} is not supported yet; allowed: {' or '.join(later.supported)}"
        findings.append(Finding(at, message, later.instead))
        return WRONG
    if later.most is not None and len(checked) > later.most:
        message = f"more than {later.most} is not supported yet"
        findings.append(Finding(at, message, later.instead))
        return WRONG
    return checked


def _check_text(field: SpecField, value: Any, at: KeyPath, findings: list[Finding]) -> Any:
    if not isinstance(value, str):
        hint = "put it in quotes" if isinstance(value, int | float) else ""
        return _refuse(findings, _unlike(field, value, at, TYPES["text"], hint))
    rule = field.rule
    if rule.pattern and not re.fullmatch(rule.pattern, value):
        return _refuse(findings, _unlike(field, value, at))
    if "\0" in value:
        return _refuse(findings, _unlike(field, value, at, "a text without NUL"))
    if rule.longest is not None and len(value) > rule.longest:
        return _refuse(findings, _unlike(field, value, at, f"at most {rule.longest} characters"))
    return _plain_path(value) if rule.folder_path else value


def _plain_path(text: str) -> str:
    """A relative path without what says nothing: ``./a//b/`` is ``a/b``."""
    is_plain = not ("//" in text or "./" in text or text.endswith(("/", ".")))
    return text if is_plain else str(PurePosixPath(text))  # the test is ten times as fast


def _check_number(field: SpecField, value: Any, at: KeyPath, findings: list[Finding]) -> Any:
    rule = field.rule
    if rule.size and isinstance(value, str):
        value = _bytes_of(value) if re.fullmatch(rule.pattern, value) else value
    accepted = (int, float) if field.kind == "number" else (int,)
    if isinstance(value, bool) or not isinstance(value, accepted):
        return _refuse(findings, _unlike(field, value, at))
    too_low = (rule.minimum is not None and value < rule.minimum) or (
        rule.above is not None and value <= rule.above
    )
    too_high = rule.maximum is not None and value > rule.maximum
    if too_low or too_high or not math.isfinite(value):
        return _refuse(findings, _unlike(field, value, at))
    return float(value) if field.kind == "number" else value


def _check_flag(field: SpecField, value: Any, at: KeyPath, findings: list[Finding]) -> Any:
    if isinstance(value, bool):
        return value
    return _refuse(findings, _unlike(field, value, at, type_text(field)))


def _check_choice(field: SpecField, value: Any, at: KeyPath, findings: list[Finding]) -> Any:
    if isinstance(value, str) and value in field.choices:
        return value
    from mlpkg.spec.nearest import similar  # noqa: PLC0415 (difflib, for mistakes only)

    hint = similar(value, field.choices) if isinstance(value, str) else ""
    return _refuse(findings, _unlike(field, value, at, type_text(field), hint))


def _check_texts(field: SpecField, value: Any, at: KeyPath, findings: list[Finding]) -> Any:
    if not isinstance(value, list):
        return _refuse(findings, _unlike(field, value, at, type_text(field)))
    rule = field.rule
    items = tuple(_check_text(field, item, (*at, index), findings) for index, item in enumerate(value))
    if rule.filled and not items:
        return _refuse(findings, _unlike(field, value, at))
    if any(isinstance(item, Wrong) for item in items):
        return WRONG
    if rule.distinct and len(set(items)) < len(items):
        for index, item in enumerate(items):
            if item in items[:index]:
                findings.append(Finding((*at, index), f"{quoted(item)} stands twice", "once is enough"))
        return WRONG
    return items


def _check_mapping(field: SpecField, value: Any, at: KeyPath, findings: list[Finding]) -> Any:
    if not isinstance(value, dict):
        return _refuse(findings, _unlike(field, value, at, type_text(field)))
    rule = field.rule
    for name, item in value.items():
        if rule.names and not re.fullmatch(rule.names, name):
            findings.append(Finding((*at, name), f"this name is not allowed; allowed: {rule.allowed}"))
        if not isinstance(item, str):
            hint = "put it in quotes" if isinstance(item, int | float) else ""
            findings.append(_unlike(field, item, (*at, name), TYPES["text"], hint))
        elif "\0" in item:
            findings.append(Finding((*at, name), "holds a NUL character"))
    return value


def _check_nested(field: SpecField, value: Any, at: KeyPath, findings: list[Finding]) -> Any:
    if not isinstance(value, dict) or field.table is None:
        return _refuse(findings, _unlike(field, value, at, f"a table: {header_text(field)}"))
    return _check_table(field.table, value, at, findings)


def _check_tables(field: SpecField, value: Any, at: KeyPath, findings: list[Finding]) -> Any:
    if not isinstance(value, list):
        return _refuse(
            findings, _unlike(field, value, at, f"a list of tables: {header_text(field)}, once for each")
        )
    return tuple(_check_nested(field, item, (*at, index), findings) for index, item in enumerate(value))


_CHECKS: Mapping[str, Callable[[SpecField, Any, KeyPath, list[Finding]], Any]] = {
    "text": _check_text,
    "whole": _check_number,
    "number": _check_number,
    "flag": _check_flag,
    "choice": _check_choice,
    "texts": _check_texts,
    "mapping": _check_mapping,
    "table": _check_nested,
    "tables": _check_tables,
}


def _refuse(findings: list[Finding], finding: Finding) -> Wrong:
    findings.append(finding)
    return WRONG


def _unlike(field: SpecField, value: Any, at: KeyPath, allowed: str = "", hint: str = "") -> Finding:
    """What was found, and what is allowed: the field's own rule unless told otherwise."""
    rule = field.rule
    hint = hint if allowed else rule.hint
    found = found_text(value, private=rule.private)
    return Finding(at, f"found {found}; allowed: {allowed or allowed_text(field)}", hint)


def _bytes_of(text: str) -> int:
    """Bytes of a text that fits `mlpkg.spec.fields.MAX_BODY`."""
    unit = text.lstrip("0123456789")
    number = int(text[: len(text) - len(unit)])
    power = "BKMGT".index(unit.strip()[0].upper())
    factor: int = (1024 if "i" in unit else 1000) ** power
    return number * factor


def _build(table: type[Any], checked: Mapping[str, Any]) -> Any:
    """The dataclass of values that are all right."""
    fields = fields_of(table)
    values = dict(checked)
    for key, value in checked.items():
        nested = fields[key].table
        if nested is not None:
            several = isinstance(value, tuple)
            values[key] = tuple(_build(nested, item) for item in value) if several else _build(nested, value)
    return table(**values)
