"""A look at a step: is its record still true, and if not, what changed. Asked by doit, by `mlpkg plan` and by steps.

Nothing here changes a file, but for `is_current`, which may renew the file identities of a record that was
just found true.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mlpkg.errors import MlpkgError
from mlpkg.spec.workspace import Package
from mlpkg.steps.pipeline import step_named
from mlpkg.steps.step import read_record, record_path
from mlpkg.store import records
from mlpkg.store.records import Change, Look
from mlpkg.store.runlock import holds_workspace

_known_current: set[tuple[str, Path]] = set()
"""What was looked at before the run, and is not looked at again until something has run."""


def why(name: str, package: Package) -> tuple[Change, ...]:
    """Why the step of that name would run; nothing means that it is done."""
    return _look(name, package).changes


def is_current(name: str, package: Package) -> bool:
    """Whether the step has nothing to do; doit asks this. Never raises for a user's mistake."""
    if (name, package.records) in _known_current:
        return True
    seen = _look(name, package)
    if seen.renewed and holds_workspace(package.root):
        # It only saves reading again: a full disk is for the step that has something to write.
        with suppress(OSError):
            records.write(record_path(step_named(name), package), seen.renewed)
    return not seen.changes


def look_ahead(name: str, package: Package) -> bool:
    """`is_current`, remembered until `forget`: for a look at everything just before doit looks."""
    current = is_current(name, package)
    if current:
        _known_current.add((name, package.records))
    return current


def forget() -> None:
    """Something runs: what was looked at before may not hold any more."""
    _known_current.clear()


def _look(name: str, package: Package) -> Look:
    step = step_named(name)
    record = read_record(step, package)
    try:
        want = step.wanted(package)
    except MlpkgError as error:
        return Look((Change(error.message.splitlines()[-1].strip(), "", ""),))
    except OSError as error:
        return Look((Change(str(error), "", ""),))
    return records.look(record, package.root, want.files, want.values)
