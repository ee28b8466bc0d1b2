"""What doit executes: one function a step. Each looks at its record first, works, and writes its record last.

A step hashes what it consumes as it consumes it. What changes meanwhile fails the step; it is never
recorded as done.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from mlpkg.builders import direct
from mlpkg.errors import ChangedInput, MlpkgError, SpecError
from mlpkg.lock import choose as locking
from mlpkg.lock.inputs import requirement_files
from mlpkg.lockfile import PackageLock
from mlpkg.plan import plan as planning
from mlpkg.plan import resources
from mlpkg.progress import note, size_text
from mlpkg.spec.disk import check_files
from mlpkg.spec.workspace import Package
from mlpkg.steps import look as steps
from mlpkg.store import records
from mlpkg.store.records import FileState

Report = dict[str, Any]
"""What a step says of itself: `step`, `package`, `seconds`, `size` (bytes), `lines` for people. JSON values."""


def perform(step: str, package: Package, *, upgrade: bool = False) -> Report:
    """Do a step, unless its record says that it is done. Raises MlpkgError."""
    begun = time.monotonic()
    if not upgrade and steps.is_current(step, package):
        report: Report = {"lines": ["nothing to do"], "size": 0}
    else:
        if step in ("lock", "render", "build"):
            _check(package, models_exist=step != "lock")
        report = _lock(package, upgrade=upgrade) if step == "lock" else _STEPS[step](package)
    return {"step": step, "package": package.name, "seconds": time.monotonic() - begun, **report}


def _check(package: Package, *, models_exist: bool) -> None:
    """Refuse files that cannot work, all at once. Before the lock, models may still be made by a task."""
    problems = check_files(
        package.spec, package.folder, shown=package.shown, made_by_tasks=lambda _: not models_exist
    )
    if problems:
        raise SpecError(problems)


def _lock(package: Package, *, upgrade: bool) -> Report:
    want = steps.wanted("lock", package)
    files = tuple(package.relative(path) for path in requirement_files(package))
    inputs = _states(package, files)
    lock, done = locking.make_lock(package, upgrade=upgrade, notify=note)
    _unchanged(package, inputs)
    outputs = [package.lock_path, *([package.requirements_lock_path] if lock.wheels else [])]
    steps.record("lock", package, want, inputs=inputs, outputs=tuple(outputs))
    lines = [
        f"{done}: {len(lock.base) + len(lock.system)} Debian packages, {len(lock.wheels)} Python packages"
    ]
    lines += [f"{layer.name:<24} {size_text(layer.size):>9}  {layer.digest[:19]}" for layer in lock.layers]
    return {"lines": lines, "size": sum(layer.size for layer in lock.layers)}


def _render(package: Package) -> Report:
    from mlpkg.plan.render import render  # noqa: PLC0415 - loads jinja2

    want = steps.wanted("render", package)
    inputs = _states(package, want.files or ())
    if inputs[package.relative(package.folder / "package.toml")].digest != package.spec_digest:
        raise ChangedInput(f"{package.shown}: changed since the run began", hint="run it again")
    plan = planning.plan(package.spec, current_lock(package), steps.snapshot(package))
    files = render(plan, resources.templates())
    changed = []
    for name, data in files.items():
        path = package.records / name
        if not path.is_file() or path.read_bytes() != data:
            records.write_atomically(path, data)
            changed.append(name)
    _unchanged(package, inputs)
    steps.record(
        "render", package, want, inputs=inputs, outputs=tuple(package.records / name for name in files)
    )
    lines = (
        [f"{', '.join(changed)} in {package.relative(package.records)}"]
        if changed
        else ["the plan is the same"]
    )
    return {"lines": lines, "size": sum(len(data) for data in files.values())}


def _build(package: Package) -> Report:
    want = steps.wanted("build", package)
    plan_path = package.records / "plan.json"
    plan_state = records.file_state(plan_path)
    old = records.read(package.record("build"), "build")
    plan = read_plan(package)
    image, states = direct.build(plan, sources_of(package), _previous(old), _holding(package, old))
    inputs = {package.relative(plan_path): plan_state, **states}
    _unchanged(package, {package.relative(plan_path): plan_state})
    steps.record("build", package, want, inputs=inputs, result=image.to_json())
    plan_layers = {layer.name: layer for layer in plan.layers}
    made = [
        layer for layer in image.layers if layer.name in image.made and not plan_layers[layer.name].digest
    ]
    lines = [f"{layer.name:<24} {size_text(layer.size):>9}  {layer.digest[:19]}" for layer in made]
    locked = [layer.name for layer in image.layers if layer.name in image.made and layer not in made]
    kept = [layer.name for layer in image.layers if layer.name not in image.made]
    lines += [f"from the lock: {', '.join(locked)}"] if locked else []
    lines += [f"kept: {', '.join(kept)}"] if kept else []
    lines.append(f"image {image.digest}")
    return {"lines": lines, "size": sum(layer.size for layer in made)}


def _tag(package: Package) -> Report:
    want = steps.wanted("tag", package)
    image, tags = want.values["image"], steps.planned_tags(package)
    if not image or not tags:
        raise MlpkgError(f"{package.name}: not built yet", hint=f"run `mlpkg build {package.name}`")
    result = {"repository": package.name, "digest": image, "tags": list(tags)}
    steps.record("tag", package, want, inputs={}, result=result)
    return {"lines": [f"{package.name}:{tag} -> {image[:19]}" for tag in tags], "size": 0}


def _push(package: Package) -> Report:
    from mlpkg.steps.delivery import deliver, target  # noqa: PLC0415 - loads the registry client

    tags = records.read(package.record("tag"), "tag")
    build = records.read(package.record("build"), "build")
    if tags is None or build is None:
        raise MlpkgError(f"{package.name}: not built yet", hint=f"run `mlpkg build {package.name}`")
    where = target(package.settings, note)
    image = direct.ImageRecord.from_json(build.result)
    receipt = deliver(package, image, list(tags.result["tags"]), where, note)
    steps.record("push", package, steps.wanted("push", package), inputs={}, result=receipt)
    lines = [f"{receipt['repository']}@{image.digest}", *receipt["notices"]]
    lines.append(f"{receipt['uploaded']} blobs sent, {receipt['existed']} already there")
    return {"lines": lines, "size": receipt["bytes"]}


def current_lock(package: Package) -> PackageLock:
    """The package's lock. Raises MlpkgError where there is none."""
    lock = locking.read_lock(package)
    if lock is None:
        raise MlpkgError(f"{package.shown}: no lock yet", hint=f"run `mlpkg lock {package.name}`")
    return lock


