"""Whether the files that a package.toml names are there, lie in its folder, and are what they should be.

This reads the disk, so it is called only when something is to be built, never to list tasks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from mlpkg.errors import Problem
from mlpkg.platforms import BASES
from mlpkg.spec.ignored import hidden_problems
from mlpkg.spec.lines import key_lines, line_of
from mlpkg.spec.model import Entry, PackageSpec
from mlpkg.spec.script import Calling, script_findings
from mlpkg.spec.words import key_path, quoted

LARGEST_SCRIPT = 8 << 20
"""Bytes of an entry script; more is a mistake."""

_MOST = 20
"""Problems shown of one folder."""

_COPY_IN = "copy it into the package's folder, or let a doit task do so"


_START = "paths start at the folder of package.toml"


@dataclass(frozen=True, slots=True)
class _Named:
    """A path of the spec: the key and its text, where it is on disk, and the real folder it must stay in."""

    shown: str
    key: str
    text: str
    path: Path
    inside: Path

    def problem(self, message: str, hint: str = "") -> Problem:
        return Problem(self.shown, self.key, f"{quoted(self.text)} {message}", hint)

    def below(self, name: str) -> _Named:
        return _Named(self.shown, self.key, f"{self.text}/{name}", self.path / name, self.inside)


def check_files(
    spec: PackageSpec, folder: Path, *, shown: str, made_by_tasks: Callable[[Path], bool]
) -> tuple[Problem, ...]:
    """All that is wrong with the files of a package whose package.toml lies in `folder`.

    `shown` is the path of package.toml as the user would type it. `made_by_tasks` is asked with each
    file that the spec names (``folder / model.path``, the script in its source folder): one that a task
    makes may be absent or out of date now, and is not looked at.
    """
    real = folder.resolve()

    def named(key: str, text: str) -> _Named:
        return _Named(shown, key, text, folder / text, real)

    problems: list[Problem] = []
    for index, model in enumerate(spec.models):
        if not made_by_tasks(folder / model.path):
            problems += _model_problems(named(f"models[{index}].path", model.path))
    if spec.entry is not None and not made_by_tasks(_script_path(spec.entry, folder)):
        python = BASES[spec.image.base].python_pair
        problems += _entry_problems(spec.entry, named, python, _calling(spec))
    files = {
        "environment.requirements": spec.environment.requirements,
        "environment.conda": spec.environment.conda,
        "smoke.request": spec.smoke.request if spec.smoke else None,
    }
    for key, text in files.items():
        if text is not None and not made_by_tasks(folder / text):
            problems += _file_problems(named(key, text))
    return _with_lines(problems, folder / "package.toml", shown) if problems else ()


def _script_path(entry: Entry, folder: Path) -> Path:
    return folder / (entry.source_directory or "") / entry.script


def _calling(spec: PackageSpec) -> Calling:
    """How the server of this spec calls the script."""
    if spec.server.kind == "custom":
        return "free"
    lenient = spec.environment.variables.get("MLPKG_LENIENT", "").strip().lower()
    return "lenient" if lenient in ("true", "1", "yes", "on") else "plain"


def _with_lines(problems: list[Problem], path: Path, shown: str) -> tuple[Problem, ...]:
    """The same problems with their lines in package.toml, as far as it can be read."""
    try:
        lines = key_lines(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError):
        return tuple(problems)
    return tuple(
        Problem(p.file, p.key, p.message, p.hint, line_of(lines, key_path(p.key))) if p.file == shown else p
        for p in problems
    )


def _mode(named: _Named) -> tuple[int, Problem | None]:
    """The file type bits of what a path leads to, and what is wrong with the way there."""
    try:
        real = named.path.resolve(strict=True)
        mode = real.stat().st_mode
    except FileNotFoundError:
        if named.path.is_symlink():
            return 0, named.problem("is a link to nothing")
        return 0, named.problem("does not exist, and no task makes it", _START)
    except OSError as error:
        return 0, named.problem(f"cannot be read: {error.strerror}")
    except RuntimeError:  # before Python 3.13, a loop of links
        return 0, named.problem("is a loop of links")
    if not real.is_relative_to(named.inside):
        return mode, named.problem("leads out of its folder through a link", _COPY_IN)
    return mode, None


def _file_problems(named: _Named) -> list[Problem]:
    mode, problem = _mode(named)
    if problem is None and not stat.S_ISREG(mode):
        problem = named.problem("is not a file")
    return [problem] if problem else []


def _model_problems(named: _Named) -> list[Problem]:
    mode, problem = _mode(named)
    if problem is not None:
        return [problem]
    if stat.S_ISREG(mode):
        return []
    if not stat.S_ISDIR(mode):
        return [named.problem("is neither a file nor a folder")]
    counted = [0]
    problems = list(islice(_tree_problems(named, counted), _MOST))
    if not problems and not counted[0]:
        problems = [named.problem("is a folder without files")]
    return problems


def _tree_problems(top: _Named, counted: list[int]) -> Iterator[Problem]:
    """Problems of what lies below a folder; `counted` counts its files. Links are not followed."""
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder.path) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield folder.problem(f"cannot be read: {error.strerror}")
            continue
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(folder.below(entry.name))
                continue
            counted[0] += 1
            yield from _leaf_problems(folder.below(entry.name), entry)


def _leaf_problems(named: _Named, entry: os.DirEntry[str]) -> Iterator[Problem]:
    if entry.is_file(follow_symlinks=False):
        return
    mode, problem = _mode(named) if entry.is_symlink() else (0, None)
    if problem is None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        problem = named.problem("is neither a file nor a folder", "a socket, pipe or device cannot ship")
    if problem is not None:
        yield problem


def _entry_problems(
    entry: Entry, named: Callable[[str, str], _Named], python: tuple[int, int], calling: Calling
) -> list[Problem]:
    script = named("entry.script", entry.script)
    if entry.source_directory is not None:
        folder = named("entry.source_directory", entry.source_directory)
        mode, problem = _mode(folder)
        if problem is None and not stat.S_ISDIR(mode):
            problem = folder.problem("is not a folder")
        if problem is not None:
            return [problem]
        path = folder.path / entry.script
        text = f"{entry.source_directory}/{entry.script}"
        script = _Named(script.shown, script.key, text, path, folder.path.resolve())
        found = _file_problems(script) or hidden_problems(entry, shown=script.shown)
    else:
        found = _file_problems(script)
    return found or _script_problems(script, python, calling)


def _script_problems(script: _Named, python: tuple[int, int], calling: Calling) -> list[Problem]:
    try:
        with script.path.open("rb") as file:
            source = file.read(LARGEST_SCRIPT + 1)
    except OSError as error:
        return [script.problem(f"cannot be read: {error.strerror}")]
    if len(source) > LARGEST_SCRIPT:
        return [script.problem(f"is larger than {LARGEST_SCRIPT} bytes", "is it the right file?")]
    shown = str(PurePosixPath(script.shown).parent / script.text)
    return [
        Problem(shown, script.key, found.message, found.hint, found.line)
        for found in script_findings(source, python=python, calling=calling)
    ]
