"""Which tasks make which files: an index of all targets by path and by folder, asked once for each step.

Targets and the files of packages are compared as places, however they are spelled: relative, absolute, through
a linked folder. A target inside a folder that a step reads counts, and so does a folder that is a target and
holds what a step reads. Building the index takes time in proportion to the targets, asking in proportion to the
depth of a path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpkg.spec.workspace import Package

Regex = re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Makers:
    """Names of tasks by the place (a real path) of what they make.

    `exact` has the targets, `below` all folders above them. `patterns` are those of tasks that are made later
    (doit, ``create_after(target_regex=…)``), whose targets nobody knows before.
    """

    exact: Mapping[str, tuple[str, ...]]
    below: Mapping[str, tuple[str, ...]]
    patterns: tuple[tuple[Regex, str], ...]
    root: str

    def of(self, paths: Iterable[Path]) -> tuple[str, ...]:
        """The tasks that make any of these files or folders, or a part of one; in order of their names."""
        if not self.exact and not self.patterns:
            return ()
        return tuple(sorted({name for path in paths for name in self._of(path)}))

    def make(self, path: Path) -> bool:
        """Whether a task makes this file or folder, or a part of it."""
        return bool(self.of((path,)))

    def _of(self, path: Path) -> Iterator[str]:
        place = _place(str(path))
        yield from self.exact.get(place, ())
        yield from self.below.get(place, ())
        for folder in _folders(place):
            yield from self.exact.get(folder, ())
        if self.patterns:
            shown = os.path.relpath(place, self.root)
            for pattern, name in self.patterns:
                if any(pattern.match(text) for text in (shown, f"{shown}/", place, f"{place}/")):
                    yield name


def find_makers(tasks: Mapping[str, Any], root: Path) -> Makers:
    """The index of a run's tasks, as doit has them by name. Relative targets start at `root`."""
    place = _placing(str(root))
    exact: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    patterns = []
    for name, task in tasks.items():
        if step_of(task) is not None:
            continue
        for target in task.targets:
            found = place(target)
            exact.setdefault(found, []).append(name)
            for folder in _folders(found):
                below.setdefault(folder, []).append(name)
        expression = getattr(task.loader, "target_regex", None)
        if expression and not name.startswith("_regex_target"):
            patterns.append((re.compile(expression), name))
    return Makers(
        {key: tuple(names) for key, names in exact.items()},
        {key: tuple(names) for key, names in below.items()},
        tuple(patterns),
        os.path.realpath(root),
    )


def step_of(task: Any) -> tuple[str, Package] | None:
    """The step and the package of one of mlpkg's own tasks; None for all others."""
    package = getattr(task, "package", None)
    return (task.step, package) if package is not None else None


def _place(path: str) -> str:
    """Where a path really lies. Its last part is not followed: a target may be a link."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)  # noqa: PTH118 - 1,000 packages: pathlib is slow


def _placing(root: str) -> Callable[[str], str]:
    """`_place` for many paths from `root`, most of which share their folders."""
    known: dict[str, str] = {}

    def place(path: str) -> str:
        folder, name = os.path.split(os.path.normpath(os.path.join(root, path)))  # noqa: PTH118
        if folder not in known:
            known[folder] = os.path.realpath(folder)
        return os.path.join(known[folder], name)  # noqa: PTH118

    return place


def _folders(path: str) -> Iterator[str]:
    """The folders above a path, nearest first, without the top of the disk."""
    folder = os.path.dirname(path)  # noqa: PTH120
    while folder not in ("", os.sep):
        yield folder
        folder = os.path.dirname(folder)  # noqa: PTH120
