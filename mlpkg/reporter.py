"""How a doit run looks: doit's own lines, what each step did, and a table of steps at the end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from doit.exceptions import BaseFail
from doit.reporter import ConsoleReporter

from mlpkg.errors import Problem, SpecError
from mlpkg.progress import size_text
from mlpkg.runlock import hold_workspace


class StepReporter(ConsoleReporter):  # type: ignore[misc] # doit has no annotations
    """doit's console output and, for mlpkg's tasks, their reports and plain failures."""

    desc = "doit's console output with a table of steps"

    def __init__(self, outstream: Any, options: Any) -> None:
        super().__init__(outstream, options)
        self.reports: list[dict[str, Any]] = []
        self.errors: list[str] = []

    def initialize(self, tasks: Mapping[str, Any], selected_tasks: list[str]) -> None:
        """The run begins: one at a time; SIGTERM ends it as Ctrl-C does (doit would lose its state).

        A model that neither is there nor is made by any task ends the run here, before any work.
        """
        super().initialize(tasks, selected_tasks)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        problems = list(_missing_models(tasks, selected_tasks))
        if problems:
            error = SpecError(problems)
            self.failed(error.exit_code, str(error))
            sys.exit(error.exit_code)
        hold_workspace(Path.cwd())

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


def _missing_models(tasks: Mapping[str, Any], selected: list[str]) -> Iterator[Problem]:
    """Models of the selected packages that neither are there nor are made by a task."""
    names = {name: None for name in selected if name in tasks}
    names |= {
        name: None for group in list(names) if tasks[group].has_subtask for name in tasks[group].task_dep
    }
    packages = {
        action.package.name: action.package
        for name in names
        for action in tasks[name].actions
        if hasattr(action, "package") and action.step != "lock"
    }
    missing = [
        (package, number, package.folder / model.path)
        for package in packages.values()
        for number, model in enumerate(package.spec.models)
        if not (package.folder / model.path).exists()
    ]
    if not missing:
        return
    targets = [Path(os.path.abspath(target)) for task in tasks.values() for target in task.targets]  # noqa: PTH100
    for package, number, path in missing:
        if not any(target == path or path in target.parents for target in targets):
            yield Problem(
                package.shown,
                f"models[{number}].path",
                f"{package.spec.models[number].path!r} does not exist, and no task makes it",
                "correct the path, or name it among the targets of the doit task that makes it",
            )


def _table(reports: list[dict[str, Any]]) -> list[str]:
    width = max(len("package"), *(len(report["package"]) for report in reports))
    rows = [f"{'step':<8} {'package':<{width}} {'time':>9} {'size':>10}"]
    rows += [
        f"{report['step']:<8} {report['package']:<{width}} {report['seconds']:>7.2f} s"
        f" {size_text(report['size']) if report['size'] else '-':>10}"
        for report in reports
    ]
    return rows
