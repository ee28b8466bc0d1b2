"""The files of a package as they lie on disk: names, kinds and sizes. The only walk through a tree.

Contents are not read here; `mlpkg.plan.plan` takes the listing as a value.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlpkg.errors import Problem, SpecError

DEFAULT_IGNORE = (
    ".git/", ".hg/", ".svn/", ".mlpkg/", ".venv/", "venv/", "node_modules/",
    "__pycache__/", "*.pyc", "*.pyo", ".ipynb_checkpoints/", ".pytest_cache/", ".mypy_cache/", ".ruff_cache/",
    ".DS_Store", "Thumbs.db", "*.swp", "*~",
    # what must never reach an image by accident
    ".env", ".env.*", ".netrc", "_netrc", ".pypirc", ".git-credentials", "*.pem", "*.key", "*.p12", "*.pfx",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".ssh/", ".aws/", ".azure/", ".docker/", ".kube/", ".gnupg/",
)  # fmt: skip
"""Patterns (.gitignore's syntax) that never ship unless the spec takes them back with ``!``."""


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
class Snapshot:
    """The files that the plan places, as listed on disk.

    `code` lists the source folder, or the script alone; `models` lists, for each model of the spec in its
    order, the tree or the single file; `runtime` lists the server's own files.
    """

    code: tuple[SourceEntry, ...] = ()
    models: tuple[tuple[SourceEntry, ...], ...] = ()
    model_is_folder: tuple[bool, ...] = ()
    runtime: tuple[SourceEntry, ...] = ()


def list_tree(folder: Path, *, ignore: Sequence[str] = (), shown: str, key: str) -> tuple[SourceEntry, ...]:
    """The files below a folder, sorted by path. Directories count only through what is in them.

    Links stay links and must stay inside; sockets, devices and names that are not UTF-8 are refused, all
    at once. Raises SpecError, with `shown` and `key` as the place.
    """
    found: list[SourceEntry] = []
    problems: list[Problem] = []
    try:
        spec = _patterns(ignore)
    except (ValueError, re.error) as error:
        raise SpecError([Problem(shown, key, f"a pattern of `ignore` cannot be read: {error}")]) from error
    for relative, entry in _walk(folder, "", spec):
        problem = _examine(folder, relative, entry, found)
        if problem:
            problems.append(Problem(shown, key, problem))
    if problems:
        raise SpecError(problems)
    return tuple(sorted(found, key=lambda item: item.path))


def list_file(path: Path, *, shown: str, key: str) -> SourceEntry:
    """One regular file, by its base name. Raises SpecError."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise SpecError([Problem(shown, key, f"{path.name} is neither a file nor a folder")])
    return SourceEntry(path.name, status.st_size, bool(status.st_mode & 0o100))


class _Patterns:
    def __init__(self, lines: Sequence[str]) -> None:
        from pathspec import GitIgnoreSpec  # noqa: PLC0415 - only packages with folders need it

        self.spec = GitIgnoreSpec.from_lines(lines)

    def ignores(self, path: str) -> bool:
        return bool(self.spec.match_file(path))


def _patterns(ignore: Sequence[str]) -> _Patterns | None:
    return _Patterns(ignore) if ignore else None


def _walk(folder: Path, prefix: str, patterns: _Patterns | None) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            relative = prefix + entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if patterns and patterns.ignores(relative + "/" if is_folder else relative):
                continue
            if is_folder:
                yield from _walk(folder / entry.name, relative + "/", patterns)
            else:
                yield relative, entry


def _examine(root: Path, relative: str, entry: os.DirEntry[str], found: list[SourceEntry]) -> str:
    try:
        relative.encode()
    except UnicodeEncodeError:
        return f"{relative!r}: the name is not UTF-8"
    if entry.is_symlink():
        target = str(Path(entry.path).readlink())
        inside = Path(os.path.normpath(Path(relative).parent / target))
        if Path(target).is_absolute() or inside.parts[:1] == ("..",):
            return f"{relative} is a link that leaves the folder (to {target}); copy the file or name its real place"
        if not (root / relative).exists():
            return f"{relative} is a link to {target}, which does not exist"
        found.append(SourceEntry(relative, 0, target=target))
        return ""
    status = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        return f"{relative} is neither a file nor a folder nor a link"
    found.append(SourceEntry(relative, status.st_size, bool(status.st_mode & 0o100)))
    return ""
