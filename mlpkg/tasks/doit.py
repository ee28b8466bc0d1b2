"""doit's view of a workspace: a task a step and package. ``from mlpkg.tasks import *`` in dodo.py is all.

doit schedules and speaks; whether a step is done is said by its record (`mlpkg.steps.look.is_current`). What
doit gets wrong for builds (reference: it hashes after the action, trusts equal times, loses its database)
therefore decides nothing here. A model is an order-only dependency, as in Make: a task that makes it runs
before, and doit never reads it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from doit.action import BaseAction
from doit.dependency import MD5Checker
from doit.exceptions import BaseFail, TaskFailed

from mlpkg.errors import MlpkgError, SpecError
from mlpkg.spec.workspace import Package, Workspace, load
from mlpkg.steps import look
from mlpkg.steps.look import is_current
from mlpkg.steps.pipeline import STEPS, step_before, steps_of
from mlpkg.steps.step import Step, record_path
from mlpkg.store.runlock import hold_workspace
from mlpkg.tasks.reporter import StepReporter

TaskDict = dict[str, Any]
"""A task as doit takes it (doit, "dictionary metadata")."""


class OrderOnly(str):
    """A path that orders tasks, as Make's order-only prerequisites do: its content is not doit's business."""

    __slots__ = ()


class Checker(MD5Checker):  # type: ignore[misc] # doit has no annotations
    """doit's own checker for everybody's files; it neither misses nor reads an `OrderOnly` path."""

    def exists(self, file_path: str) -> bool:
        """A missing model is reported by the step that reads it, with its key in the spec."""
        return isinstance(file_path, OrderOnly) or Path(file_path).exists()

    def info(self, file_path: str) -> os.stat_result | None:
        """What doit passes to `check_modified`."""
        return None if isinstance(file_path, OrderOnly) else Path(file_path).stat()

    def check_modified(self, file_path: str, file_stat: os.stat_result, state: Any) -> bool:
        """Whether doit must run the task for this file."""
        if isinstance(file_path, OrderOnly):
            return False
        return bool(super().check_modified(file_path, file_stat, state))

    def get_state(self, dep: str, current_state: Any) -> Any:
        """What doit keeps of a file after a task."""
        return (
            None
            if current_state
            else "order only"
            if isinstance(dep, OrderOnly)
            else super().get_state(dep, current_state)
        )


class StepFailed(TaskFailed):  # type: ignore[misc] # doit has no annotations
    """A step's failure with its exit code; its message needs no traceback."""

    def __init__(self, error: MlpkgError) -> None:
        super().__init__(str(error))
        self.exit_code = error.exit_code


class StepAction(BaseAction):  # type: ignore[misc] # doit has no annotations
    """Runs one step of one package. No capture: doit's swaps the process's streams and mixes threads."""

    def __init__(self, step: str, package: Package, *, upgrade: bool = False) -> None:
        self.step, self.package, self.upgrade = step, package, upgrade
        self.task: Any = None
        self.out = self.err = ""
        self.result: str | None = None
        self.values: Mapping[str, Any] = {}

    def execute(self, out: object = None, err: object = None) -> BaseFail | None:  # noqa: ARG002 - doit's signature
        """Do the step; its report becomes the task's values."""
        from mlpkg.steps.perform import perform  # noqa: PLC0415 - only where something runs

        try:
            hold_workspace(self.package.root)
            look.forget()
            report = perform(self.step, self.package, upgrade=self.upgrade)
        except MlpkgError as error:
            return StepFailed(error)
        except OSError as error:
            return StepFailed(MlpkgError(f"{self.step}:{self.package.name}: {error}"))
        self.values = {"report": report}
        self.result = f"{self.step} {self.package.name} {report['lines'][-1]}"
        return None

    def __str__(self) -> str:
        return f"mlpkg {self.step} {self.package.name}"


def package_tasks(
    step: Step, packages: tuple[Package, ...], *, upgrade: frozenset[str] = frozenset()
) -> Iterator[TaskDict]:
    """One step's tasks for some packages, below a group of the step's name. `upgrade`: whose lock moves."""
    yield {"basename": step.NAME, "name": None, "doc": f"{step.DOC} (all packages)"}
    for package in packages:
        if step in steps_of(package.spec):
            yield {"basename": step.NAME, **task(step, package, upgrade=package.name in upgrade)}