def read_plan(package: Package) -> planning.BuildPlan:
    """The rendered plan. Raises MlpkgError where there is none that this version understands."""
    path = package.records / "plan.json"
    try:
        return planning.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MlpkgError(
            f"{package.relative(path)}: {error}", hint=f"run `doit render:{package.name}`"
        ) from error


def sources_of(package: Package) -> direct.Sources:
    """Where the files of a package's plan lie."""
    return direct.Sources(package.folder, resources.package_folder(), package.root)


def _previous(record: records.Record | None) -> direct.ImageRecord | None:
    try:
        return direct.ImageRecord.from_json(record.result) if record else None
    except (KeyError, TypeError):
        return None


def _holding(package: Package, record: records.Record | None) -> Mapping[str, FileState]:
    """The file states of a record that are still true, with the identities found now."""
    return records.holding(record.inputs, package.root) if record else {}


def _states(package: Package, names: tuple[str, ...]) -> dict[str, FileState]:
    return {name: records.file_state(package.root / name) for name in names}


def _unchanged(package: Package, inputs: Mapping[str, FileState]) -> None:
    for name, state in inputs.items():
        try:
            same = records.file_state(package.root / name).digest == state.digest
        except OSError:
            same = False
        if not same:
            raise ChangedInput(f"{name}: changed while the step was at work", hint="run it again")


_STEPS: Mapping[str, Callable[[Package], Report]] = {
    "render": _render,
    "build": _build,
    "tag": _tag,
    "push": _push,
}
