"""The files of a package as they lie on disk: names, kinds and sizes. The only walk through a tree.

Contents are not read here; `mlpkg.plan.plan` takes the listing as a value.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mlpkg.errors import Problem, SpecError
from mlpkg.spec.withheld import LeftOut, Patterns, left_out
from mlpkg.spec.words import quoted

LARGE = 64 * 1024 * 1024
"""Bytes from which a model's file gets a layer of its own (cog's weights draft uses the same bound)."""


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """One file or link. `path` is relative to its tree (``/`` between parts); `target` belongs to links."""

    path: str
    size: int
    is_executable: bool = False
    target: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """What ships of a tree (or the one file that was named), and what the safe list kept out of it."""

    entries: tuple[SourceEntry, ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files that the plan places, as listed on disk.

    `code` lists the source folder, or the script alone; `models` lists, for each model of the spec in its
    order, the tree or the single file; `runtime` lists the server's own files. `left_out` is what the safe
    list kept out, by paths from the package's folder: it decides nothing and is there to be told.
    """

    code: tuple[SourceEntry, ...] = ()
    models: tuple[tuple[SourceEntry, ...], ...] = ()
    model_is_folder: tuple[bool, ...] = ()
    runtime: tuple[SourceEntry, ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut)


MOST = 20
"""Problems told of one tree."""

_HOPS = 40
"""Links that are followed on the way to one file (Linux, path_resolution(7))."""


def list_tree(folder: Path, *, ignore: Sequence[str] = (), place: str, shown: str, key: str) -> Listing:
    """The files below a folder, sorted by path. Directories count only through what is in them.

    `ignore` are the spec's own patterns, over the safe list (`mlpkg.spec.withheld`). `place` is the folder's
    path from the package's, for messages. Links stay links and must lead to what ships; sockets, devices and
    names that are not UTF-8 are refused, all at once.

    Raises SpecError, with `shown` and `key` as the place; OSError where the folder itself cannot be read.
    """
    try:
        patterns = Patterns(ignore)
    except (ValueError, re.error) as error:
        raise SpecError([Problem(shown, key, f"a pattern of `ignore` cannot be read: {error}")]) from error
    tree = _walk(folder, patterns)
    wrong = list(tree.wrong)
    places = {entry.path: entry.target for entry in tree.found}
    folders = _folders(places)
    for entry in tree.found:
        if entry.target and not _arrives(entry.path, places, folders):
            message = f"is a link to {quoted(entry.target)}, which does not ship"
            wrong.append(_Wrong(entry.path, message, _LOST))
    if wrong:
        wrong.sort()
        problems = [
            Problem(shown, key, f"{quoted(f'{place}/{path}')} {message}", hint)
            for path, message, hint in wrong[:MOST]
        ]
        if len(wrong) > MOST:
            problems.append(Problem(shown, key, f"and {len(wrong) - MOST} more like these"))
        raise SpecError(problems)
    entries = tuple(sorted(tree.found, key=lambda item: item.path))
    return Listing(entries, left_out(f"{place}/{path}" for path in tree.private))


_LOST = "ship what it leads to, or leave the link out with `ignore`"
_COPY_IN = "copy the file into the folder, or name its real place"


def list_file(path: Path, *, shown: str, key: str) -> Listing:
    """One regular file, by its base name: it was named, so it ships, whatever it is called. Raises SpecError."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise SpecError([Problem(shown, key, f"{path.name} is neither a file nor a folder")])
    return Listing((SourceEntry(path.name, status.st_size, bool(status.st_mode & 0o100)),))


class _Wrong(NamedTuple):
    path: str
    message: str
    hint: str = ""


class _Tree(NamedTuple):
    """What a walk met: what ships, what is wrong, and what the safe list kept out."""

    found: list[SourceEntry]
    wrong: list[_Wrong]
    private: list[str]


def _walk(top: Path, patterns: Patterns) -> _Tree:
    """Without recursion: folders may lie deeper than Python's stack."""
    tree = _Tree([], [], [])
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(top / prefix) as entries:
                names = list(entries)
        except OSError as error:
            if not prefix:
                raise
            tree.wrong.append(_Wrong(prefix.rstrip("/"), f"cannot be read: {error.strerror}"))
            continue
        for entry in names:
            relative = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                relative += "/"
            reason = patterns.reason(relative)
            if reason == "private":
                tree.private.append(relative)
            elif not reason and relative.endswith("/"):
                waiting.append(relative)
            elif not reason:
                tree.wrong.extend(_examine(top, relative, entry, tree.found))
    return tree


def _examine(
    root: Path, relative: str, entry: os.DirEntry[str], found: list[SourceEntry]
) -> Iterator[_Wrong]:
    try:
        relative.encode()
    except UnicodeEncodeError:
        yield _Wrong(relative, "has a name that is not UTF-8", "rename it")
        return
    try:
        if entry.is_symlink():
            yield from _examine_link(root, relative, str(Path(entry.path).readlink()), found)
            return
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        yield _Wrong(relative, f"cannot be read: {error.strerror}")
        return
    if stat.S_ISREG(status.st_mode):
        found.append(SourceEntry(relative, status.st_size, bool(status.st_mode & 0o100)))
    else:
        yield _Wrong(relative, "is neither a file nor a folder", "a socket, pipe or device cannot ship")


def _examine_link(root: Path, relative: str, target: str, found: list[SourceEntry]) -> Iterator[_Wrong]:
    inside = Path(os.path.normpath(Path(relative).parent / target))
    leaves = Path(target).is_absolute() or inside.parts[:1] == ("..",)
    if leaves:
        yield _Wrong(relative, f"is a link that leaves the folder, to {quoted(target)}", _COPY_IN)
    elif not (root / relative).exists():
        yield _Wrong(relative, f"is a link to {quoted(target)}, which does not exist")
    else:
        found.append(SourceEntry(relative, 0, target=target))


def _folders(paths: Mapping[str, str]) -> set[str]:
    """All folders that have something in them; the top one is the empty text."""
    folders = {""}
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    return folders


def _arrives(path: str, places: Mapping[str, str], folders: AbstractSet[str]) -> bool:
    """Whether a link leads to a file or folder in a tree of these paths (and their links' targets) alone."""
    at: list[str] = []
    parts = path.split("/")
    hops = 0
    while parts:
        part = parts.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            if not at:
                return False
            at.pop()
            continue
        here = "/".join([*at, part])
        target = places.get(here)
        if target:
            hops += 1
            if hops > _HOPS:
                return False
            parts = target.split("/") + parts
        elif here in folders or (target is not None and not parts):
            at.append(part)
        else:
            return False
    return True
