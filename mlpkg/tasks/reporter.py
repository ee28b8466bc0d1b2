"""How a doit run looks: doit's own lines, what each step did, and a table of steps at the end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from doit.exceptions import BaseFail
from doit.reporter import ConsoleReporter

from mlpkg.errors import MlpkgError, Problem, SpecError
from mlpkg.progress import size_text
from mlpkg.spec.workspace import Package
from mlpkg.steps import lock, look
from mlpkg.steps.pipeline import STEPS, step_named, steps_of
from mlpkg.store.runlock import hold_workspace
from mlpkg.tasks.workers import watch_workers


class StepReporter(ConsoleReporter):  # type: ignore[misc] # doit has no annotations
    """doit's console output and, for mlpkg's tasks, their reports and plain failures."""

    desc = "doit's console output with a table of steps"

    def __init__(self, outstream: Any, options: Any) -> None:
        super().__init__(outstream, options)
        self.reports: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.is_for_all = False

    def initialize(self, tasks: Mapping[str, Any], selected_tasks: list[str]) -> None:
        """The run begins: one at a time; SIGTERM ends it as Ctrl-C does (doit would lose its state).

        Files that cannot work end the run here, before any work; so does a model that nobody makes.
        """
        super().initialize(tasks, selected_tasks)
        self.is_for_all = not _reached(tasks, selected_tasks).isdisjoint(step.NAME for step in STEPS)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            hold_workspace(Path.cwd())
            order_makers(tasks)
            problems = list(_refusals(tasks, selected_tasks))
            if problems:
                raise SpecError(problems)
        except MlpkgError as error:
            self.failed(error.exit_code, str(error))
            sys.exit(error.exit_code)
        watch_workers(lambda text: self.failed(1, text))

    def execute_task(self, task: Any) -> None:
        """A task starts: what was looked at before may not hold after it."""
        look.forget()
        super().execute_task(task)

    def add_success(self, task: Any) -> None:
        """A task has run: say what it did."""
        super().add_success(task)
        report = task.values.get("report") if task.values else None
        if isinstance(report, dict):
            self.reports.append(report)
            for line in report["lines"]:
                self.write(f"     {line}\n")

    def add_failure(self, task: Any, fail: BaseFail) -> None:
        """A task has failed: what, where and what to do, without doit's frame around it."""
        code = getattr(fail, "exit_code", None)
        if code is None:
            super().add_failure(task, fail)
            self.failed(1, f"{task.name}: {fail.get_name()}")
        else:
            self.failed(code, f"{task.name}: {fail.message}")

    def failed(self, code: int, text: str) -> None:
        """Say and keep an error. `code` is one of mlpkg's exit codes."""
        del code
        self.errors.append(text)
        sys.stderr.write(f"error: {text}\n")

    def complete_run(self) -> None:
        """The run is over: the table, where anything was done."""
        super().complete_run()
        if self.reports:
            self.write("\n" + "".join(f"{line}\n" for line in _table(self.reports)))


def order_makers(tasks: Mapping[str, Any]) -> None:
    """Let the tasks that make a package's files run before the steps that read it, however their targets are spelled.

    doit orders by equal texts; a target may also be absolute, or a file in a model folder that is not there yet.
    It is read when it comes to the task, so that what is added here counts.
    """
    targets = list(_others_targets(tasks))
    for task in tasks.values():
        step = _step_of(task)
        if step is None:
            continue
        read = step_named(step[0]).reads(step[1])
        makers = {
            name for target, name in targets if any(target == path or path in target.parents for path in read)
        }
        task.task_dep += sorted(makers - set(task.task_dep))


def _others_targets(tasks: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """What the user's own tasks make, as real paths, with the tasks' names."""
    for name, task in tasks.items():
        if _step_of(task) is None:
            for target in task.targets:
                yield Path(target).resolve(), name


def _step_of(task: Any) -> tuple[str, Package] | None:
    for action in task.actions:
        if hasattr(action, "package"):
            return action.step, action.package
    return None


def _reached(tasks: Mapping[str, Any], selected: list[str]) -> set[str]:
    """The selected tasks and all that they wait for."""
    pending, seen = list(selected), set[str]()
    while pending:
        name = pending.pop()
        if name not in seen and name in tasks:
            seen.add(name)
            pending += tasks[name].task_dep
    return seen


def _refusals(tasks: Mapping[str, Any], selected: list[str]) -> Iterator[Problem]:
    """What is wrong with the files of the selected packages that have something to lock or build.

    Asked before anything runs: a training task may take hours, and must not be followed by a syntax error.
    """
    packages: dict[str, Package] = {}
    built: set[str] = set()
    for name in sorted(_reached(tasks, selected)):
        step = _step_of(tasks[name])
        read = step_named(step[0]).reads(step[1]) if step else ()
        if step and (read or step[0] == lock.NAME):
            packages[step[1].name] = step[1]
            built |= {step[1].name} if step[0] != lock.NAME else set()
    unlocked = {name for name, package in packages.items() if not look.look_ahead(lock.NAME, package)}
    stale = unlocked | {
        name
        for name in built
        if not all(look.look_ahead(step, packages[name]) for step in _reading(packages[name]))
    }
    if not stale:
        return
    from mlpkg.spec.disk import check_files, check_settings  # noqa: PLC0415 - only where something will be done

    targets = [target for target, _ in _others_targets(tasks)]

    def is_made(path: Path) -> bool:
        return any(target == path or path in target.parents for target in targets)

    for name in sorted(stale):
        package = packages[name]
        if name == min(unlocked, default=""):  # mlpkg.toml is the same for all
            yield from check_settings(package.settings, package.root, made_by_tasks=is_made)
        may_wait = is_made if name in built else lambda _: True
        yield from check_files(package.spec, package.folder, shown=package.shown, made_by_tasks=may_wait)
        if name in unlocked:
            yield from _requirement_refusals(package)


def _requirement_refusals(package: Package) -> tuple[Problem, ...]:
    """What is wrong with a requirements file that is there; whether it must be is said with the other files."""
    path = package.folder / (package.spec.environment.requirements or "")
    if not path.is_file():
        return ()
    from mlpkg.wheels.requirements import requirement_problems  # noqa: PLC0415 - only where something is locked

    return requirement_problems(path, folder=package.folder, shown=package.relative(package.folder))


def _reading(package: Package) -> list[str]:
    """The steps up to the last one that reads the package's own files."""
    order = steps_of(package.spec)
    last = max(place for place, step in enumerate(order) if step.reads(package))
    return [step.NAME for step in order[: last + 1]]


def _table(reports: list[dict[str, Any]]) -> list[str]:
    width = max(len("package"), *(len(report["package"]) for report in reports))
    rows = [f"{'step':<8} {'package':<{width}} {'time':>9} {'size':>10}"]
    rows += [
        f"{report['step']:<8} {report['package']:<{width}} {report['seconds']:>7.2f} s"
        f" {size_text(report['size']) if report['size'] else '-':>10}"
        for report in reports
    ]
    return rows
