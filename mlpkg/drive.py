"""The verbs that run tasks: the same doit tasks as `doit` itself runs, with mlpkg's exit codes.

A workspace's dodo.py is loaded where there is one, so that its own tasks (training) run before ours.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from doit.exceptions import InvalidDodoFile
from doit.loader import get_module

from mlpkg import tasks
from mlpkg.errors import UsageError
from mlpkg.reporter import StepReporter
from mlpkg.workspace import Workspace, load


@dataclass
class Outcome:
    """How a run ended: an exit code, the steps' reports, and the errors as texts."""

    exit_code: int = 0
    reports: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def drive(  # noqa: PLR0913 - the verbs' options
    root: Path, step: str, names: tuple[str, ...], *, jobs: int, upgrade: bool, quiet: bool
) -> Outcome:
    """Run one step, and those before it, for some packages (none: all).

    Raises SpecError, UsageError before anything runs.
    """
    os.chdir(root)
    workspace = load(root)
    packages = tuple(workspace.package(name) for name in names) or workspace.packages
    if not packages:
        raise UsageError(
            f"no packages in {root}", hint="a package is a folder with package.toml; see mlpkg.toml"
        )
    outcome = Outcome()
    namespace = _namespace(root, workspace)
    if upgrade:
        chosen = frozenset(package.name for package in packages)

        def task_lock() -> Iterator[tasks.TaskDict]:
            yield from tasks.package_tasks("lock", workspace.packages, upgrade=chosen)

        namespace["task_lock"] = task_lock
    namespace["DOIT_CONFIG"] = {**tasks.DOIT_CONFIG, "reporter": _reporter(outcome, quiet=quiet)}
    arguments = [
        "run",
        *(["-n", str(jobs)] if jobs else []),
        *(f"{step}:{package.name}" for package in packages),
    ]
    try:
        code = DoitMain(ModuleTaskLoader(namespace), config_filenames=()).run(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        outcome.exit_code = max(outcome.exit_code, code)
    if not outcome.exit_code and code:
        # doit's own: 1 a task failed, 2 a task broke, 3 it could not start (which is no user's mistake here).
        outcome.exit_code = 1 if code in (1, 2) else 3
    return outcome


def _namespace(root: Path, workspace: Workspace) -> dict[str, Any]:
    """The tasks of dodo.py, and ours where it has none of that name."""
    tasks.use(workspace)
    ours = {name: getattr(tasks, name) for name in tasks.__all__}
    if not (root / "dodo.py").is_file():
        return ours
    try:
        module = get_module("dodo.py", str(root), seek_parent=False)
    except InvalidDodoFile as error:
        raise UsageError(f"{root / 'dodo.py'}: {error}") from error
    return {**ours, **dict(inspect.getmembers(module))}


def _reporter(outcome: Outcome, *, quiet: bool) -> type[StepReporter]:
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
