"""Turns a tree of installed wheels into layer entries that are the same on every machine."""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import re
import stat
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlpkg.errors import LockError
from mlpkg.formats import WHEELS
from mlpkg.layer import Bytes, Content, Entry, SourceFile
from mlpkg.wheels.installed import Installed, Row, claims, read_installed, ships

FORMAT = WHEELS
"""Changes when the same wheels would give other entries."""

PREFIX = "usr/local"
INTERPRETER = "/usr/bin/python3"

_SCRIPT = """\
#!{interpreter}
import sys

from {module} import {first}

if __name__ == "__main__":
    sys.argv[0] = sys.argv[0].removesuffix(".exe")
    sys.exit({function}())
"""
_ENTRY_POINT = re.compile(r"([A-Za-z_][\w.]*)\s*:\s*([A-Za-z_][\w.]*)\s*(?:\[.*\])?\Z")
# What installers put for a script's "#!python": the interpreter's path, or a shell line for one that is long.
_PYTHON_LINE = re.compile(
    rb"#!\s*/(?!usr/bin/env\b)[^\n]*?\bpython[\w.]*(?:[ \t][^\n]*)?\r?\n"
    rb"|#!/bin/sh\r?\n'''exec' [^\n]*\r?\n' '''\r?\n",
)

_FIRST_LINES = 1 << 16
_SCRIPT_LIMIT = 16 << 20


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where files below the host's prefix go in an image with Python `python`."""

    installed: Installed
    python: str

    def image_path(self, path: str) -> str:
        """The path in the image of a path below the prefix."""
        site = self.installed.below
        if path.startswith(f"{site}/"):
            return f"{PREFIX}/{self.image_site}{path[len(site) :]}"
        headers = re.sub(r"\Ainclude/site/python[\d.]+t?/", f"include/python{self.python}/", path)
        return f"{PREFIX}/{headers}"

    @property
    def image_site(self) -> str:
        """Debian's Python looks for packages there (debian-python policy, "Module Path")."""
        return f"lib/python{self.python}/dist-packages"


def environment_entries(tree: Path, *, python: str) -> dict[str, list[Entry]]:
    """The entries of each installed distribution, by normalised name; both are sorted.

    `tree` is what `mlpkg.wheels.install.install_wheels` made; `python` is the image's (``3.13``). Packages
    go to ``usr/local/lib/python3.13/dist-packages``, scripts to ``usr/local/bin``. Nothing of the host
    (paths, times, byte code, installer's notes) gets in. A file that several distributions hold belongs
    to one of them (`mlpkg.wheels.installed.Claim.owner`); the RECORDs of the others do not list it.
    Contents are not read, but for scripts. Raises LockError for a file of no distribution.
    """
    installed = read_installed(tree)
    if installed is None:
        return {}
    claimed = claims(installed.distributions)
    _refuse_unclaimed(tree, claimed)
    layout = _Layout(installed, python)
    return {
        item.name: _distribution(
            layout, item.info, [row for row in item.rows if claimed[row.path].owner == item.name]
        )
        for item in installed.distributions
    }


def _refuse_unclaimed(tree: Path, claimed: Container[str]) -> None:
    for path in sorted(tree.rglob("*")):
        below = path.relative_to(tree).as_posix()
        if path.is_symlink():
            raise LockError(f"{below}: is a link; wheels hold none", hint="install the wheels again")
        if path.is_dir() or below in claimed or not ships(below) or below == ".lock":
            continue
        raise LockError(f"{below}: belongs to no installed package", hint="install the wheels again")


def _distribution(layout: _Layout, info: Path, rows: list[Row]) -> list[Entry]:
    scripts = _entry_points(info)
    below = info.relative_to(layout.installed.tree).as_posix()
    entries: list[Entry] = []
    lines: list[tuple[str, str, str]] = []
    for row in rows:
        if row.path == f"{below}/RECORD":
            continue
        entry = _entry(layout, row, scripts)
        entries.append(entry)
        lines.append((_relative(entry.path, layout), *_noted(entry, row)))
    record = layout.image_path(f"{below}/RECORD")
    lines.append((_relative(record, layout), "", ""))
    entries.append(Entry(record, content=Bytes(_csv(sorted(lines)))))
    return sorted(entries, key=lambda entry: entry.path)


def _entry(layout: _Layout, row: Row, scripts: Mapping[str, bytes]) -> Entry:
    path = layout.installed.tree / row.path
    try:
        status = path.lstat()
    except OSError as error:
        raise LockError(
            f"{row.path}: is missing from the environment", hint="install the wheels again"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise LockError(f"{row.path}: is no file", hint="install the wheels again")
    content: Content = SourceFile(path, status.st_size)
    mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    folder, _, name = row.path.rpartition("/")
    if folder == "bin":
        mode = 0o755
        content = _script(path, name, scripts) or content
    return Entry(layout.image_path(row.path), mode=mode, content=content)


def _script(path: Path, name: str, scripts: Mapping[str, bytes]) -> Bytes | None:
    """A script's content without the host's interpreter; None for programs and other scripts."""
    if name in scripts:
        return Bytes(scripts[name])
    with path.open("rb") as file:
        if not _PYTHON_LINE.match(file.read(_FIRST_LINES)):
            return None
    if path.stat().st_size > _SCRIPT_LIMIT:
        raise LockError(
            f"bin/{name}: a script of more than {_SCRIPT_LIMIT} bytes", hint="choose another version"
        )
    data = path.read_bytes()
    found = _PYTHON_LINE.match(data)
    return Bytes(f"#!{INTERPRETER}\n".encode() + data[found.end() :]) if found else None


def _entry_points(info: Path) -> dict[str, bytes]:
    """Our own scripts for a distribution's entry points (PyPA "Entry points specification")."""
    path = info / "entry_points.txt"
    if not path.is_file():
        return {}
    parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    try:
        parser.read_string(path.read_text("utf-8"))
    except (configparser.Error, UnicodeError) as error:
        raise LockError(f"{info.name}: its entry_points.txt cannot be read: {error}") from error
    return dict(_scripts(parser, info.name))


def _scripts(parser: configparser.RawConfigParser, owner: str) -> Iterator[tuple[str, bytes]]:
    for section in ("console_scripts", "gui_scripts"):
        for name, value in parser.items(section) if parser.has_section(section) else ():
            found = _ENTRY_POINT.match(value.strip())
            if not found:
                raise LockError(f"{owner}: its entry point {name} = {value!r} is none")
            module, function = found.groups()
            first = function.split(".", maxsplit=1)[0]
            text = _SCRIPT.format(interpreter=INTERPRETER, module=module, first=first, function=function)
            yield name, text.encode()


def _relative(path: str, layout: _Layout) -> str:
    """A path as RECORD writes it: relative to the packages' folder (PEP 376)."""
    root = f"{PREFIX}/{layout.image_site}/"
    if path.startswith(root):
        return path[len(root) :]
    return "../" * layout.image_site.count("/") + "../" + path.removeprefix(f"{PREFIX}/")


def _noted(entry: Entry, row: Row) -> tuple[str, str]:
    if not isinstance(entry.content, Bytes):
        return row.digest, row.size
    digest = base64.urlsafe_b64encode(hashlib.sha256(entry.content.data).digest()).rstrip(b"=").decode()
    return f"sha256={digest}", str(entry.size)


def _csv(lines: list[tuple[str, str, str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()
