"""The entry script: found, loaded, checked as Azure's server checks it, and called."""

# Importing pathlib would be a tenth of the start-up.
# ruff: noqa: PTH112, PTH113, PTH114, PTH118, PTH119, PTH120, PTH208

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from mlpkg.runtime import azureml
from mlpkg.runtime.hints import import_hint
from mlpkg.runtime.inputs import Parser, json_text, named_values, raw_request
from mlpkg.runtime.logs import SCRIPT_LOGGER

TREE_LINES = 200
"""Lines of the model folder's tree that are logged when init fails (azure-contract §2, Start)."""


class ScriptError(Exception):
    """The script cannot be served; the message is for its author."""


@dataclass(frozen=True)
class EntryScript:
    """A checked script: its functions, and how a request becomes arguments."""

    init: Callable[[], Any]
    run: Callable[..., Any]
    parse: Parser
    wants_headers: bool
    is_raw: bool


def load(app_root: str, entry_script: str, *, lenient: bool) -> EntryScript:
    """Load the script. Raises ScriptError with all its author needs."""
    azureml.install()
    module = _load_file(app_root, entry_script) if entry_script else _load_main(app_root)
    where = getattr(module, "__file__", entry_script)
    for name in ("init", "run"):
        if not hasattr(module, name):
            raise ScriptError(f"User script at {where} does not have a {name}() function defined.")
    driver = getattr(module, "driver_module", None)
    if isinstance(driver, ModuleType) and hasattr(driver, "run"):
        SCRIPT_LOGGER.info("Found driver script at %s and the score script at %s", where, driver.__file__)
        run = driver.run
    else:
        SCRIPT_LOGGER.info("Found user script at %s", where)
        run = module.run
    return _analyse(module.init, run, lenient=lenient)


def _load_file(app_root: str, entry_script: str) -> ModuleType:
    path = os.path.join(app_root, entry_script)
    if not os.path.isfile(path):
        raise ScriptError(
            f"No such file or directory: {path}\n  AZUREML_ENTRY_SCRIPT={entry_script!r} is taken relative to "
            f"AML_APP_ROOT={app_root!r}, which holds: {_listing(app_root)}"
        )
    spec = importlib.util.spec_from_file_location("entry_module", path)
    if spec is None or spec.loader is None:
        raise ScriptError(f"{path} is not a Python file: AZUREML_ENTRY_SCRIPT has to end in .py")
    module = importlib.util.module_from_spec(spec)
    # Unlike Azure's server: dataclasses and pickle look a class's module up in sys.modules.
    sys.modules["entry_module"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # noqa: BLE001 - a script may raise anything, SystemExit too
        raise ScriptError(_import_failure(error)) from None
    return module


def _load_main(app_root: str) -> ModuleType:
    try:
        return importlib.import_module("main")
    except BaseException as error:  # noqa: BLE001 - a script may raise anything, SystemExit too
        if isinstance(error, ModuleNotFoundError) and error.name == "main":
            raise ScriptError(
                "No score script found. Expected score script main.py, or AZUREML_ENTRY_SCRIPT to name one.\n"
                f"  PYTHONPATH: {sys.path}\n  Contents of AML_APP_ROOT={app_root!r}: {_listing(app_root)}"
            ) from None
        raise ScriptError(_import_failure(error)) from None


def _listing(folder: str) -> str:
    try:
        return ", ".join(sorted(os.listdir(folder))[:50]) or "nothing"
    except OSError as error:
        return f"({error.strerror})"


def _import_failure(error: BaseException) -> str:
    return explained("Failed to import user script because it raised an unhandled exception\n", error)


def explained(what: str, error: BaseException) -> str:
    """What failed, the error as its author reads it, and a hint where there is one."""
    hint = import_hint(error)
    return what + readable(error) + (f"\n  {hint}" if hint else "")


def _analyse(init: Callable[[], Any], run: Callable[..., Any], *, lenient: bool) -> EntryScript:
    """Choose how a request becomes arguments, from run's signature and decorators."""
    try:
        parameters = list(inspect.signature(run).parameters.values())
    except (TypeError, ValueError) as error:
        raise ScriptError(f"run is not a function with a signature: {error}") from None
    if any(p.kind not in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters):
        raise ScriptError("run() cannot accept positional-only arguments, *args, or **kwargs.")
    named = [parameter for parameter in parameters if parameter.name != "request_headers"]
    wants_headers = len(named) < len(parameters)
    if not named:
        raise ScriptError(
            'run() needs to accept an argument other than "request_headers".'
            if wants_headers
            else "run() needs to accept an argument for input data."
        )
    is_raw, is_schema = azureml.rawhttp_requested(), is_schema_decorated(run)
    if is_raw and is_schema:
        raise ScriptError("run() cannot be decorated with both @rawhttp and @input_schema")
    first = named[0].name
    if is_raw:
        parse = raw_request(first)
        SCRIPT_LOGGER.info(
            "run() is decorated with @rawhttp. Server will invoke it with the flask request object."
        )
    elif is_schema:
        parse = named_values(named)
        SCRIPT_LOGGER.info(
            "run() is decorated with @input_schema. Server will invoke it with the following arguments: %s.",
            ", ".join(parameter.name for parameter in named),
        )
    else:
        parse = json_text(first, lenient=lenient)
        SCRIPT_LOGGER.info("run() is not decorated. Server will invoke it with the input in JSON string.")
    return EntryScript(init, run, parse, wants_headers, is_raw)


def is_schema_decorated(run: Callable[..., Any]) -> bool:
    """Whether inference-schema, the user's own dependency, has decorated `run`."""
    if "inference_schema" not in sys.modules:
        return False
    from inference_schema import schema_util  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: PLC0415

    return bool(schema_util.is_schema_decorated(run))


def readable(error: BaseException) -> str:
    """The traceback without the frames of the server and of importlib."""
    told = traceback.TracebackException.from_exception(error)
    waiting: list[traceback.TracebackException | None] = [told]
    while waiting:
        part = waiting.pop()
        if part is not None:
            part.stack[:] = [frame for frame in part.stack if _is_the_scripts(frame.filename)]
            waiting += [part.__cause__, part.__context__]
    return "".join(told.format()).rstrip()


def _is_the_scripts(filename: str) -> bool:
    ours = os.path.dirname(__file__) + os.sep
    return not (filename.startswith((ours, "<frozen importlib")) or f"{os.sep}importlib{os.sep}" in filename)


def folder_tree(folder: str) -> Iterator[str]:
    """Lines that draw a folder's tree; a folder that cannot be read is named as such."""
    yield from _tree(os.path.normpath(folder), 0)


def _tree(path: str, depth: int) -> Iterator[str]:
    indent = " " * 4 * depth
    if os.path.isdir(path) and not (depth and os.path.islink(path)):
        yield f"{indent}{os.path.basename(path)}{os.sep}"
        try:
            children = sorted(os.listdir(path))
        except OSError as error:
            yield f"{indent}    ({error.strerror})"
            return
        for child in children:
            yield from _tree(os.path.join(path, child), depth + 1)
    else:
        yield f"{indent}{os.path.basename(path)}"
