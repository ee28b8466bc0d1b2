"""Which steps there are, in which order, and which of them a spec asks for. The one place that says so."""

from __future__ import annotations

from mlpkg.spec.model import PackageSpec
from mlpkg.steps import build, lock, push, render, tag
from mlpkg.steps.step import Step

STEPS: tuple[Step, ...] = (lock, render, build, tag, push)
"""All steps, first to last."""

_BY_NAME = {step.NAME: step for step in STEPS}


def step_named(name: str) -> Step:
    """The step of that name. Raises KeyError."""
    return _BY_NAME[name]


def steps_of(spec: PackageSpec) -> tuple[Step, ...]:
    """The steps of a package, in order. A step that only some specs ask for is left out here."""
    del spec
    return STEPS


def step_before(step: Step, spec: PackageSpec) -> Step | None:
    """The step that must be done before this one; None for the first."""
    names = [known.NAME for known in steps_of(spec)]
    place = names.index(step.NAME)
    return steps_of(spec)[place - 1] if place else None
