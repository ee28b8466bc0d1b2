"""A workspace: its folder, its settings, its packages, and where their records lie."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from mlpkg.digest import Digest, sha256
from mlpkg.errors import Problem, SpecError, UsageError
from mlpkg.spec.model import PackageSpec, WorkspaceSpec
from mlpkg.spec.parse import load_package
from mlpkg.spec.parse import load_workspace as load_settings

SPEC = "package.toml"
SETTINGS = "mlpkg.toml"


@dataclass(frozen=True, slots=True)
class Package:
    """One package of a workspace. All paths are absolute; `shown` is the spec's path as a user would type it.

    `spec_digest` is that of the bytes `spec` was read from: a file that changes later is not what was planned.
    """

    name: str
    spec: PackageSpec
    spec_digest: Digest
    settings: WorkspaceSpec
    root: Path
    folder: Path
    lock_folder: Path
    records: Path
    shown: str

    @property
    def lock_path(self) -> Path:
        """package.lock."""
        return self.lock_folder / "package.lock"

    @property
    def requirements_lock_path(self) -> Path:
        """requirements.lock."""
        return self.lock_folder / "requirements.lock"

    def relative(self, path: Path) -> str:
        """A path as records name it: relative to the workspace, with ``/``."""
        return Path(os.path.relpath(path, self.root)).as_posix()


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder with packages."""

    root: Path
    settings: WorkspaceSpec
    packages: tuple[Package, ...]

    @property
    def state(self) -> Path:
        """`.mlpkg`: records, rendered files, logs; never committed."""
        return self.root / ".mlpkg"

    def package(self, name: str) -> Package:
        """The package of that name. Raises UsageError with the nearest known names."""
        for package in self.packages:
            if package.name == name:
                return package
        import difflib  # noqa: PLC0415 - only for a mistake

        names = [package.name for package in self.packages]
        near = difflib.get_close_matches(name, names, n=3) or names[:5]
        raise UsageError(
            f"no package named {name!r} in {self.root}",
            hint=f"did you mean {', '.join(near)}?" if near else "no package.toml was found at all",
        )


def find_root(start: Path) -> Path:
    """The nearest folder, from `start` upwards, with mlpkg.toml or dodo.py; else one with package.toml."""
    for names in ((SETTINGS, "dodo.py"), (SPEC,)):
        for folder in (start, *start.parents):
            if any((folder / name).is_file() for name in names):
                return folder
    raise UsageError(
        f"no workspace here: neither {SETTINGS} nor dodo.py nor {SPEC} in {start} or above",
        hint="run the command in a workspace, or give --workspace DIR",
    )


def load(root: Path) -> Workspace:
    """Read all specs of a workspace. Raises SpecError with the problems of all of them."""
    workspace, problems = _read_all(root)
    problems += _duplicates(workspace.packages)
    if problems:
        raise SpecError(problems)
    return workspace


def load_around(root: Path, wanted: str | None = None) -> Workspace:
    """A workspace without the packages that have problems: for what concerns one package, or none.

    Raises SpecError for mlpkg.toml and for the wanted package; also where no sound package has its name,
    because one that cannot be read may have it. Raises UsageError for a name that nothing has.
    """
    workspace, problems = _read_all(root)
    namesakes = [package for package in workspace.packages if package.name == wanted]
    if wanted and len(namesakes) != 1 and (problems := _duplicates(namesakes) or problems):
        raise SpecError(problems)
    if wanted:
        workspace.package(wanted)
    return workspace


def _read_all(root: Path) -> tuple[Workspace, list[Problem]]:
    """The settings, the packages that can be read, and the problems of the others."""
    root = root.resolve()
    settings_path = root / SETTINGS
    settings = load_settings(settings_path, shown=SETTINGS) if settings_path.is_file() else WorkspaceSpec()
    if settings.registry.storage and not settings.registry.storage.startswith("~"):
        storage = str(root / settings.registry.storage)
        settings = replace(settings, registry=replace(settings.registry, storage=storage))
    packages: list[Package] = []
    problems: list[Problem] = []
    for folder in _folders(root, settings):
        shown = Path(os.path.relpath(folder / SPEC, root)).as_posix()
        try:
            packages.append(_package(root, settings, folder, shown))
        except SpecError as error:
            problems += error.problems
    return Workspace(root, settings, tuple(sorted(packages, key=lambda package: package.name))), problems


def single(folder: Path, *, state: Path, settings: WorkspaceSpec, shown: str) -> Package:
    """A package outside any workspace, whose lock and records lie in `state` (the bundled registry's)."""
    spec, digest = _read(folder / SPEC, shown)
    return Package(spec.package.name, spec, digest, settings, state, folder, state, state, shown)


def _folders(root: Path, settings: WorkspaceSpec) -> list[Path]:
    if (root / SPEC).is_file():
        return [root]
    found: set[Path] = set()
    for pattern in settings.workspace.packages:
        found.update(path.parent for path in root.glob(f"{pattern.rstrip('/')}/{SPEC}"))
    return sorted(found)


def _package(root: Path, settings: WorkspaceSpec, folder: Path, shown: str) -> Package:
    spec, digest = _read(folder / SPEC, shown)
    name = spec.package.name
    # One level of folders: a package `a/b` never lies among the records of a package `a`.
    records = root / ".mlpkg" / name.replace("/", "%2F")
    folder = folder.resolve()
    return Package(name, spec, digest, settings, root, folder, folder, records, shown)


def _read(path: Path, shown: str) -> tuple[PackageSpec, Digest]:
    """A spec and the digest of the very bytes it was read from. Raises SpecError."""
    while True:
        before = _digest(path)
        spec = load_package(path, shown=shown)
        if _digest(path) == before:
            return spec, before


def _digest(path: Path) -> Digest:
    try:
        return sha256(path.read_bytes())
    except OSError:
        return sha256(b"")


def _duplicates(packages: Iterable[Package]) -> list[Problem]:
    first: dict[str, str] = {}
    problems = []
    for package in packages:
        if other := first.get(package.name):
            problems.append(
                Problem(package.shown, "package.name", f"{package.name!r} is also the name of {other}")
            )
        first.setdefault(package.name, package.shown)
    return problems
