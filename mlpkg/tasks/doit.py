"""doit's view of a workspace: a task a step and package. ``from mlpkg.tasks import *`` in dodo.py is all.

doit schedules and speaks; whether a step is done is said by its record (`mlpkg.steps.look.is_current`). What
doit gets wrong for builds (reference: it hashes after the action, trusts equal times, loses its database)
therefore decides nothing here. A user's own tasks are doit's alone: its checker, its database, its words.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from doit.task import Task

from mlpkg import interrupt
from mlpkg.errors import MlpkgError, SpecError
from mlpkg.spec.workspace import Package, Workspace, load
from mlpkg.steps.look import is_current
from mlpkg.steps.pipeline import STEPS, step_before, steps_of
from mlpkg.steps.step import Step, record_path
from mlpkg.tasks import begin, database
from mlpkg.tasks.ended import end_run
from mlpkg.tasks.reporter import StepReporter
from mlpkg.tasks.task import StepAction, StepTask


def package_tasks(
    step: Step, packages: tuple[Package, ...], *, upgrade: frozenset[str] = frozenset()
) -> Iterator[Task]:
    """One step's tasks for some packages, below a group of the step's name. `upgrade`: whose lock moves."""
    tasks = [
        task(step, package, upgrade=package.name in upgrade)
        for package in packages
        if step in steps_of(package.spec)
    ]
    yield Task(
        step.NAME,
        None,
        doc=f"{step.DOC} (all packages)",
        has_subtask=True,
        task_dep=[subtask.name for subtask in tasks],
    )
    yield from tasks


def task(step: Step, package: Package, *, upgrade: bool = False) -> StepTask:
    """One step of one package as a doit task."""
    before = step_before(step, package.spec)
    return StepTask(
        step.NAME,
        package,
        doc=f"{step.DOC}: {package.shown}",
        actions=[StepAction(step.NAME, package, upgrade=upgrade)],
        task_dep=[f"{before.NAME}:{package.name}"] if before else [],
        targets=[package.relative(record_path(step, package))],
        uptodate=[False] if upgrade else [(is_current, [step.NAME, package])],
        clean=[(clean, [step, package])],
        verbosity=0,
    )


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
        end_run(error.exit_code, str(error))
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
        interrupt.install()
        _loaded.append(_load())
    database.guard()
    return _loaded[0]


def creators() -> dict[str, Callable[[], Iterator[Task]]]:
    """The functions that doit takes tasks from, by the names it knows them by (``task_lock`` and so on)."""
    return {f"task_{begin.TASK}": _create_begin, **{f"task_{step.NAME}": _creator(step) for step in STEPS}}


def _create_begin() -> Iterator[Task]:
    yield Task(
        begin.TASK,
        [],
        uptodate=[begin.Opening()],
        doc="one run at a time, and what makes a package's files before the steps that read them",
    )


def _creator(step: Step) -> Callable[[], Iterator[Task]]:
    def create() -> Iterator[Task]:
        return package_tasks(step, _workspace().packages)

    create.__name__, create.__doc__ = f"task_{step.NAME}", f"{step.DOC[0].upper()}{step.DOC[1:]}."
    return create


DOIT_CONFIG = {
    **database.SETTINGS,
    "codec_cls": database.Codec,
    "reporter": WorkspaceReporter,
    "verbosity": 2,
    # `doit forget` alone would end in doit's traceback where no tasks are the default ones (doit 0.37).
    "forget_disable_default": True,
}
"""doit's settings. A dodo.py may have its own: `{**DOIT_CONFIG, ...}` keeps what it does not set."""
