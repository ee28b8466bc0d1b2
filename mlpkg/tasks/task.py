"""A step of a package as one of doit's tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from doit.action import BaseAction
from doit.exceptions import BaseFail, TaskFailed
from doit.task import Task

from mlpkg.errors import MlpkgError
from mlpkg.spec.workspace import Package
from mlpkg.steps import look
from mlpkg.store.runlock import hold_workspace
from mlpkg.tasks.begin import TASK, makers_of


class StepTask(Task):  # type: ignore[misc] # doit has no annotations
    """One step of one package. It has no `file_dep`: whether it is done is said by its record.

    What makes the files that it reads is known when the run begins, and waited for.
    """

    def __init__(self, step: str, package: Package, **fields: Any) -> None:
        super().__init__(f"{step}:{package.name}", calc_dep=[TASK], subtask_of=step, **fields)
        self.step, self.package = step, package
        self.declared = self.task_dep

    def update_deps(self, deps: Mapping[str, Any]) -> None:
        """Called by doit when the task `_begin` is done."""
        super().update_deps(deps)
        self.wait_for(makers_of(self))

    def wait_for(self, names: Iterable[str]) -> None:
        """Let other tasks run before, unless the user asked for this one alone (``-s`` sets another list)."""
        if self.task_dep is self.declared:
            self.task_dep += [name for name in names if name not in self.task_dep]


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
