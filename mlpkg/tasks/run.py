"""The verbs that run tasks: the same doit tasks as `doit` itself runs, with mlpkg's exit codes.

A workspace's dodo.py is loaded where there is one, so that its own tasks (training) run before ours.
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doit.cmd_base import ModuleTaskLoader
from doit.cmd_run import Run
from doit.doit_cmd import DoitMain
from doit.exceptions import InvalidCommand, InvalidDodoFile, InvalidTask
from doit.loader import get_module
from doit.task import Task

from mlpkg import interrupt
from mlpkg.errors import SpecError, UsageError
from mlpkg.plan import resources
from mlpkg.spec.workspace import Workspace, load
from mlpkg.steps import lock
from mlpkg.tasks import doit as tasks
from mlpkg.tasks.ended import RunEnded
from mlpkg.tasks.reporter import StepReporter

DODO_ERRORS = (InvalidCommand, InvalidDodoFile, InvalidTask)
"""What doit raises for tasks that cannot be."""

DODO_HINT = "correct it; `doit list` shows what doit makes of it"


@dataclass
class RunOutcome:
    """How a run ended: an exit code, the steps' reports, and the errors as texts."""

    exit_code: int = 0
    reports: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def drive(  # noqa: PLR0913 - the verbs' options
    root: Path, step: str, names: tuple[str, ...], *, jobs: int, upgrade: bool, quiet: bool
) -> RunOutcome:
    """Run one step, and those before it, for some packages. None: all that are sound; broken ones end it with 2.

    Raises SpecError, UsageError before anything runs; SystemExit when dodo.py does.
    """
    interrupt.install()
    os.chdir(root)
    workspace = load(root)
    packages = workspace.chosen(names)
    if not packages:
        raise SpecError(workspace.problems)
    outcome = RunOutcome()
    if not names:
        sys.stderr.write(workspace.told())
        if workspace.broken:
            outcome.exit_code = SpecError.exit_code
            outcome.errors.append(str(SpecError(workspace.problems)))
    namespace = _namespace(root, workspace)
    if upgrade:
        chosen = frozenset(package.name for package in packages)

        def task_lock() -> Iterator[Task]:
            yield from tasks.package_tasks(lock, workspace.packages, upgrade=chosen)

        namespace["task_lock"] = task_lock
    namespace["DOIT_CONFIG"] = {**_settings(namespace), "reporter": _reporter(outcome, quiet=quiet)}
    arguments = [
        "run",
        *(["-n", str(jobs)] if jobs else []),
        *(f"{step}:{package.name}" for package in packages),
    ]
    main, command = DoitMain(ModuleTaskLoader(namespace), config_filenames=()), _run_command(root, outcome)
    main.DOIT_CMDS = tuple(command if known is Run else known for known in DoitMain.DOIT_CMDS)
    try:
        code = main.run(arguments)
    except RunEnded as end:
        outcome.errors.append(end.text)
        outcome.exit_code = max(outcome.exit_code, int(str(end.code)))
        code = outcome.exit_code
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        outcome.exit_code = max(outcome.exit_code, code)
    if not outcome.exit_code and code:
        # doit's own: 1 a task failed, 2 a task broke, 3 it could not start (which is no user's mistake here).
        outcome.exit_code = 1 if code in (1, 2) else 3
    if not names:
        tasks.tell_again(workspace)
    return outcome


def _namespace(root: Path, workspace: Workspace) -> dict[str, Any]:
    """The tasks of dodo.py, and ours where it has none of that name."""
    tasks.use(workspace)
    ours: dict[str, Any] = {"DOIT_CONFIG": tasks.DOIT_CONFIG, **tasks.creators()}
    if not (root / "dodo.py").is_file():
        return ours
    try:
        module = get_module("dodo.py", str(root), seek_parent=False)
    except Exception as error:  # the user's code: it may raise anything, and that is no bug of ours
        raise UsageError(_mistake(error, root), hint=DODO_HINT) from error
    return {**ours, **dict(inspect.getmembers(module))}


def _settings(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of dodo.py, so that the user's own tasks have one database whoever runs them."""
    own = namespace.get("DOIT_CONFIG")
    return {**tasks.DOIT_CONFIG, **own} if isinstance(own, dict) else dict(tasks.DOIT_CONFIG)


def _run_command(root: Path, outcome: RunOutcome) -> type[Run]:
    """Doit's own run command; what a user's dodo.py makes it raise is told as a mistake, not as a bug."""

    class Command(Run):  # type: ignore[misc] # doit has no annotations
        name = "run"

        def execute(self, params: Any, args: Any) -> Any:
            try:
                return super().execute(params, args)
            except Exception as error:  # the user's code again: its task creators
                is_theirs = isinstance(error, DODO_ERRORS) or _line_of(error, root)
                if not is_theirs or not (root / "dodo.py").is_file():
                    raise
                told = UsageError(_mistake(error, root), hint=DODO_HINT)
                outcome.errors.append(str(told))
                sys.stderr.write(f"error: {told}\n")
                # doit would print a traceback of an exception.
                sys.exit(told.exit_code)

    return Command


def _mistake(error: Exception, root: Path) -> str:
    """What a user's task file raised: file, line, and the traceback's last line."""
    said = traceback.format_exception_only(error)[-1].strip()
    return f"{_line_of(error, root) or 'dodo.py'}: {said}"


def _line_of(error: Exception, root: Path) -> str:
    """The place in the user's own files where it was raised, or nothing."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(Path(error.filename), root)}:{error.lineno or 1}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(root) and not _is_installed(path):
            return f"{_shown(path, root)}:{frame.lineno}"
    return ""


def _is_installed(path: Path) -> bool:
    """Whether a file is mlpkg's own or a library's: either may lie inside the workspace."""
    return path.is_relative_to(resources.package_folder()) or "site-packages" in path.parts


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _reporter(outcome: RunOutcome, *, quiet: bool) -> type[StepReporter]:
    """Doit makes the reporter itself, from a class; this one speaks on stderr and fills `outcome`."""

    class Recorder(StepReporter):
        def __init__(self, outstream: Any, options: Any) -> None:  # noqa: ARG002 - doit's signature
            super().__init__(sys.stderr, options)
            self.reports = outcome.reports
            self.errors = outcome.errors

        def write(self, text: str) -> None:
            if not quiet:
                super().write(text)

        def failed(self, code: int, text: str) -> None:
            super().failed(code, text)
            outcome.exit_code = max(outcome.exit_code, code)

    return Recorder