def task(step: Step, package: Package, *, upgrade: bool = False) -> TaskDict:
    """One step of one package as a doit task."""
    before = step_before(step, package.spec)
    return {
        "name": package.name,
        "doc": f"{step.DOC}: {package.shown}",
        "actions": [StepAction(step.NAME, package, upgrade=upgrade)],
        "task_dep": [f"{before.NAME}:{package.name}"] if before else [],
        "file_dep": [OrderOnly(package.relative(path)) for path in step.reads(package)],
        "targets": [package.relative(record_path(step, package))],
        "uptodate": [False] if upgrade else [(is_current, [step.NAME, package])],
        "clean": [(clean, [step, package])],
        "verbosity": 0,
    }


def clean(step: Step, package: Package) -> None:
    """`doit clean`: forget a step. Locks are committed files and stay; images in a registry stay too."""
    for path in (record_path(step, package), *step.products(package)):
        path.unlink(missing_ok=True)


class WorkspaceReporter(StepReporter):
    """A run for all packages does the sound ones and ends with 2 where others are broken."""

    def complete_run(self) -> None:
        """The run is over. An interruption or failure on its way out keeps its own end."""
        super().complete_run()
        if self.is_for_all and _loaded and _loaded[0].broken:
            tell_again(_loaded[0])
            if sys.exc_info()[0] is None:
                sys.exit(SpecError.exit_code)


def tell_again(workspace: Workspace) -> None:
    """At the end of a run for all packages: which were not in it."""
    if workspace.broken:
        sys.stderr.write(f"error: left out, see above: {', '.join(one.shown for one in workspace.broken)}\n")


def _load() -> Workspace:
    """The workspace of the current folder (doit has moved to dodo.py's). A user's mistake ends doit plainly.

    Arguments such as ``push:diabetes`` name packages: then the others are not spoken of.
    """
    named = {name for argument in sys.argv[1:] if (name := argument.partition(":")[2])}
    try:
        workspace = load(Path.cwd())
        wanted = [problem for one in workspace.broken if one.name in named for problem in one.problems]
        if wanted:
            raise SpecError(wanted)
    except MlpkgError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    if not named:
        sys.stderr.write(workspace.told())
    return workspace


_loaded: list[Workspace] = []
"""The workspace of this process; doit asks for it once for each kind of task."""


def use(workspace: Workspace) -> None:
    """Make tasks for a workspace that is loaded already."""
    _loaded[:] = [workspace]


def _workspace() -> Workspace:
    if not _loaded:
        _require_our_settings()
        _loaded.append(_load())
    return _loaded[0]


def _require_our_settings() -> None:
    """A dodo.py with a DOIT_CONFIG of its own must keep ours: without it doit reads models, and refuses nothing."""
    config = getattr(sys.modules.get("dodo"), "DOIT_CONFIG", DOIT_CONFIG)
    lacking = [key for key in ("check_file_uptodate", "reporter") if key not in config]
    if lacking:
        sys.stderr.write(
            f"error: dodo.py: its DOIT_CONFIG replaces mlpkg's and lacks {', '.join(lacking)}\n"
            "  write: DOIT_CONFIG = {**DOIT_CONFIG, …your own…} below `from mlpkg.tasks import *`\n"
        )
        sys.exit(2)


def creators() -> dict[str, Callable[[], Iterator[TaskDict]]]:
    """The functions that doit takes tasks from, by the names it knows them by (``task_lock`` and so on)."""
    return {f"task_{step.NAME}": _creator(step) for step in STEPS}


def _creator(step: Step) -> Callable[[], Iterator[TaskDict]]:
    def create() -> Iterator[TaskDict]:
        return package_tasks(step, _workspace().packages)

    create.__name__, create.__doc__ = f"task_{step.NAME}", f"{step.DOC[0].upper()}{step.DOC[1:]}."
    return create


DOIT_CONFIG = {
    # A name of its own: a dodo.py that loses these settings must not open it as another kind of database.
    "backend": "sqlite3",
    "dep_file": ".doit.sqlite",
    "check_file_uptodate": Checker,
    "reporter": WorkspaceReporter,
    "verbosity": 2,
}
