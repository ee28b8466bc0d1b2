"""doit's database: it holds what doit knows of a user's own tasks, and nothing that a package is made of.

So a damaged one stops nothing: it is set aside, and those tasks run again. A full disk or a read-only folder is
told as such when doit writes it at the end.
"""

from __future__ import annotations

import dbm
import errno
import json
import os
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NoReturn

from doit.dependency import JSONCodec, JsonDB
from doit.globals import Globals

from mlpkg.tasks.ended import end_run

SETTINGS: Mapping[str, Any] = {
    # A name of its own: a dodo.py that loses these settings must not open it as another kind of database.
    "backend": "sqlite3",
    "dep_file": ".doit.sqlite",
}

_BESIDE = ("", ".db", ".dat", ".dir", ".bak", ".pag", "-journal", "-wal", "-shm")
"""What the backends add to the name of a database's files."""

ERRORS = (
    *dbm.error, sqlite3.Error, ValueError, SyntaxError, TypeError, KeyError, AttributeError, EOFError, RecursionError,
)  # fmt: skip
"""What reading a damaged database raises; `dbm.dumb` evaluates lines of text."""


class Codec(JSONCodec):  # type: ignore[misc] # doit has no annotations
    """doit's own codec. doit makes it just before it opens the database, so that a damaged one can go first."""

    def __init__(self) -> None:
        super().__init__()
        config = {**SETTINGS, **_configured()}
        if isinstance(config["dep_file"], str):
            require_usable(str(config["backend"]), Path(config["dep_file"]))

    def decode(self, data: str) -> dict[str, Any]:
        """What is kept of a task; nothing where it cannot be read, and then the task runs again."""
        try:
            value = super().decode(data)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


def _configured() -> dict[str, Any]:
    """The settings of the file of tasks that asked for `Codec`, whatever it is called."""
    for name, module in list(sys.modules.items()):
        config = vars(module).get("DOIT_CONFIG") if hasattr(module, "__dict__") else None
        if isinstance(config, dict) and config.get("codec_cls") is Codec and not name.startswith("mlpkg."):
            return config
    return {}


class Ending:
    """A backend whose last write may fail: then the user is told, and what the steps recorded stands."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._forgotten: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, name: str) -> None:
        """Forget a task. Where that cannot be written now, it is tried again at the end: what failed is told first."""
        try:
            self._backend.remove(name)
        except (OSError, sqlite3.Error):
            self._forgotten.append(name)

    def dump(self) -> None:
        """Write the database. Ends the run with exit code 1 where the disk refuses."""
        path = Path(self._backend.name)
        # doit empties this kind of file before it writes it.
        before = path.read_bytes() if isinstance(self._backend, JsonDB) and path.is_file() else None
        try:
            for name in self._forgotten:
                self._backend.remove(name)
            self._backend.dump()
        except (OSError, sqlite3.Error) as error:
            if before is not None:
                with suppress(OSError):
                    path.write_bytes(before)
            _end(path, error)


def guard() -> None:
    """Let doit's last write of its database fail in plain words; does nothing where it has none yet."""
    manager = Globals.dep_manager
    if manager is not None and not isinstance(manager.backend, Ending):
        manager.backend = Ending(manager.backend)
        manager.remove = manager.backend.remove


def require_usable(backend: str, path: Path) -> None:
    """Let doit open its database: a damaged one is renamed, and that is said.

    Ends the run with exit code 1 where it can be neither read nor made.
    """
    looks = {"sqlite3": _damage_of_sqlite, "json": _damage_of_json, "dbm": _damage_of_dbm}
    if backend not in looks:
        return
    try:
        damage = looks[backend](path)
        if not damage:
            return
        for ending in _BESIDE:
            file = path.with_name(path.name + ending)
            if file.exists():
                file.replace(file.with_name(file.name + ".damaged"))
        looks[backend](path)
    except (OSError, sqlite3.Error) as error:
        _end(path, error)
    sys.stderr.write(
        f"notice: {path}, doit's database, is damaged ({damage}): it is now {path}.damaged; packages do not"
        " depend on it, your own tasks run again\n"
    )


def _end(path: Path, error: Exception) -> NoReturn:
    end_run(
        1,
        f"{path}: doit's database cannot be used: {error}\n"
        "  make room, or make the folder writable; what was built and pushed is kept",
    )


def _damage_of_sqlite(path: Path) -> str:
    """What is wrong with it, or nothing. Makes it where it lacks, as doit will. Raises OSError, sqlite3.Error."""
    if path.is_dir():
        return "it is a folder"
    connection = sqlite3.connect(path)
    try:
        connection.execute(
            "create table if not exists doit (task_id text not null primary key, task_data json)"
        )
        (found,) = connection.execute("pragma quick_check(1)").fetchone()
        if found != "ok":
            return str(found).splitlines()[0]
        connection.execute("select task_id, task_data from doit limit 1").fetchall()
    except sqlite3.OperationalError as error:
        # Locked, full, read-only: no damage. A table of another shape is.
        if "no such column" not in str(error) and "malformed" not in str(error):
            raise
        return str(error)
    except sqlite3.DatabaseError as error:
        return str(error)
    finally:
        connection.close()
    return ""


def _damage_of_json(path: Path) -> str:
    if path.is_dir():
        return "it is a folder"
    _require_writable(path)
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return ""
    except (ValueError, RecursionError) as error:
        return str(error)
    right = isinstance(value, dict) and all(isinstance(kept, dict) for kept in value.values())
    return "" if right else "it is no table of tasks"


def _damage_of_dbm(path: Path) -> str:
    _require_writable(path)
    if not any(path.with_name(path.name + ending).exists() for ending in _BESIDE):
        return ""
    try:
        with closing(dbm.open(str(path), "r")) as database:
            for key in database.keys():  # noqa: SIM118 - not all modules behind dbm give mappings
                database[key]
    except ERRORS as error:
        return str(error) or type(error).__name__
    return ""


def _require_writable(path: Path) -> None:
    """Raises OSError for a folder in which nothing can be written."""
    if not os.access(path.absolute().parent, os.W_OK):
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))
