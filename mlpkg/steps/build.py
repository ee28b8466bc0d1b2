"""The build step: from the rendered plan to an image, as a value that holds all that later steps need."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpkg import formats
from mlpkg.errors import ChangedInput, MlpkgError
from mlpkg.lockfile import PackageLock, from_text
from mlpkg.progress import size_text
from mlpkg.spec.workspace import Package
from mlpkg.steps import render
from mlpkg.steps.step import Consumed, Done, Wanted, has_texts, read_record, require_unchanged, write_record
from mlpkg.store import records
from mlpkg.store.files import write_atomically

if TYPE_CHECKING:
    from mlpkg.builders.direct import Built
    from mlpkg.builders.image import Image
    from mlpkg.plan.plan import BuildPlan

NAME = "build"
DOC = "build the image's new layers"
RECORD = "image.json"

IMAGE_LOCK = "image.lock"
"""The image's own copy of the lock: a locked layer that nobody has any more is made again from it."""

_HERE = sys.modules[__name__]


def reads(package: Package) -> tuple[Path, ...]:
    """The models and the code, whole."""
    return render.reads(package)


def fits(result: Mapping[str, Any]) -> bool:
    """An image that can be taken back, and what was made of it."""
    return has_texts(result, lists=["made"]) and _image(result) is not None


def wanted(package: Package) -> Wanted:
    """The formats; which files, the record says."""
    del package
    return Wanted(None, {"format": f"plan/{formats.PLAN} tar/{formats.TAR} image/{formats.IMAGE}"})


def perform(package: Package) -> Done:
    """Build what is new in the image."""
    from mlpkg.builders import direct  # noqa: PLC0415 - only where something is built
    from mlpkg.builders.sources import sources_of  # noqa: PLC0415

    want = wanted(package)
    plan_path = package.records / render.PLAN
    plan_state = records.file_state(plan_path)
    plan = render.read_plan(package)
    kept_lock = _keep_lock(package, plan)
    old = read_record(_HERE, package)
    known = records.holding(old.inputs, package.root) if old else {}
    previous = read_image(package) if old and old.values == want.values else None
    built = direct.build(plan, sources_of(package), previous, known)
    inputs = {package.relative(plan_path): plan_state}
    require_unchanged(package, inputs)
    result = {**built.image.to_json(), "made": list(built.made)}
    write_record(_HERE, package, want, Consumed({**inputs, **built.states}, (kept_lock,), result))
    return _done(built)


def products(package: Package) -> tuple[Path, ...]:
    """The image's copy of the lock."""
    return (package.records / IMAGE_LOCK,)


def result(package: Package) -> Mapping[str, Any]:
    """The last build's image as its record has it; empty where there is none."""
    record = read_record(_HERE, package)
    return record.result if record else {}


def read_image(package: Package) -> Image | None:
    """The last build's image; None where there is none that this version understands."""
    return _image(result(package))


def image_lock(package: Package) -> PackageLock:
    """The lock that the last build's image was made from. Raises MlpkgError where it is gone or damaged."""
    lock = _lock_at(package.records / IMAGE_LOCK)
    if lock is None:
        raise MlpkgError(
            f"{package.relative(package.records / IMAGE_LOCK)}: cannot be read",
            hint=f"run `mlpkg push {package.name}`, which builds the image again",
        )
    return lock


def _image(value: Mapping[str, Any]) -> Image | None:
    from mlpkg.builders.image import Image  # noqa: PLC0415 - light, and only where something was built

    try:
        return Image.from_json(value)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _keep_lock(package: Package, plan: BuildPlan) -> Path:
    """Copy the plan's lock to the image's, where the one there does not already hold the planned layers."""
    locked = {(layer.name, layer.digest) for layer in plan.layers if layer.digest}
    own, planned = package.records / IMAGE_LOCK, package.records / render.PLAN_LOCK
    for path in (own, planned):
        lock = _lock_at(path)
        if lock and locked <= {(layer.name, layer.digest) for layer in lock.layers}:
            if path != own:
                write_atomically(own, path.read_bytes())
            return own
    raise ChangedInput(
        f"{package.relative(planned)}: is not the lock that {render.PLAN} was made from",
        hint=f"run `doit render:{package.name}`, or `mlpkg build {package.name}`",
    )


def _lock_at(path: Path) -> PackageLock | None:
    try:
        return from_text(path.read_text())
    except (OSError, ValueError):
        return None


def _done(built: Built) -> Done:
    from mlpkg.builders.image import FromLock  # noqa: PLC0415

    new = [layer for layer in built.image.layers if layer.name in built.made]
    made = [layer for layer in new if not isinstance(layer.origin, FromLock)]
    locked = [layer.name for layer in new if isinstance(layer.origin, FromLock)]
    kept = [layer.name for layer in built.image.layers if layer.name not in built.made]
    lines = [f"{layer.name:<24} {size_text(layer.size):>9}  {layer.digest[:19]}" for layer in made]
    lines += [f"from the lock: {', '.join(locked)}"] if locked else []
    lines += [f"kept: {', '.join(kept)}"] if kept else []
    lines.append(f"image {built.image.digest}")
    return Done(tuple(lines), sum(layer.size for layer in made))
