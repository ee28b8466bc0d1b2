"""The files that an entry script's imports run, as far as they are the package's own, and what these import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlpkg.spec.disk import LARGEST_SCRIPT
from mlpkg.spec.imports import imported_modules, uses_rawhttp
from mlpkg.spec.workspace import Package
from mlpkg.store import records
from mlpkg.store.records import FileState


@dataclass
class Search:
    """A search through the script and what it imports: the files read, and the places where there was none."""

    package: Package
    states: dict[str, FileState] = field(default_factory=dict)
    absent: list[Path] = field(default_factory=list)

    def run(self) -> bool:
        """Whether one of the files imports `rawhttp`. Raises OSError for a file that cannot be read."""
        entry = self.package.spec.entry
        if entry is None:
            return False
        folder = self.package.folder
        base = folder / entry.source_directory if entry.source_directory is not None else None
        waiting = [((base or folder) / entry.script, "")]
        while waiting:
            path, inside = waiting.pop()
            name = self.package.relative(path)
            if name in self.states:
                continue
            self.states[name] = records.file_state(path)
            modules = _modules(path, inside)
            if modules is None or uses_rawhttp(modules):
                return True
            if base is not None:
                for module in sorted(modules):
                    waiting += self._files(base, module)
        return False

    def _files(self, base: Path, module: str) -> Iterator[tuple[Path, str]]:
        """The files below the source folder that an import runs, each with its package's name."""
        parts = module.split(".")
        if parts[0] in sys.stdlib_module_names:
            return
        if parts[0] == base.name and not (base / parts[0]).exists():
            del parts[0]  # the folder above is importable too
        place = base
        for count, part in enumerate(parts, 1):
            place /= part
            yield from self._present(place.with_name(f"{part}.py"), ".".join(parts[: count - 1]))
            if not place.is_dir():
                self._miss(place)
                return
            yield from self._present(place / "__init__.py", ".".join(parts[:count]))

    def _present(self, path: Path, inside: str) -> Iterator[tuple[Path, str]]:
        if path.is_file():
            yield path, inside
        else:
            self._miss(path)

    def _miss(self, path: Path) -> None:
        if path not in self.absent and not path.exists():
            self.absent.append(path)


def _modules(path: Path, inside: str) -> frozenset[str] | None:
    with path.open("rb") as file:
        source = file.read(LARGEST_SCRIPT + 1)
    return None if len(source) > LARGEST_SCRIPT else imported_modules(source, inside)
