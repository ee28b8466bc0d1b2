"""A workspace: its folder, its settings, its packages, and where their records lie."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlpkg.digest import Digest
from mlpkg.errors import Problem, SpecError, UsageError
from mlpkg.spec.discover import SETTINGS, SPEC, Found, outside, package_folders
from mlpkg.spec.model import PackageSpec, WorkspaceSpec
from mlpkg.spec.parse import load_package, name_in
from mlpkg.spec.parse import load_workspace as load_settings
from mlpkg.spec.words import printable

NAMED = 5
"""Folders outside the patterns that a note names."""


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
class BrokenPackage:
    """A package whose spec cannot be used. `name` is empty where not even that can be said."""

    shown: str
    name: str
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder with packages: the sound ones by name, and beside them those that cannot be used."""

    root: Path
    settings: WorkspaceSpec
    packages: tuple[Package, ...]
    broken: tuple[BrokenPackage, ...] = ()

    @property
    def state(self) -> Path:
        """`.mlpkg`: records, rendered files, logs; never committed."""
        return self.root / ".mlpkg"

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All that is wrong with the broken packages: for a run that is about all packages."""
        return tuple(problem for broken in self.broken for problem in broken.problems)

    def package(self, name: str) -> Package:
        """The package of that name. What is wrong with others is not its business.

        Raises SpecError where that package is broken, or where one may have the name whose own cannot be
        read; UsageError, with the nearest known names, where nothing has it.
        """
        for package in self.packages:
            if package.name == name:
                return package
        problems = [problem for broken in self.broken if broken.name == name for problem in broken.problems]
        problems = problems or [problem for one in self.broken if not one.name for problem in one.problems]
        if problems:
            raise SpecError(problems)
        import difflib  # noqa: PLC0415 - only for a mistake

        names = sorted({*(package.name for package in self.packages), *(one.name for one in self.broken)})
        if not names:
            raise self.nothing()
        near = difflib.get_close_matches(name, names, n=3) or names[:5]
        raise UsageError(f"no package named {name!r} in {self.root}", hint=f"did you mean {', '.join(near)}?")

    def chosen(self, names: Sequence[str]) -> tuple[Package, ...]:
        """The packages of these names; without names, all that are sound. Raises as `package` does, all at once.

        Raises UsageError where there is no package at all, sound or broken.
        """
        if not names:
            if not self.packages and not self.broken:
                raise self.nothing()
            return self.packages
        found: dict[str, Package] = {}
        problems: list[Problem] = []
        for name in names:
            try:
                found[name] = self.package(name)
            except SpecError as error:
                problems += error.problems
        if problems:
            raise SpecError(list(dict.fromkeys(problems)))
        return tuple(found.values())

    def nothing(self) -> UsageError:
        """An empty workspace: what was looked for, and where."""
        looked_for = ", ".join(_spec_of(pattern) for pattern in self.settings.workspace.packages)
        return UsageError(
            f"no packages in {self.root}: looked for {looked_for}",
            hint=self.outside() or f"a package is a folder with {SPEC}; {SETTINGS} says where",
        )

    def told(self) -> str:
        """What a run about all packages says on stderr first: broken packages, none at all, some beside the patterns."""
        if not self.packages and not self.broken:
            return f"{self.nothing()}\n"
        error = f"error: {SpecError(self.problems)}\n" if self.broken else ""
        note = self.outside()
        return error + (f"note: {note}\n" if note else "")

    def outside(self) -> str:
        """A note on folders with a package.toml that no pattern names; empty where there are none."""
        known = {package.shown for package in self.packages} | {one.shown for one in self.broken}
        known = {shown.removesuffix(SPEC).rstrip("/") for shown in known}
        found = outside(str(self.root), known, self.settings.workspace.packages)
        if not found:
            return ""
        named = ", ".join(printable(f"{place}/{SPEC}") for place in found[:NAMED])
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        above = found[0].rpartition("/")[0]
        pattern = printable(f"{above}/*" if above else found[0])
        verb = "lies" if len(found) == 1 else "lie"
        return (
            f'{named}{more} {verb} outside of `packages` in {SETTINGS}: add "{pattern}" to [workspace] packages,'
            f' or "!{pattern}" to pass over it'
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
    """Read all specs of a workspace. Those that cannot be used are beside the others, in `Workspace.broken`.

    Raises SpecError for mlpkg.toml, which all packages share.
    """
    root = root.resolve()
    settings = read_settings(root)
    packages: list[Package] = []
    broken: list[BrokenPackage] = []
    for found in package_folders(str(root), settings.workspace.packages):
        shown = printable(_spec_of(found.place))
        try:
            packages.append(_package(root, settings, found, shown))
        except SpecError as error:
            path = Path(found.real, SPEC)
            name = "" if path.is_symlink() else name_in(path)
            broken.append(BrokenPackage(shown, name, error.problems))
    sound, twice = _without_duplicates(packages)
    sound.sort(key=lambda package: package.name)
    return Workspace(root, settings, tuple(sound), (*broken, *twice))


def read_settings(root: Path) -> WorkspaceSpec:
    """The settings in a workspace's mlpkg.toml, or the defaults. Raises SpecError."""
    path = root / SETTINGS
    settings = load_settings(path, shown=SETTINGS) if os.path.lexists(path) else WorkspaceSpec()
    if settings.registry.storage and not settings.registry.storage.startswith("~"):
        storage = str(root / settings.registry.storage)
        settings = replace(settings, registry=replace(settings.registry, storage=storage))
    return settings


