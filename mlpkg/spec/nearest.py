"""What an unknown name in a spec file was probably meant to be. Needed for mistakes only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from mlpkg.spec.fields import fields_of
from mlpkg.spec.model import PackageSpec, WorkspaceSpec
from mlpkg.spec.words import header_text


def similar(name: str, known: Iterable[str]) -> str:
    """A hint with the known name that is nearest, or nothing."""
    near = get_close_matches(name[:100].lower(), list(known), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""


def nearest(table: type[Any], key: str) -> str:
    """A hint for an unknown key: a key of the same table, else the table that has such a key."""
    hint = similar(key, _open_keys(table))
    if hint:
        return hint
    root = WorkspaceSpec if table in _tables(WorkspaceSpec) else PackageSpec
    homes = (field for field in fields_of(root).values() if not field.is_refused)
    homes = (home for home in homes if home.table and key in _open_keys(home.table))
    return next((f"`{key}` belongs to {header_text(home)}" for home in homes), "")


def _open_keys(table: type[Any]) -> list[str]:
    """The keys of a table that this version takes."""
    return [name for name, field in fields_of(table).items() if not field.is_refused]


def _tables(root: type[Any]) -> Iterator[type[Any]]:
    yield root
    yield from (field.table for field in fields_of(root).values() if field.table is not None)
