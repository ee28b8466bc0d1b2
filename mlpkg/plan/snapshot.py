"""The files that a plan places, listed from a package's folder. Reads names, kinds and sizes, never contents."""

from __future__ import annotations

from pathlib import PurePosixPath

from mlpkg.errors import Problem, SpecError
from mlpkg.plan import resources
from mlpkg.spec.listing import Listing, Snapshot, list_file, list_tree
from mlpkg.spec.withheld import joined
from mlpkg.spec.workspace import Package


def snapshot(package: Package) -> Snapshot:
    """List the files of a package. Raises SpecError for what is missing, all of it at once."""
    spec, problems = package.spec, list[Problem]()
    code = Listing()
    models: list[Listing] = []
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
    return Snapshot(
        code.entries,
        tuple(model.entries for model in models),
        tuple(folders),
        resources.runtime_files() if spec.server.kind == "mlpkg" else (),
        joined(part.left_out for part in (code, *models)),
    )


def _listed(
    package: Package, name: str, key: str, problems: list[Problem], ignore: tuple[str, ...] = ()
) -> Listing:
    path = package.folder / PurePosixPath(name)
    try:
        if path.is_dir():
            return list_tree(path, ignore=ignore, place=name, shown=package.shown, key=key)
        return list_file(path, shown=package.shown, key=key)
    except FileNotFoundError:
        hint = "no such file; is there a task that makes it?" if key.startswith("models") else "no such file"
        problems.append(Problem(package.shown, key, f"{name!r} does not exist", hint))
    except OSError as error:
        problems.append(Problem(package.shown, key, f"{name!r}: {error.strerror}"))
    except SpecError as error:
        problems += error.problems
    return Listing()
