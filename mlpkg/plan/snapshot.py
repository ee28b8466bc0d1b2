"""The files that a plan places, listed from a package's folder. Reads names, kinds and sizes, never contents."""

from __future__ import annotations

from pathlib import PurePosixPath

from mlpkg.errors import Problem, SpecError
from mlpkg.plan import resources
from mlpkg.spec import listing
from mlpkg.spec.listing import Snapshot, SourceEntry
from mlpkg.spec.workspace import Package


def snapshot(package: Package) -> Snapshot:
    """List the files of a package. Raises SpecError for what is missing, all of it at once."""
    spec, problems = package.spec, list[Problem]()
    code: tuple[SourceEntry, ...] = ()
    models: list[tuple[SourceEntry, ...]] = []
    folders: list[bool] = []
    if spec.entry:
        if spec.entry.source_directory is None:
            code = _listed(package, spec.entry.script, "entry.script", problems)
        else:
            ignore = (*listing.DEFAULT_IGNORE, *spec.entry.ignore)
            code = _listed(package, spec.entry.source_directory, "entry.source_directory", problems, ignore)
    for number, model in enumerate(spec.models):
        models.append(_listed(package, model.path, f"models[{number}].path", problems))
        folders.append((package.folder / model.path).is_dir())
    if problems:
        raise SpecError(problems)
    runtime = resources.runtime_files() if spec.server.kind == "mlpkg" else ()
    return Snapshot(code, tuple(models), tuple(folders), runtime)


def _listed(
    package: Package, name: str, key: str, problems: list[Problem], ignore: tuple[str, ...] = ()
) -> tuple[SourceEntry, ...]:
    path = package.folder / PurePosixPath(name)
    try:
        if path.is_dir():
            return listing.list_tree(path, ignore=ignore, shown=package.shown, key=key)
        return (listing.list_file(path, shown=package.shown, key=key),)
    except FileNotFoundError:
        hint = "no such file; is there a task that makes it?" if key.startswith("models") else "no such file"
        problems.append(Problem(package.shown, key, f"{name!r} does not exist", hint))
    except OSError as error:
        problems.append(Problem(package.shown, key, f"{name!r}: {error.strerror}"))
    except SpecError as error:
        problems += error.problems
    return ()
