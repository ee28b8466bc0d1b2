"""Where a workspace's packages lie, and which folders look like packages but are not looked for. Reads names only.

Links are followed where a pattern names them, never below ``**`` nor by the search beside the patterns.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from fnmatch import translate
from pathlib import Path
from typing import NamedTuple

SPEC = "package.toml"
SETTINGS = "mlpkg.toml"

DEEPEST = 3
"""Folders below the workspace that the search beside the patterns goes down."""

MOST_FOLDERS = 1000
"""Folders that this search looks into, at most."""

MOST_FOUND = 20
"""Folders outside the patterns that it tells, at most."""

_PASSED_BY = {"node_modules", "venv", "env", "site-packages", "__pycache__", "build", "dist", "target"}


class Found(NamedTuple):
    """A folder with a package.toml, by its path from the workspace (``.`` for itself), and where it really is."""

    place: str
    real: str


def package_folders(root: str, patterns: Iterable[str]) -> list[Found]:
    """The folders that the patterns name, in order; the workspace itself where it is a package.

    Of patterns, ``*``, ``?`` and ``[…]`` stand for one name, ``**`` for any number of folders; one that begins
    with ``!`` takes folders out. `root` is a real path.
    """
    if _is_entry(f"{root}/{SPEC}"):
        return [Found(".", root)]
    taken = {place: real for pattern in _of(patterns, out=False) for place, real in _matching(root, pattern)}
    out = {place for pattern in _of(patterns, out=True) for place, _ in _matching(root, pattern)}
    return [
        Found(place, real)
        for place, real in sorted(taken.items())
        if place not in out and _is_entry(f"{root}/{place}/{SPEC}")
    ]


def outside(root: str, known: AbstractSet[str], patterns: Iterable[str]) -> list[str]:
    """Folders near the top with a package.toml that no pattern names (and none takes out), in order.

    The search is bounded, goes into no hidden folder, no package and no other workspace, and follows no link.
    """
    out = {place for pattern in _of(patterns, out=True) for place, _ in _matching(root, pattern)}
    found: list[str] = []
    level = [""]
    left = MOST_FOLDERS
    for _ in range(DEEPEST + 1):
        below: list[str] = []
        for prefix in level:
            if not left or len(found) >= MOST_FOUND:
                return sorted(found)
            left -= 1
            names, folders = _names(f"{root}/{prefix}")
            place = prefix.rstrip("/")
            if prefix and SPEC in names:
                found.append(place)
            elif not prefix or not names & {SETTINGS, "dodo.py"}:
                below += [f"{prefix}{name}/" for name in folders if f"{prefix}{name}" not in known | out]
        level = below
    return sorted(found)


def _names(folder: str) -> tuple[set[str], list[str]]:
    """The names in a folder, and those of its folders that are worth a look."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError:
        return set(), []
    folders = sorted(name for name, is_folder in found if is_folder and _is_worth_a_look(name))
    return {name for name, _ in found}, folders


def _is_worth_a_look(name: str) -> bool:
    return not name.startswith(".") and name not in _PASSED_BY


def _of(patterns: Iterable[str], *, out: bool) -> Iterator[str]:
    for pattern in patterns:
        if pattern.startswith("!") == out:
            yield pattern.removeprefix("!")


def _matching(root: str, pattern: str) -> Iterator[tuple[str, str]]:
    """Folders that fit a pattern: the path from the workspace and the real path."""
    waiting = [("", root, [part for part in pattern.split("/") if part not in ("", ".")])]
    while waiting:
        place, real, parts = waiting.pop()
        if not parts:
            yield place.rstrip("/") or ".", real
            continue
        part, rest = parts[0], parts[1:]
        if part == "**":
            waiting.append((place, real, rest))
            waiting += [
                (f"{place}{name}/", f"{real}/{name}", parts)
                for name, is_link in _folders(real)
                if not is_link and _is_worth_a_look(name)
            ]
        elif re.search(r"[*?[]", part):
            fits = re.compile(translate(part)).match
            waiting += [
                (f"{place}{name}/", os.path.realpath(f"{real}/{name}") if is_link else f"{real}/{name}", rest)
                for name, is_link in _folders(real)
                if fits(name)
            ]
        elif Path(real, part).is_dir():
            waiting.append((f"{place}{part}/", os.path.realpath(f"{real}/{part}"), rest))


def _folders(folder: str) -> list[tuple[str, bool]]:
    """Names of the folders in a folder, and whether each is a link."""
    try:
        with os.scandir(folder) as entries:
            return [(entry.name, entry.is_symlink()) for entry in entries if entry.is_dir()]
    except OSError:
        return []


def _is_entry(path: str) -> bool:
    """Whether there is anything of that name, be it a broken link: what is wrong with it is told later."""
    return os.path.lexists(path)
