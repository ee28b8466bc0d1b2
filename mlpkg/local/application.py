"""A package's application on this machine: its Python, the image's folder made of links, the command that serves it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

from mlpkg.errors import UsageError
from mlpkg.local.venv import LockedEnvironment, host_environment
from mlpkg.lock import materials
from mlpkg.lock.choose import current_lock
from mlpkg.lock.inputs import runtime_requirements
from mlpkg.plan import plan, resources, servers
from mlpkg.progress import Notify
from mlpkg.spec.workspace import Package


def python(package: Package, notify: Notify) -> Path:
    """The Python that serves the package on this machine: that of a virtual environment with the locked wheels.

    Raises UsageError (a server that only the image has), LockError, Unreachable, DigestMismatch.
    """
    if package.spec.server.kind != "mlpkg":
        raise UsageError(
            f"{package.shown}: server.kind = {package.spec.server.kind!r} is served from its image only",
            hint=f"run `mlpkg run {package.name}` where there is a Docker engine",
        )
    lock = current_lock(package)
    locked = LockedEnvironment(
        lock.wheels,
        materials.requirements_of(package),
        runtime_requirements(package),
        materials.wheel_target(lock),
    )
    return host_environment(locked, package.records, sources=materials.python_sources(package), notice=notify)


def command(
    package: Package, interpreter: Path, host: str, port: int
) -> tuple[list[str], dict[str, str], Path]:
    """What serves the package on this machine: arguments, environment, working folder.

    The folder is laid out anew. Raises UsageError for a file of the package that does not exist.
    """
    app, library = _application(package)
    environ = {
        **os.environ,
        **plan.entry_environment(package.spec, str(app)),
        **servers.settings(package.spec),
        **package.spec.environment.variables,
        "PYTHONPATH": str(library),
        "PYTHONUNBUFFERED": "1",
        "MLPKG_HOST": host,
        "MLPKG_PORT": str(port),
    }
    return [str(interpreter), "-m", "mlpkg.runtime"], environ, app


def _application(package: Package) -> tuple[Path, Path]:
    """The image's application folder, laid out with links; and a folder from which only the server is importable."""
    app, library = _emptied(package.records / "app"), _emptied(package.records / "app-library")
    spec = package.spec
    for model in spec.models:
        place = app / "azureml-models" / model.name / str(model.version) / PurePosixPath(model.path).name
        _link(place, package.folder / model.path)
    if spec.entry:
        base = spec.entry.source_directory
        if base is None:
            _link(app / PurePosixPath(spec.entry.script).name, package.folder / spec.entry.script)
        else:
            _link(app / plan.source_folder_name(base, package.name), package.folder / base)
    _link(library / "mlpkg" / "runtime", resources.package_folder() / "runtime")
    (library / "mlpkg" / "__init__.py").touch()
    return app, library


def _emptied(folder: Path) -> Path:
    """A folder of ours with nothing in it. It stays the same folder, because a server may be at work in it."""
    if folder.is_symlink():
        folder.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return folder


def _link(place: Path, target: Path) -> None:
    if not target.exists():
        raise UsageError(
            f"{target}: no such file", hint="run the task that makes it, or correct package.toml"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
