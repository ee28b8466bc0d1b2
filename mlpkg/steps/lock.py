"""The lock step: choose Debian packages and wheels, by hash. What it writes beside package.toml is committed."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlpkg import formats
from mlpkg.lock.inputs import lock_values, requirement_files
from mlpkg.progress import note, size_text
from mlpkg.spec.workspace import Package
from mlpkg.steps.step import Consumed, Done, Wanted, file_states, require_unchanged, write_record

NAME = "lock"
DOC = "choose Debian packages and wheels, by hash"
RECORD = "lock.json"

_INCLUDE = re.compile(r"^[ \t]*(?:-[rc]|--requirement|--constraint)[ \t=]*([^\s#]+)", re.MULTILINE)

_HERE = sys.modules[__name__]


def reads(package: Package) -> tuple[Path, ...]:
    """The requirements file with, as far as they are there, those it includes; and the code, for its imports."""
    spec = package.spec
    name = spec.environment.requirements
    found: dict[Path, None] = {}
    pending = [package.folder / name] if name else []
    while pending:
        path = pending.pop()
        if path not in found:
            found[path] = None
            pending += _included(path)
    code = (spec.entry.source_directory or spec.entry.script,) if spec.entry else ()
    return (*found, *(package.folder / path for path in code))


def fits(result: Mapping[str, Any]) -> bool:
    """There is none."""
    return not result


def wanted(package: Package) -> Wanted:
    """What decides the choice.

    The files of the record decide: which files the requirements include is said by the files themselves.
    """
    values = {
        **lock_values(package),
        "requirements": package.spec.environment.requirements or "",
        "format": f"lock/{formats.LOCK}",
        "layers": f"tar/{formats.TAR} {formats.DEBIAN} {formats.WHEELS} {formats.BYTECODE}",
    }
    return Wanted(None, values)


def perform(package: Package) -> Done:
    """Keep the lock where it fits, else choose what must be chosen."""
    return _lock(package, upgrade=False)


def upgrade(package: Package) -> Done:
    """Choose everything anew (``mlpkg lock --upgrade``)."""
    return _lock(package, upgrade=True)


def products(package: Package) -> tuple[Path, ...]:
    """None: locks are committed files and stay."""
    del package
    return ()


def _included(path: Path) -> list[Path]:
    """What a requirements file names by ``-r`` and ``-c``; what else it says, the work itself reads."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return []
    return [path.parent / name for name in _INCLUDE.findall(text)]


def _lock(package: Package, *, upgrade: bool) -> Done:
    from mlpkg.lock import choose  # noqa: PLC0415 - loads what chooses
    from mlpkg.registry.destination import kept_layers  # noqa: PLC0415

    want = wanted(package)
    inputs = file_states(package, (package.relative(path) for path in requirement_files(package)))
    lock, done = choose.make_lock(package, upgrade=upgrade, notify=note, kept=kept_layers(package.settings))
    require_unchanged(package, inputs)
    outputs = (package.lock_path, *((package.requirements_lock_path,) if lock.wheels else ()))
    write_record(_HERE, package, want, Consumed(inputs, outputs))
    lines = (
        f"{done}: {len(lock.base) + len(lock.system)} Debian packages, {len(lock.wheels)} Python packages",
        *(f"{layer.name:<24} {size_text(layer.size):>9}  {layer.digest[:19]}" for layer in lock.layers),
    )
    return Done(lines, sum(layer.size for layer in lock.layers))
