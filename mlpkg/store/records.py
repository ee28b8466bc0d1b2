"""Records: small JSON files that say what a step really consumed and produced. They are the memory.

doit schedules; whether a step is done is decided here. A record names every file that was consumed or
produced with its digest, and with the identity (size, times, inode, device) that the file had when the
digest was taken, so that a run with nothing to do needs one `stat` a file. git's racy rule applies: an
identity is trusted only where the file was last changed well before the digest was taken; otherwise the
content decides.

A torn, foreign or older record counts as absent.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlpkg.digest import Digest
from mlpkg.formats import RECORD
from mlpkg.store.files import digest_of, write_atomically

RACY_NS = 2_000_000_000
"""A change this close to the moment of reading may hide behind an equal time stamp (FAT: 2 s)."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A file's digest, the identity it had, and when (ns since the epoch) its reading began.

    `identity` is (size, mtime_ns, ctime_ns, inode, device).
    """

    digest: Digest
    identity: tuple[int, int, int, int, int]
    read_at: int

    @property
    def is_trusted(self) -> bool:
        """Whether an equal identity proves an equal content (git, "racy-git")."""
        return max(self.identity[1], self.identity[2]) + RACY_NS < self.read_at


@dataclass(frozen=True, slots=True)
class Record:
    """One step's record of one package. `values` are small texts that also decide; `result` is the product."""

    package: str
    step: str
    inputs: Mapping[str, FileState]
    outputs: Mapping[str, FileState]
    values: Mapping[str, str]
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """One reason to run a step again. `old` or `new` is empty where there is none."""

    name: str
    old: str
    new: str

    def __str__(self) -> str:
        if not self.old and not self.new:
            return self.name
        if not self.old:
            return f"{self.name}: new"
        if not self.new:
            return f"{self.name}: gone"
        return f"{self.name}: {_short(self.old)} -> {_short(self.new)}"


def _short(text: str) -> str:
    return text[:19] if text.startswith("sha256:") else text[:40]


def identity(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """What tells an unchanged file from a changed one without reading it."""
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def file_state(path: Path) -> FileState:
    """Read a file and say what it was. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        read_at = time.time_ns()
        before = identity(os.fstat(file.fileno()))
        return FileState(digest_of(file), before, read_at)


def write(path: Path, record: Record) -> None:
    """Write a record whole or not at all. Raises MlpkgError."""
    value = {
        "format": RECORD,
        "package": record.package,
        "step": record.step,
        "values": dict(record.values),
        "inputs": {name: _state_json(state) for name, state in record.inputs.items()},
        "outputs": {name: _state_json(state) for name, state in record.outputs.items()},
        "result": dict(record.result),
    }
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


def read(path: Path, package: str, step: str) -> Record | None:
    """The record of a package's step, or None where there is none that this version understands.

    A record copied from another package is none of this one's.
    """
    try:
        value = json.loads(path.read_bytes())
        if (value["format"], value["package"], value["step"]) != (RECORD, package, step):
            return None
        return Record(
            package=package,
            step=step,
            inputs={name: _state(row) for name, row in value["inputs"].items()},
            outputs={name: _state(row) for name, row in value["outputs"].items()},
            values={name: _text(text) for name, text in value["values"].items()},
            result=dict(value["result"].items()),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _state_json(state: FileState) -> list[Any]:
    return [state.digest, *state.identity, state.read_at]


def _state(row: list[Any]) -> FileState:
    digest, *numbers = row
    size, mtime, ctime, inode, device, read_at = (int(part) for part in numbers)
    return FileState(Digest(_text(digest)), (size, mtime, ctime, inode, device), read_at)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a record's files found: why its step must run again, if it must.

    `renewed` is the record with the identities found now, where nothing changed but they did: with it the
    next look reads nothing. Its digests are those that were read, never those that were hoped for.
    """

    changes: tuple[Change, ...]
    renewed: Record | None = None


def look(record: Record | None, root: Path, files: Iterable[str] | None, values: Mapping[str, str]) -> Look:
    """Compare a record with the world. No changes means that it still tells the truth.

    `files` are the inputs that the step would read now, relative to `root` (None: those of the record);
    `values` are what it would be told. Only files whose identity is not trusted are read, each once.
    """
    if record is None:
        return Look((Change("never done", "", ""),))
    found = [
        Change(name, record.values.get(name, ""), values.get(name, ""))
        for name in sorted({*record.values, *values})
        if record.values.get(name) != values.get(name)
    ]
    names = set(record.inputs if files is None else files)
    gone = [Change(name, state.digest, "") for name, state in record.inputs.items() if name not in names]
    inputs, changed = _compared({name: record.inputs.get(name) for name in sorted(names)}, root)
    outputs, tampered = _compared(record.outputs, root)
    found += [*gone, *changed, *tampered]
    if found or (inputs == record.inputs and outputs == record.outputs):
        return Look(tuple(found))
    return Look((), replace(record, inputs=inputs, outputs=outputs))


def holding(states: Mapping[str, FileState], root: Path) -> dict[str, FileState]:
    """Those of some files' states that are still true, with the identities found now."""
    now, _ = _compared(states, root)
    return {name: state for name, state in now.items() if state.digest == states[name].digest}


def _compared(
    states: Mapping[str, FileState | None], root: Path
) -> tuple[dict[str, FileState], list[Change]]:
    now: dict[str, FileState] = {}
    changes = []
    for name, known in states.items():
        state = _state_now(root / name, known)
        if state:
            now[name] = state
        if state is None or known is None or state.digest != known.digest:
            changes.append(Change(name, known.digest if known else "", state.digest if state else ""))
    return now, changes


def _state_now(path: Path, known: FileState | None) -> FileState | None:
    try:
        if known and known.is_trusted and identity(path.stat()) == known.identity:
            return known
        return file_state(path)
    except OSError:
        return None
