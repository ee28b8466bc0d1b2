"""Whether a package's code needs what only `@rawhttp` scripts need: read from its imports, and remembered.

The imports decide, not the text: a lock stays when a script changes and imports the same. What was found is
kept in a record with the files that were read, so that a run with nothing to do parses nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mlpkg.runtime.requirements import RAWHTTP_MODULES
from mlpkg.spec.workspace import Package
from mlpkg.store import records
from mlpkg.store.records import Record
from mlpkg.store.runlock import holds_workspace

_STEP = "script"


def needs_rawhttp(package: Package) -> bool:
    """Whether the entry script, or a module of the source folder that it imports, imports `rawhttp` and the like.

    A file that cannot be parsed counts as one that does: a package too many does no harm, one too few does.
    """
    entry = package.spec.entry
    if entry is None or package.spec.server.kind != "mlpkg":
        return False
    values = {
        "entry": f"{entry.source_directory or ''} {entry.script}",
        "modules": " ".join(RAWHTTP_MODULES),
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",  # which syntax can be parsed
    }
    known = _remembered(package, values)
    if known is not None:
        return known
    from mlpkg.lock.imports import Search  # noqa: PLC0415 - only where a script is new or has changed

    search = Search(package)
    try:
        found = search.run()
    except OSError:
        return False  # the check of the package's files says what is wrong with the script
    if holds_workspace(package.root):
        absent = [package.relative(path) for path in search.absent]
        result = {"rawhttp": found, "absent": absent}
        records.write(_record(package), Record(package.name, _STEP, search.states, {}, values, result))
    return found


def _record(package: Package) -> Path:
    return package.records / f"{_STEP}.json"


def _remembered(package: Package, values: dict[str, str]) -> bool | None:
    """What was found before, where neither the files read nor the places looked at have changed."""
    record = records.read(_record(package), package.name, _STEP)
    seen = records.look(record, package.root, None, values)
    if record is None or seen.changes:
        return None
    if any((package.root / name).exists() for name in record.result.get("absent", ())):
        return None
    if seen.renewed and holds_workspace(package.root):
        records.write(_record(package), seen.renewed)
    return bool(record.result.get("rawhttp"))
