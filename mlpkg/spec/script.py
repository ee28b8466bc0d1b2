"""What a server will find wrong with an entry script, seen without running it. Pure: bytes in, findings out.

The rules are those of the original server's start (azure-contract §2 "Start"): what it refuses there
costs a build and a container start, here nothing. What cannot be judged without running is accepted.
"""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Literal, NamedTuple

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_OWN_SCOPE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

_KNOWN_DECORATORS = {"input_schema", "output_schema", "rawhttp"}
"""Decorators that keep a function's signature."""

_NEWER_SYNTAX = r"""^\s*type\s+\w|\b(def|class)\s+\w+\s*\[|\b[rR]?[fF][rR]?["']"""
"""What Python 3.12 and later read and 3.11 may not (PEP 695, 701): no verdict from an older Python."""


Calling = Literal["plain", "lenient", "free"]
"""``plain``: `init()` once, then `run(data)`; ``lenient``: `run` may also be a coroutine function; ``free``: neither."""


class ScriptFinding(NamedTuple):
    """A problem of a script; `line` counts from 1 where it is known."""

    line: int | None
    message: str
    hint: str = ""


def script_findings(source: bytes, *, python: tuple[int, int], calling: Calling) -> tuple[ScriptFinding, ...]:
    """All that is wrong with a script for that Python and that way of calling it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape is the script's business
            tree = ast.parse(source, feature_version=min(python, sys.version_info[:2]))
    except SyntaxError as error:
        if python > sys.version_info[:2] and _may_be_newer(error):
            return ()
        return (ScriptFinding(error.lineno, f"is not Python: {error.msg}"),)
    except (ValueError, RecursionError, MemoryError):  # NUL bytes; nesting beyond the parser's stack
        return (ScriptFinding(None, "is not Python: it cannot be parsed"),)
    return () if calling == "free" else tuple(_definition_findings(tree, awaits=calling == "lenient"))


def _may_be_newer(error: SyntaxError) -> bool:
    return (error.msg or "").startswith("f-string") or bool(re.search(_NEWER_SYNTAX, error.text or ""))


def _definition_findings(tree: ast.Module, *, awaits: bool) -> Iterator[ScriptFinding]:
    bound: dict[str, list[ast.AST]] = {}
    for name, node in _bindings(tree):
        bound.setdefault(name, []).append(node)
    if "*" in bound:
        return
    run_finding = partial(_run_finding, awaits=awaits)
    for name, call, judge in (("init", "init()", _init_finding), ("run", "run(data)", run_finding)):
        if name not in bound:
            yield ScriptFinding(None, f"does not define `{name}`", f"the server calls `{call}`")
            continue
        findings = [judge(node) if isinstance(node, _Function) else None for node in bound[name]]
        if findings[-1] is not None and all(findings):
            yield findings[-1]


def _bindings(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Names that the module's own statements bind, with what binds them; ``*`` for a star import."""
    waiting: list[ast.AST] = list(reversed(tree.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, _Function | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], node
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node
        elif not isinstance(node, _OWN_SCOPE):
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))


def _decorators(function: _Function) -> set[str]:
    """The last parts of the decorators' names."""
    nodes = (node.func if isinstance(node, ast.Call) else node for node in function.decorator_list)
    return {ast.unparse(node).rpartition(".")[2] for node in nodes}


def _init_finding(function: _Function) -> ScriptFinding | None:
    arguments = function.args
    if function.decorator_list:
        return None
    if isinstance(function, ast.AsyncFunctionDef):
        return ScriptFinding(
            function.lineno, "`init` is `async def`: nothing awaits it", "write `def init()`"
        )
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults) + arguments.kw_defaults.count(None)
    if required:
        return ScriptFinding(
            function.lineno, "`init` has required arguments", "the server calls `init()` without any"
        )
    return None


def _run_finding(function: _Function, *, awaits: bool) -> ScriptFinding | None:
    decorators = _decorators(function)
    if decorators - _KNOWN_DECORATORS:
        return None
    if isinstance(function, ast.AsyncFunctionDef) and not awaits:
        hint = "write `def run(data)`, or set the variable MLPKG_LENIENT to true"
        return ScriptFinding(function.lineno, "`run` is `async def`: no answer would come of it", hint)
    message, hint = _run_fault(function, decorators)
    return ScriptFinding(function.lineno, message, hint) if message else None


def _run_fault(function: _Function, decorators: set[str]) -> tuple[str, str]:
    """Message and hint, both empty for a `run` that the server can call."""
    arguments = function.args
    plain = "the server calls `run(data)`, and passes `request_headers` where it is declared"
    if arguments.vararg or arguments.kwarg or arguments.posonlyargs:
        return "`run` has `*args`, `**kwargs` or positional-only arguments", plain
    named = [*arguments.args, *arguments.kwonlyargs]
    defaults = [None] * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults
    needed = [
        default is None
        for argument, default in zip(named, defaults + arguments.kw_defaults, strict=True)
        if argument.arg != "request_headers"
    ]
    if not needed:
        return "`run` takes no data", plain
    if sum(needed) > 1 and "input_schema" not in decorators:
        return f"`run` has {sum(needed)} required arguments", plain
    return "", ""
