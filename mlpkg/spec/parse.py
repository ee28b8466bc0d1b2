"""From package.toml and mlpkg.toml to the values of `mlpkg.spec.model`, or to all their problems at once.

Nothing here looks at other files: `mlpkg.spec.disk` compares a spec with the disk.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import tomli

from mlpkg.digest import Digest, sha256
from mlpkg.errors import Problem, SpecError
from mlpkg.spec.checks import WRONG, Finding, Wrong, package_findings, workspace_findings
from mlpkg.spec.fields import NOT_YET, KeyPath, SpecField, fields_of
from mlpkg.spec.model import PackageSpec, WorkspaceSpec
from mlpkg.spec.words import TYPES, allowed_text, found_text, header_text, key_text, quoted, type_text

LARGEST = 1 << 20
"""Bytes of a spec file; more is a mistake."""

MOST = 100
"""Problems told of one file."""

_Spec = TypeVar("_Spec", PackageSpec, WorkspaceSpec)
_Checks = Callable[[Mapping[str, Any]], Iterator[Finding]]


def load_package(path: Path, *, shown: str) -> tuple[PackageSpec, Digest]:
    """Read and check a package.toml; `shown` is its path as the user would type it. Raises SpecError.

    The digest is that of the very bytes that the spec was made from.
    """
    data = _read(path, shown)
    spec, problems = parse_package(_decoded(data, shown), shown=shown)
    if spec is None:
        raise SpecError(problems)
    return spec, sha256(data)


def load_workspace(path: Path, *, shown: str) -> WorkspaceSpec:
    """Read and check a mlpkg.toml; `shown` is its path as the user would type it. Raises SpecError."""
    spec, problems = parse_workspace(_decoded(_read(path, shown), shown), shown=shown)
    if spec is None:
        raise SpecError(problems)
    return spec


def name_in(path: Path) -> str:
    """The name that a package.toml gives its package, wrong as the rest may be; empty where it cannot be said."""
    try:
        document = tomli.loads(_decoded(_read(path, ""), ""))
    except (SpecError, ValueError, RecursionError):
        return ""
    table = document.get("package")
    name = table.get("name") if isinstance(table, dict) else None
    return name if isinstance(name, str) else ""


def parse_package(text: str, *, shown: str) -> tuple[PackageSpec | None, tuple[Problem, ...]]:
    """The spec in a package.toml's text, or None and all that is wrong with it, in the file's order."""
    return _parse(PackageSpec, package_findings, text, shown)


def parse_workspace(text: str, *, shown: str) -> tuple[WorkspaceSpec | None, tuple[Problem, ...]]:
    """The settings in a mlpkg.toml's text, or None and all that is wrong with it, in the file's order."""
    return _parse(WorkspaceSpec, workspace_findings, text, shown)


def _read(path: Path, shown: str) -> bytes:
    """The bytes of a regular file of bounded size. A pipe or device is not waited for."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SpecError([Problem(shown, "", "cannot be read: it is not a file")])
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise SpecError([Problem(shown, "", f"cannot be read: {error.strerror}")]) from error
    if len(data) > LARGEST:
        raise SpecError([Problem(shown, "", f"is larger than {LARGEST} bytes", "is it the right file?")])
    return data


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _decoded(data: bytes, shown: str) -> str:
    try:
        return data.decode("utf-8-sig")
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
        from mlpkg.spec.syntax import syntax_problem  # noqa: PLC0415 (for mistakes only)

        return None, (syntax_problem(str(error), text, shown),)
    except RecursionError:
        from mlpkg.spec.syntax import depth_problem  # noqa: PLC0415 (for mistakes only)

        return None, (depth_problem(text, shown),)
    findings: list[Finding] = []
    checked = _check_table(root, document, (), findings)
    findings.extend(checks(checked))
    if not findings:
        return _build(root, checked), ()
    from mlpkg.spec.lines import key_lines, line_of  # noqa: PLC0415 (for mistakes only)

    lines = key_lines(text)
    problems = [
        Problem(shown, key_text(found.at), found.message, found.hint, line_of(lines, found.at))
        for found in findings[:MOST]
    ]
    problems.sort(key=lambda problem: problem.line or 0)
    if len(findings) > MOST:
        problems.append(Problem(shown, "", f"and {len(findings) - MOST} more problems"))
    return None, tuple(problems)


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
    hint = nearest(table, key) if len(findings) < MOST else ""  # slow, and not told any more
    findings.append(Finding((*at, key), f"unknown key; allowed: {known}", hint))
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
        seen: set[str] = set()
        for index, item in enumerate(items):
            if item in seen:
                findings.append(Finding((*at, index), f"{quoted(item)} stands twice", "once is enough"))
            seen.add(item)
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
        elif rule.values and not re.fullmatch(rule.values, item):
            findings.append(Finding((*at, name), f"holds {_unfit(item)}", rule.values_hint))
    return value


def _unfit(text: str) -> str:
    return "a NUL character" if "\0" in text else "a line break"


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
