"""How a doit run looks: doit's own lines, what each step did, and a table of steps at the end."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from doit.exceptions import BaseFail
from doit.reporter import ConsoleReporter

from mlpkg.errors import MlpkgError
from mlpkg.progress import size_text
from mlpkg.steps import look
from mlpkg.steps.pipeline import STEPS
from mlpkg.tasks.begin import begin_all, reached
from mlpkg.tasks.ended import print_error


class StepReporter(ConsoleReporter):  # type: ignore[misc] # doit has no annotations
    """doit's console output and, for mlpkg's tasks, their reports and plain failures."""

    desc = "doit's console output with a table of steps"

    def __init__(self, outstream: Any, options: Any) -> None:
        super().__init__(outstream, options)
        self.reports: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.is_for_all = False

    def initialize(self, tasks: Mapping[str, Any], selected_tasks: list[str]) -> None:
        """The run begins. What cannot work ends it here, before any work."""
        super().initialize(tasks, selected_tasks)
        self.is_for_all = not reached(tasks, selected_tasks).isdisjoint(step.NAME for step in STEPS)
        try:
            begin_all(tasks, selected_tasks, lambda text: self.failed(1, text))
        except MlpkgError as error:
            self.failed(error.exit_code, str(error))
            sys.exit(error.exit_code)

    def execute_task(self, task: Any) -> None:
        """A task starts: what was looked at before may not hold after it. A group only stands for its tasks."""
        if task.actions:
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
        print_error(text)

    def complete_run(self) -> None:
        """The run is over: the table, where anything was done."""
        super().complete_run()
        if self.reports:
            self.write("\n" + "".join(f"{line}\n" for line in _table(self.reports)))


def _table(reports: list[dict[str, Any]]) -> list[str]:
    width = max(len("package"), *(len(report["package"]) for report in reports))
    rows = [f"{'step':<8} {'package':<{width}} {'time':>9} {'size':>10}"]
    rows += [
        f"{report['step']:<8} {report['package']:<{width}} {report['seconds']:>7.2f} s"
        f" {size_text(report['size']) if report['size'] else '-':>10}"
        for report in reports
    ]
    return rows
