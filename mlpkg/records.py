"""Records: small JSON files that say what a step really consumed and produced. They are the memory.

doit schedules; whether a step is done is decided here. A record names every file that was consumed or
produced with its digest, and with the identity (size, times, inode, device) that the file had when the
digest was taken, so that a run with nothing to do needs one `stat` a file. git's racy rule applies: an
identity is trusted only where the file was last changed well before the digest was taken; otherwise the
content decides.

A torn, foreign or older record counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlpkg.digest import Digest
from mlpkg.formats import RECORD

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
    """One step's record. `values` are small texts (digests, names) that also decide; `result` is the product."""

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
    with path.open("rb") as file:
        read_at = time.time_ns()
        before = identity(os.fstat(file.fileno()))
        hexdigest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileState(Digest("sha256:" + hexdigest), before, read_at)


def write(path: Path, record: Record) -> None:
    """Write a record whole or not at all."""
    value = {
        "format": RECORD,
        "step": record.step,
        "values": dict(record.values),
        "inputs": {name: _state_json(state) for name, state in record.inputs.items()},
        "outputs": {name: _state_json(state) for name, state in record.outputs.items()},
        "result": dict(record.result),
    }
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


def read(path: Path, step: str) -> Record | None:
    """The record of a step, or None where there is none that this version understands."""
    try:
        value = json.loads(path.read_bytes())
        if value["format"] != RECORD or value["step"] != step:
            return None
        return Record(
            step=step,
            inputs={name: _state(row) for name, row in value["inputs"].items()},
            outputs={name: _state(row) for name, row in value["outputs"].items()},
            values=dict(value["values"]),
            result=dict(value["result"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _state_json(state: FileState) -> list[Any]:
    return [state.digest, *state.identity, state.read_at]


def _state(row: list[Any]) -> FileState:
    size, mtime, ctime, inode, device = (int(part) for part in row[1:6])
    return FileState(Digest(str(row[0])), (size, mtime, ctime, inode, device), int(row[6]))


def changes(
    record: Record | None, root: Path, files: Iterable[str] | None, values: Mapping[str, str]
) -> list[Change]:
    """Why a step must run again: nothing means that its record still tells the truth.

    `files` are the inputs that the step would read now, relative to `root` (None: those of the record);
    `values` are what it would be told. Files of the record whose identity is not trusted are read.
    """
    if record is None:
        return [Change("never done", "", "")]
    found = [
        Change(name, record.values.get(name, ""), values.get(name, ""))
        for name in sorted({*record.values, *values})
        if record.values.get(name) != values.get(name)
    ]
    names = set(record.inputs if files is None else files)
    for name in sorted(names | set(record.inputs)):
        if name not in names:
            found.append(Change(name, record.inputs[name].digest, ""))
        elif change := _change(name, record.inputs.get(name), root):
            found.append(change)
    for name, state in record.outputs.items():
        if change := _change(name, state, root):
            found.append(change)
    return found


def _change(name: str, known: FileState | None, root: Path) -> Change | None:
    path = root / name
    old = known.digest if known else ""
    try:
        now = identity(path.stat())
        if known and known.is_trusted and now == known.identity:
            return None
        digest = file_state(path).digest
    except OSError:
        return Change(name, old, "")
    return None if digest == old else Change(name, old, digest)


def refreshed(record: Record, root: Path) -> Record | None:
    """The record with identities that can be trusted now, or None where nothing moved.

    For a record whose contents were just found unchanged: the next run then needs no reading.
    Raises OSError.
    """

    def again(states: Mapping[str, FileState]) -> dict[str, FileState]:
        return {
            name: state
            if state.is_trusted and identity((root / name).stat()) == state.identity
            else file_state(root / name)
            for name, state in states.items()
        }

    inputs, outputs = again(record.inputs), again(record.outputs)
    if inputs == record.inputs and outputs == record.outputs:
        return None
    return Record(record.step, inputs, outputs, record.values, record.result)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace a file whole or not at all, also across a crash of the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
