"""The render step: plan the image and write the plan as texts, with a copy of the lock it was made from."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpkg import formats
from mlpkg.digest import canonical_json, sha256
from mlpkg.errors import ChangedInput, MlpkgError
from mlpkg.plan import resources
from mlpkg.plan.snapshot import snapshot
from mlpkg.spec.listing import LARGE
from mlpkg.spec.workspace import Package
from mlpkg.steps.step import Consumed, Done, Wanted, file_states, require_unchanged, write_record

if TYPE_CHECKING:
    from mlpkg.plan.plan import BuildPlan

NAME = "render"
DOC = "plan the image and render its Dockerfile"
RECORD = "render.json"

PLAN = "plan.json"
PLAN_LOCK = "plan.lock"
"""The lock that the plan was made from: package.lock may be another one before the next build."""

_RENDERED = (PLAN, PLAN_LOCK, "Dockerfile", ".dockerignore")

_HERE = sys.modules[__name__]


def reads(package: Package) -> tuple[Path, ...]:
    """The models and the code, as listings."""
    spec = package.spec
    code = (spec.entry.source_directory or spec.entry.script,) if spec.entry else ()
    return tuple(package.folder / path for path in (*(model.path for model in spec.models), *code))


def fits(result: Mapping[str, Any]) -> bool:
    """There is none."""
    return not result


def wanted(package: Package) -> Wanted:
    """The spec, the lock, the listing of all files, the templates. Contents are the build's."""
    shot = snapshot(package)
    listing = [
        [[entry.path, entry.is_executable, entry.target, entry.size >= LARGE] for entry in entries]
        for entries in (shot.code, *shot.models)
    ]
    return Wanted(
        (package.relative(package.folder / "package.toml"), package.relative(package.lock_path)),
        {
            "files": sha256(canonical_json([listing, list(shot.model_is_folder)])),
            "server": _runtime_listing() if shot.runtime else "",
            "templates": resources.templates_digest(),
            "format": f"plan/{formats.PLAN}",
        },
    )


def perform(package: Package) -> Done:
    """Write the rendered files that change."""
    from mlpkg.lock.choose import current_lock  # noqa: PLC0415 - loads what chooses
    from mlpkg.plan.plan import plan  # noqa: PLC0415 - only where something is planned
    from mlpkg.plan.render import render  # noqa: PLC0415 - loads jinja2
    from mlpkg.store.files import write_atomically  # noqa: PLC0415

    want = wanted(package)
    inputs = file_states(package, want.files or ())
    if inputs[package.relative(package.folder / "package.toml")].digest != package.spec_digest:
        raise ChangedInput(f"{package.shown}: changed since the run began", hint="run it again")
    lock = current_lock(package)
    shot = snapshot(package)
    files = render(plan(package.spec, lock, shot), resources.templates())
    files[PLAN_LOCK] = package.lock_path.read_bytes()
    changed = []
    for name, data in files.items():
        path = package.records / name
        if not path.is_file() or path.read_bytes() != data:
            write_atomically(path, data)
            changed.append(name)
    require_unchanged(package, inputs)
    write_record(_HERE, package, want, Consumed(inputs, tuple(package.records / name for name in files)))
    shown = ", ".join(name for name in changed if name != PLAN_LOCK)
    line = f"{shown} in {package.relative(package.records)}" if shown else "the plan is the same"
    left_out = (f"left out by default: {shot.left_out}",) if shot.left_out.count else ()
    return Done((line, *left_out), sum(len(data) for data in files.values()))


def products(package: Package) -> tuple[Path, ...]:
    """The rendered files."""
    return tuple(package.records / name for name in _RENDERED)


def read_plan(package: Package) -> BuildPlan:
    """The rendered plan. Raises MlpkgError where there is none that this version understands."""
    from mlpkg.plan.plan import from_json  # noqa: PLC0415 - only where something is built

    path = package.records / PLAN
    try:
        return from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MlpkgError(
            f"{package.relative(path)}: {error}", hint=f"run `doit render:{package.name}`"
        ) from error


def planned_tags(package: Package) -> tuple[str, ...]:
    """The tags of the rendered plan; none where it is not rendered."""
    try:
        tags = json.loads((package.records / PLAN).read_bytes())["tags"]
        return tuple(tags) if all(isinstance(tag, str) for tag in tags) else ()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()


@cache
def _runtime_listing() -> str:
    return sha256(canonical_json([entry.path for entry in resources.runtime_files()]))
