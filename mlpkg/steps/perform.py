"""Doing a step: unless its record says that it is done, check its files, do it, and report.

A step hashes what it consumes as it consumes it. What changes meanwhile fails the step; it is never
recorded as done.
"""

from __future__ import annotations

import time
from typing import TypedDict

from mlpkg.errors import SpecError
from mlpkg.spec.workspace import Package
from mlpkg.steps import lock
from mlpkg.steps.look import is_current
from mlpkg.steps.pipeline import step_named, steps_of
from mlpkg.steps.step import Done, Step, is_read


class Report(TypedDict):
    """What a step did, as JSON values: seconds, bytes, and lines for people."""

    step: str
    package: str
    seconds: float
    size: int
    lines: list[str]


def perform(name: str, package: Package, *, upgrade: bool = False) -> Report:
    """Do the step of that name, unless its record says that it is done; `upgrade` moves a lock. Raises MlpkgError."""
    begun = time.monotonic()
    step = step_named(name)
    if upgrade and step is lock:
        _check(step, package)
        done = lock.upgrade(package)
    elif is_current(name, package):
        done = Done(("nothing to do",))
    else:
        _check(step, package)
        done = step.perform(package)
    return {
        "step": name,
        "package": package.name,
        "seconds": time.monotonic() - begun,
        "size": done.size,
        "lines": list(done.lines),
    }


def _check(step: Step, package: Package) -> None:
    """Refuse files that cannot work, all at once, as long as this step or a later one reads any of them.

    What this step does not read may still be made by a task before it is needed.
    """
    order = steps_of(package.spec)
    if not any(later.reads(package) for later in order[order.index(step) :]):
        return
    from mlpkg.spec.disk import check_files  # noqa: PLC0415 - only where something is done

    problems = check_files(
        package.spec,
        package.folder,
        shown=package.shown,
        made_by_tasks=lambda path: not is_read(step, package, path),
    )
    if problems:
        raise SpecError(problems)
