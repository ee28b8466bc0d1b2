"""The beginning of a run: one run at a time in a workspace, makers before the steps that read what they make.

doit tells a reporter of a run before it does anything; mlpkg's own reporter then calls `begin_all`, which also
refuses, before any work, files that cannot work. A run with another reporter begins with the private task
`_begin`, which all steps wait for (doit, "calc_dep").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from doit.dependency import UptodateCalculator

from mlpkg.errors import MlpkgError, Problem, SpecError
from mlpkg.spec.workspace import Package
from mlpkg.steps import lock, look
from mlpkg.steps.pipeline import step_named, steps_of
from mlpkg.steps.step import is_read
from mlpkg.store.runlock import hold_workspace
from mlpkg.tasks.ended import end_run, print_error
from mlpkg.tasks.makers import Makers, find_makers, step_of
from mlpkg.tasks.workers import watch_workers

TASK = "_begin"
"""The task that a run with a reporter of doit's own begins with."""

_begun: list[Makers] = []
"""What this process's run knows of its tasks; nothing before the run has begun."""


def begin_all(tasks: Mapping[str, Any], selected: list[str], tell: Callable[[str], None]) -> None:
    """Begin a run before anything is done: order the makers, refuse what cannot work.

    `tasks` are doit's, by name; their `task_dep` counts because doit reads it when it comes to a task. `tell` takes
    errors that come later. Raises SpecError with all files that cannot work and that no task makes.
    """
    known = _begin(tasks, tell)
    for task in tasks.values():
        if step_of(task) is not None:
            task.calc_dep.clear()
            task.wait_for(makers_of(task))
    problems = list(_refusals(tasks, selected, known))
    if problems:
        raise SpecError(problems)


def makers_of(task: Any) -> tuple[str, ...]:
    """The tasks that must run before a step's task; none before the run has begun."""
    found = step_of(task)
    if found is None or not _begun:
        return ()
    step, package = found
    return _begun[0].of(step_named(step).reads(package))


class Opening(UptodateCalculator):  # type: ignore[misc] # doit has no annotations
    """Begins the run when the task `_begin` has run, in doit's own process (a value saver always runs there)."""

    def configure_task(self, task: Any) -> None:
        """Called by doit when the task is made."""
        task.value_savers.append(self.save)

    def __call__(self) -> bool:
        """Whether the run has begun already."""
        return bool(_begun)

    def save(self) -> dict[str, Any]:
        """Begin. The end of the process is how a user's mistake ends a run under any reporter."""
        try:
            _begin(self.tasks_dict, print_error)
        except MlpkgError as error:
            end_run(error.exit_code, str(error))
        return {}


def _begin(tasks: Mapping[str, Any], tell: Callable[[str], None]) -> Makers:
    root = Path.cwd()
    try:
        hold_workspace(root)
    except OSError as error:
        raise MlpkgError(f"{root}: {error}", hint="make room, or make the folder writable") from error
    _begun[:] = [find_makers(tasks, root)]
    watch_workers(tell)
    return _begun[0]


def reached(tasks: Mapping[str, Any], selected: list[str]) -> set[str]:
    """The names of the selected tasks and of all that they wait for."""
    pending, seen = list(selected), set[str]()
    while pending:
        name = pending.pop()
        if name in seen or name not in tasks:
            continue
        seen.add(name)
        task = tasks[name]
        pending += [*task.task_dep, *task.setup_tasks, *task.calc_dep]
    return seen


def _refusals(tasks: Mapping[str, Any], selected: list[str], known: Makers) -> Iterator[Problem]:
    """What is wrong with the files of the selected packages that have something to lock or build.

    Asked before anything runs: a training task may take hours, and must not be followed by a syntax error.
    """
    packages: dict[str, Package] = {}
    built: set[str] = set()
    for name in reached(tasks, selected):
        step, package = step_of(tasks[name]) or ("", None)
        if package and step_named(step).reads(package):
            packages[package.name] = package
            built |= {package.name} if step != lock.NAME else set()
    unlocked = {name for name, package in packages.items() if not look.look_ahead(lock.NAME, package)}
    stale = unlocked | {
        name
        for name in built
        if not all(look.look_ahead(step, packages[name]) for step in _reading(packages[name]))
    }
    if stale:
        yield from _file_problems([packages[name] for name in sorted(stale)], unlocked, built, known)


def _file_problems(
    stale: list[Package], unlocked: set[str], built: set[str], known: Makers
) -> Iterator[Problem]:
    """What is wrong with files that no task makes. A run that only locks waits for what later steps read."""
    from mlpkg.spec.disk import check_files, check_settings  # noqa: PLC0415 - only where something will be done

    for package in stale:
        if package.name == min(unlocked, default=""):  # mlpkg.toml is the same for all
            yield from check_settings(package.settings, package.root, made_by_tasks=known.make)
        yield from check_files(
            package.spec, package.folder, shown=package.shown, made_by_tasks=_may_wait(package, built, known)
        )
        if package.name in unlocked:
            yield from _requirement_problems(package, known)


def _may_wait(package: Package, built: set[str], known: Makers) -> Callable[[Path], bool]:
    """Whether a file may be absent now: a task makes it, or the run only locks and the lock does not read it."""
    if package.name in built:
        return known.make
    return lambda path: known.make(path) or not is_read(lock, package, path)


def _requirement_problems(package: Package, known: Makers) -> tuple[Problem, ...]:
    """What is wrong with a requirements file that is there; whether it must be is said with the other files."""
    path = package.folder / (package.spec.environment.requirements or "")
    if not path.is_file() or known.make(path):
        return ()
    from mlpkg.wheels.requirements import requirement_problems  # noqa: PLC0415 - only where something is locked

    return requirement_problems(path, folder=package.folder, shown=package.relative(package.folder))


def _reading(package: Package) -> list[str]:
    """The steps up to the last one that reads the package's own files."""
    order = steps_of(package.spec)
    last = max(place for place, step in enumerate(order) if step.reads(package))
    return [step.NAME for step in order[: last + 1]]