def single(folder: Path, *, state: Path, settings: WorkspaceSpec, shown: str) -> Package:
    """A package outside any workspace, whose lock and records lie in `state` (the bundled registry's)."""
    spec, digest = load_package(folder / SPEC, shown=shown)
    return Package(spec.package.name, spec, digest, settings, state, folder, state, state, shown)


def _spec_of(place: str) -> str:
    """The package.toml of a folder, as a user would type it from the workspace."""
    return SPEC if place == "." else f"{place.rstrip('/')}/{SPEC}"


def _package(root: Path, settings: WorkspaceSpec, found: Found, shown: str) -> Package:
    """A package. Raises SpecError."""
    if not found.place.isprintable():
        # Records, messages and tasks name it: no line break, and no byte that is not UTF-8.
        raise SpecError(
            [Problem(shown, "", "the folder's name has characters that cannot be shown", "rename it")]
        )
    path = Path(found.real, SPEC)
    # A package's folder may lie elsewhere: whoever linked it means it. A file in it may not.
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(found.real):
        raise SpecError([Problem(shown, "", "is a link that leads out of its folder", "copy the file")])
    spec, digest = load_package(path, shown=shown)
    name = spec.package.name
    # One level of folders: a package `a/b` never lies among the records of a package `a`.
    records = root / ".mlpkg" / name.replace("/", "%2F")
    folder = path.parent
    return Package(name, spec, digest, settings, root, folder, folder, records, shown)


def _without_duplicates(packages: Iterable[Package]) -> tuple[list[Package], list[BrokenPackage]]:
    """Packages of one name would share their records and their repository: none of them is used."""
    by_name: dict[str, list[Package]] = {}
    for package in packages:
        by_name.setdefault(package.name, []).append(package)
    broken = [
        BrokenPackage(
            package.shown,
            name,
            (Problem(package.shown, "package.name", f"{name!r} is also the name of {namesakes[0].shown}"),),
        )
        for name, namesakes in by_name.items()
        for package in namesakes[1:]
    ]
    broken += [
        BrokenPackage(namesakes[0].shown, name, ()) for name, namesakes in by_name.items() if namesakes[1:]
    ]
    return [namesakes[0] for namesakes in by_name.values() if not namesakes[1:]], broken
