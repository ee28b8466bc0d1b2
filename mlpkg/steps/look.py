"""The five steps of a package: what each would read now, and whether its record still tells the truth.

Shared by the scheduler (is there anything to do?), by the actions (what is to be recorded?) and by
`mlpkg plan` (what would run?). Nothing here changes a file, but for `is_current`, which may renew the
file identities of a record that was just found true.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from mlpkg import formats
from mlpkg.digest import canonical_json, sha256
from mlpkg.errors import MlpkgError, Problem, SpecError
from mlpkg.lock import inputs as lockinputs
from mlpkg.plan import resources
from mlpkg.registry import bundled as registry
from mlpkg.spec import listing as sources
from mlpkg.spec.withheld import joined
from mlpkg.spec.workspace import Package
from mlpkg.store import records
from mlpkg.store.records import Change, Record
from mlpkg.store.runlock import holds_workspace

STEPS = ("lock", "render", "build", "tag", "push")

RENDERED = ("plan.json", "Dockerfile", ".dockerignore")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a step would consume: files relative to the workspace (None: those of its record), and values."""

    files: tuple[str, ...] | None
    values: Mapping[str, str]


def wanted(step: str, package: Package) -> Wanted:
    """What the step would consume now. Raises MlpkgError where that cannot be said (a model is missing)."""
    return _WANTED[step](package)


def why(step: str, package: Package) -> tuple[Change, ...]:
    """Why the step would run; nothing means that it is done."""
    return _look(step, package).changes


def is_current(step: str, package: Package) -> bool:
    """Whether the step has nothing to do; doit asks this. Never raises for a user's mistake."""
    if (step, package.records) in _known_current:
        return True
    seen = _look(step, package)
    if seen.renewed and holds_workspace(package.root):
        records.write(package.record(step), seen.renewed)
    return not seen.changes


_known_current: set[tuple[str, Path]] = set()
"""What was looked at before the run, and is not looked at again until something has run."""


def look_ahead(step: str, package: Package) -> bool:
    """`is_current`, remembered until `forget`: for a look at everything just before doit looks."""
    current = is_current(step, package)
    if current:
        _known_current.add((step, package.records))
    return current


def forget() -> None:
    """Something runs: what was looked at before may not hold any more."""
    _known_current.clear()


def _look(step: str, package: Package) -> records.Look:
    record = records.read(package.record(step), step)
    try:
        want = wanted(step, package)
    except MlpkgError as error:
        return records.Look((Change(error.message.splitlines()[-1].strip(), "", ""),))
    return records.look(record, package.root, want.files, want.values)


def snapshot(package: Package) -> sources.Snapshot:
    """List the files of a package. Raises SpecError for what is missing, all of it at once."""
    spec, problems = package.spec, list[Problem]()
    code = sources.Listing()
    models: list[sources.Listing] = []
    folders: list[bool] = []
    if spec.entry:
        folder = spec.entry.source_directory
        if folder is None:
            code = _listed(package, spec.entry.script, "entry.script", problems)
        else:
            code = _listed(package, folder, "entry.source_directory", problems, spec.entry.ignore)
    for number, model in enumerate(spec.models):
        models.append(_listed(package, model.path, f"models[{number}].path", problems, model.ignore))
        folders.append((package.folder / model.path).is_dir())
    if problems:
        raise SpecError(problems)
    return sources.Snapshot(
        code.entries,
        tuple(model.entries for model in models),
        tuple(folders),
        resources.runtime_files() if spec.server.kind == "mlpkg" else (),
        joined(part.left_out for part in (code, *models)),
    )


def _listed(
    package: Package, name: str, key: str, problems: list[Problem], ignore: tuple[str, ...] = ()
) -> sources.Listing:
    path = package.folder / PurePosixPath(name)
    try:
        if path.is_dir():
            return sources.list_tree(path, ignore=ignore, place=name, shown=package.shown, key=key)
        return sources.list_file(path, shown=package.shown, key=key)
    except FileNotFoundError:
        hint = "no such file; is there a task that makes it?" if key.startswith("models") else "no such file"
        problems.append(Problem(package.shown, key, f"{name!r} does not exist", hint))
    except OSError as error:
        problems.append(Problem(package.shown, key, f"{name!r}: {error.strerror}"))
    except SpecError as error:
        problems += error.problems
    return sources.Listing()


def image_result(package: Package) -> Mapping[str, object]:
    """The product of the last build; empty where there is none."""
    record = records.read(package.record("build"), "build")
    return record.result if record else {}


def planned_tags(package: Package) -> tuple[str, ...]:
    """The tags of the rendered plan; none where it is not rendered."""
    try:
        return tuple(json.loads((package.records / "plan.json").read_bytes())["tags"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def registry_instance(package: Package) -> str:
    """Which registry, and which incarnation of its storage, a receipt speaks of. Reads small files only."""
    settings = package.settings.registry
    if settings.address:
        return settings.address
    endpoint = registry.known_endpoint(settings)
    return f"{endpoint.address} {endpoint.instance}" if endpoint else "none yet"


def _lock_wanted(package: Package) -> Wanted:
    # The files of the record decide: which files the requirements include is said by the files themselves.
    name = package.spec.environment.requirements or ""
    values = {
        **lockinputs.lock_values(package),
        "requirements": name,
        "format": f"lock/{formats.LOCK}",
        "layers": f"tar/{formats.TAR} {formats.DEBIAN} {formats.WHEELS} {formats.BYTECODE}",
    }
    return Wanted(None, values)


def _render_wanted(package: Package) -> Wanted:
    shot = snapshot(package)
    listing = [
        [[entry.path, entry.is_executable, entry.target, entry.size >= sources.LARGE] for entry in entries]
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


@cache
def _runtime_listing() -> str:
    return sha256(canonical_json([entry.path for entry in resources.runtime_files()]))


def _build_wanted(package: Package) -> Wanted:  # noqa: ARG001 - one shape for all steps
    return Wanted(None, {"format": f"plan/{formats.PLAN} tar/{formats.TAR}"})


def _tag_wanted(package: Package) -> Wanted:
    return Wanted(
        (), {"image": str(image_result(package).get("digest", "")), "tags": " ".join(planned_tags(package))}
    )


def _push_wanted(package: Package) -> Wanted:
    values = dict(_tag_wanted(package).values)
    return Wanted((), {**values, "registry": registry_instance(package)})


_WANTED = {
    "lock": _lock_wanted,
    "render": _render_wanted,
    "build": _build_wanted,
    "tag": _tag_wanted,
    "push": _push_wanted,
}


def record(  # noqa: PLR0913 - what a record consists of
    step: str,
    package: Package,
    want: Wanted,
    *,
    inputs: Mapping[str, records.FileState],
    outputs: tuple[Path, ...] = (),
    result: Mapping[str, object] | None = None,
) -> None:
    """Write a step's record: what it consumed, as it consumed it, and what it produced."""
    produced = {package.relative(path): records.file_state(path) for path in outputs}
    records.write(package.record(step), Record(step, inputs, produced, want.values, result or {}))


def remove_records(package: Package, step: str) -> None:
    """`doit clean`: forget a step. Locks are committed files and stay; images in a registry stay too."""
    names = [package.record(step)]
    if step == "render":
        names += [package.records / name for name in RENDERED]
    for path in names:
        path.unlink(missing_ok=True)
