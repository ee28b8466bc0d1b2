"""What a run would do to a package, and why: its steps with their reasons, and the image where it can be known.

Reads records, the lock and file listings; writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlpkg.errors import MlpkgError
from mlpkg.lock.choose import read_lock
from mlpkg.lock.inputs import inputs_digest
from mlpkg.plan import plan
from mlpkg.plan.snapshot import snapshot
from mlpkg.spec.withheld import LeftOut
from mlpkg.spec.workspace import Package
from mlpkg.steps.look import why
from mlpkg.steps.pipeline import steps_of

SHOWN = 4
"""Files or packages of a layer that are named."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do. `reasons` has all steps in order; a step without any has nothing to do.

    `plan` is the image's; None where it cannot be said yet, and then `unknown` says why. `left_out` is what
    the safe list keeps out of it.
    """

    package: str
    reasons: Mapping[str, tuple[str, ...]]
    plan: plan.BuildPlan | None
    unknown: str = ""
    left_out: LeftOut = field(default_factory=LeftOut)

    def to_json(self) -> dict[str, Any]:
        """As `mlpkg plan --json` prints it."""
        built = plan.to_json(self.plan) if self.plan else None
        reasons = {step: list(texts) for step, texts in self.reasons.items()}
        left_out = {"first": list(self.left_out.first), "count": self.left_out.count}
        return {"package": self.package, "would_run": reasons, "plan": built, "left_out": left_out}

    def lines(self) -> Iterator[str]:
        """For people."""
        yield self.package
        for step, reasons in self.reasons.items():
            yield f"  {step:<7} {'; '.join(reasons) or 'up to date'}"
        if self.plan is None:
            yield f"  layers: not known yet: {self.unknown}"
            return
        for layer in plan.to_json(self.plan)["layers"]:
            held = layer.get("contents") or [file["path"] for file in layer.get("files", [])]
            more = f" and {len(held) - SHOWN} more" if len(held) > SHOWN else ""
            yield f"    {layer['name']:<24} {', '.join(held[:SHOWN])}{more}"
        if self.left_out.count:
            yield f"  left out by default: {self.left_out}"


def forecast(package: Package) -> Forecast:
    """Look at a package. A mistake in its files is a reason, not an error."""
    reasons = _reasons(package)
    try:
        locked = read_lock(package)
        if locked is None or locked.inputs != inputs_digest(package):
            return Forecast(package.name, reasons, None, "`lock` chooses what they hold")
        shot = snapshot(package)
        return Forecast(package.name, reasons, plan.plan(package.spec, locked, shot), left_out=shot.left_out)
    except MlpkgError as error:
        return Forecast(package.name, reasons, None, " ".join(error.message.split()))


def _reasons(package: Package) -> dict[str, tuple[str, ...]]:
    """Each step's reasons. A step that has none of its own may get one from the step before it."""
    found: dict[str, tuple[str, ...]] = {}
    stale = ""
    for step in steps_of(package.spec):
        own = tuple(str(change) for change in why(step.NAME, package))
        if own:
            stale = step.NAME
        elif stale:
            own = (f"after {stale}, if it changes",)
        found[step.NAME] = own
    return found
