"""`doit dumpdb` for the database that is configured; doit's own knows one kind, in one place, and fails on all others.

A plugin of doit's (entry point ``doit.COMMAND``), because doit 0.37 does not read dodo.py for this command.
"""

from __future__ import annotations

import dbm
import json
import pprint
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from doit.cmd_base import DoitCmdBase
from doit.exceptions import InvalidCommand, InvalidDodoFile

from mlpkg.tasks.database import ERRORS


class DumpDB(DoitCmdBase):  # type: ignore[misc] # doit has no annotations
    """Prints what doit keeps of each task."""

    doc_purpose = "dump dependency DB"
    doc_usage = ""
    cmd_options = ()

    def execute(self, params: Any, args: list[str]) -> int:  # noqa: ARG002 - doit's signature
        """Print the rows, by name; changes nothing. Raises InvalidCommand for a damaged database."""
        with suppress(InvalidDodoFile):
            self.loader.setup(params)
            params.update_defaults(self.loader.load_doit_config())
        path = Path(params["dep_file"])
        reader = {"sqlite3": _sqlite, "json": _json, "dbm": _dbm}.get(params["backend"])
        if reader is None:
            raise InvalidCommand(f"cannot dump a database of the kind {params['backend']!r}")
        try:
            rows = sorted(reader(path))
        except FileNotFoundError:
            sys.stdout.write(f"{path}: nothing is kept yet\n")
            return 0
        except ERRORS as error:
            raise InvalidCommand(f"{path}: is damaged ({error}); the next run sets it aside") from error
        for name, value in rows:
            sys.stdout.write(f"{name} -> {pprint.pformat(value, indent=4, width=100)}\n")
        return 0


def _sqlite(path: Path) -> Iterator[tuple[str, Any]]:
    if not path.exists():
        raise FileNotFoundError
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        for name, text in connection.execute("select task_id, task_data from doit"):
            yield name, json.loads(text)


def _json(path: Path) -> Iterator[tuple[str, Any]]:
    yield from json.loads(path.read_bytes()).items()


def _dbm(path: Path) -> Iterator[tuple[str, Any]]:
    if not any(path.parent.glob(f"{path.name}*")):
        raise FileNotFoundError
    with closing(dbm.open(str(path), "r")) as database:
        for name in database.keys():  # noqa: SIM118 - not all modules behind dbm give mappings
            yield name if isinstance(name, str) else name.decode(errors="replace"), json.loads(database[name])
