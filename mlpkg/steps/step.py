"""What a step is, and what all steps share: what it would consume, its record, what it says of itself.

A step is a module of this room with the names of `Step`. It is light to import: what its work needs loads
when it works, because a run with nothing to do loads every step and does none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mlpkg.errors import ChangedInput
from mlpkg.spec.workspace import Package
from mlpkg.store import records
from mlpkg.store.records import FileState, Record


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a step would consume: files relative to the workspace (None: those of its record), and values."""

    files: tuple[str, ...] | None
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Done:
    """What a step says of its work: lines for people, and bytes made or moved."""

    lines: tuple[str, ...]
    size: int = 0


@dataclass(frozen=True, slots=True)
class Consumed:
    """What a step's work consumed and produced; it becomes the record."""

    inputs: Mapping[str, FileState]
    outputs: tuple[Path, ...] = ()
    result: Mapping[str, Any] = field(default_factory=dict)


class Step(Protocol):
    """One step of a package, as a module."""

    NAME: str
    """As in ``doit NAME:package``."""

    DOC: str
    """What it does, for ``doit list``."""

    RECORD: str
    """Its record's file name, in the package's folder of records."""

    def reads(self, package: Package) -> tuple[Path, ...]:
        """The package's own files and folders that it reads, which a user's task may make."""
        ...

    def fits(self, result: Mapping[str, Any]) -> bool:
        """Whether a record's `result` is of the shape that this step writes; a record of another shape is none."""
        ...

    def wanted(self, package: Package) -> Wanted:
        """What it would consume now. Raises MlpkgError where that cannot be said (a model is missing)."""
        ...

    def perform(self, package: Package) -> Done:
        """Do it, and write its record last. Raises MlpkgError."""
        ...

    def products(self, package: Package) -> tuple[Path, ...]:
        """The files that `doit clean` removes beside the record; committed files are none of them."""
        ...


def is_read(step: Step, package: Package, path: Path) -> bool:
    """Whether a step reads a file of the package, or the folder that it lies in."""
    return any(path == known or known in path.parents for known in step.reads(package))


def record_path(step: Step, package: Package) -> Path:
    """Where a package's record of a step lies."""
    return package.records / step.RECORD


def read_record(step: Step, package: Package) -> Record | None:
    """A package's record of a step; None where there is none that can be believed."""
    record = records.read(record_path(step, package), package.name, step.NAME)
    return record if record and step.fits(record.result) else None


def has_texts(result: Mapping[str, Any], *names: str, lists: Iterable[str] = ()) -> bool:
    """Whether a result has texts, and lists of texts, of these names."""
    return all(isinstance(result.get(name), str) for name in names) and all(
        isinstance(found := result.get(name), list) and all(isinstance(item, str) for item in found)
        for name in lists
    )


def write_record(step: Step, package: Package, want: Wanted, consumed: Consumed) -> None:
    """Write a step's record: what it consumed, as it consumed it, and what it produced."""
    produced = {package.relative(path): records.file_state(path) for path in consumed.outputs}
    record = Record(package.name, step.NAME, consumed.inputs, produced, want.values, consumed.result)
    records.write(record_path(step, package), record)


def file_states(package: Package, names: Iterable[str]) -> dict[str, FileState]:
    """Read some files, named as in records. Raises OSError."""
    return {name: records.file_state(package.root / name) for name in names}


def require_unchanged(package: Package, inputs: Mapping[str, FileState]) -> None:
    """Raise ChangedInput where a file is no longer what was read."""
    for name, state in inputs.items():
        try:
            same = records.file_state(package.root / name).digest == state.digest
        except OSError:
            same = False
        if not same:
            raise ChangedInput(f"{name}: changed while the step was at work", hint="run it again")
