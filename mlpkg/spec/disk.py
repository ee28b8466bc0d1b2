"""Whether the files that a package.toml names are there, lie in its folder, and are what they should be.

This reads the disk, so it is called only when something is to be built, never to list tasks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlpkg.errors import Problem, SpecError
from mlpkg.platforms import BASES
from mlpkg.spec.ignored import hidden_problems, pattern_problems
from mlpkg.spec.lines import key_lines, line_of
from mlpkg.spec.listing import Listing, list_tree
from mlpkg.spec.model import EntryTable, ModelTable, PackageSpec, WorkspaceSpec
from mlpkg.spec.script import Calling, script_findings
from mlpkg.spec.words import key_path, quoted

LARGEST_SCRIPT = 8 << 20
"""Bytes of an entry script; more is a mistake."""

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
            problems += _model_problems(named(f"models[{index}].path", model.path), model)
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


def check_settings(
    settings: WorkspaceSpec, root: Path, *, made_by_tasks: Callable[[Path], bool]
) -> tuple[Problem, ...]:
    """All that is wrong with the files that mlpkg.toml names, for a run that may lock something.

    They may lie anywhere. `made_by_tasks` is asked with the folders of wheels: a task may build them.
    """
    problems: list[Problem] = []
    for key, text in (
        ("debian.keyring", settings.debian.keyring),
        ("python.ca_file", settings.python.ca_file),
    ):
        if text is not None and (message := _unlike_file(_from(root, text))):
            problems.append(Problem("mlpkg.toml", key, f"{quoted(text)} {message}", _FROM_HERE))
    for index, text in enumerate(settings.python.find_links):
        path = _from(root, text)
        if "://" not in text and not path.is_dir() and not made_by_tasks(path):
            message = f"{quoted(text)} is no folder"
            problems.append(Problem("mlpkg.toml", f"python.find_links[{index}]", message, _FROM_HERE))
    return _with_lines(problems, root / "mlpkg.toml", "mlpkg.toml") if problems else ()


_FROM_HERE = "paths start at the folder of mlpkg.toml"


def _from(root: Path, text: str) -> Path:
    """A path of mlpkg.toml. A `~` whose home is not known stays one."""
    return root / os.path.expanduser(text)  # noqa: PTH111 - Path.expanduser raises for an unknown user


def _unlike_file(path: Path) -> str:
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            return "" if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else "is not a file"
    except FileNotFoundError:
        return "does not exist"
    except IsADirectoryError:
        return "is not a file"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _script_path(entry: EntryTable, folder: Path) -> Path:
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


def _model_problems(named: _Named, model: ModelTable) -> list[Problem]:
    mode, problem = _mode(named)
    if problem is not None:
        return [problem]
    ignore = named.key.replace("path", "ignore")
    if stat.S_ISREG(mode):
        message = f"has no effect: {quoted(model.path)} is a file"
        hint = "a file that is named ships; patterns are for what is in a folder"
        return [Problem(named.shown, ignore, message, hint)] if model.ignore else []
    if not stat.S_ISDIR(mode):
        return [named.problem("is neither a file nor a folder")]
    if wrong := pattern_problems(model.ignore, shown=named.shown, key=ignore):
        return wrong
    listing, problems = _listed(named, model.ignore)
    if not problems and not listing.entries:
        kept = f", but for what does not ship: {listing.left_out}" if listing.left_out.count else ""
        problems = [named.problem(f"is a folder without files{kept}")]
    return problems


def _listed(named: _Named, ignore: tuple[str, ...]) -> tuple[Listing, list[Problem]]:
    """What ships of a folder, and what is wrong with it."""
    try:
        tree = list_tree(named.path, ignore=ignore, place=named.text, shown=named.shown, key=named.key)
    except SpecError as error:
        return Listing(), list(error.problems)
    except OSError as error:
        return Listing(), [named.problem(f"cannot be read: {error.strerror}")]
    return tree, []


def _entry_problems(
    entry: EntryTable, named: Callable[[str, str], _Named], python: tuple[int, int], calling: Calling
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
        found = found or _listed(folder, entry.ignore)[1]
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
