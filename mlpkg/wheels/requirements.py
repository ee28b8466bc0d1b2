"""Reads requirements files (pip's "Requirements File Format") into one checked value; chooses nothing."""

from __future__ import annotations

import codecs
import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from mlpkg.digest import Digest, parse_digest
from mlpkg.errors import LockError, Problem

if TYPE_CHECKING:
    from packaging.requirements import Requirement

LARGEST = 16 << 20
"""Bytes of a requirements file; more is a mistake."""

_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_COMMENT = re.compile(r"(^|\s+)#.*$")
_HASH = re.compile(r"\s--hash[= ]\s*(\S+)")
_HARMLESS = {"--prefer-binary", "--require-hashes", "--only-binary", "--use-feature"}
_SHORT = {
    "-r": "--requirement",
    "-c": "--constraint",
    "-i": "--index-url",
    "-f": "--find-links",
    "-e": "--editable",
}
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True, slots=True)
class Requirements:
    """What one requirements file asks for, with all files that it includes.

    `lines` and `constraints` are PEP 508 requirements without hashes; `hashes` holds the digests that
    the user allows, by normalised name. `files` are the file itself and those it includes by ``-r`` and
    ``-c``, absolute, in the order they are met. Addresses may carry credentials: they are not shown.
    """

    lines: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    hashes: Mapping[str, frozenset[Digest]] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    index: str | None = field(default=None, repr=False)
    extra_indexes: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    insecure_hosts: tuple[str, ...] = field(default=(), repr=False)
    prereleases: bool = False


def read_requirements(
    source: Path | Sequence[str] | None,
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    shown: str = "",
) -> Requirements:
    """Read a requirements file (or lines of one) of the package in `folder`, which messages call `shown`.

    ``${NAME}`` is replaced from `environment` (default: the process's), as pip does. Raises LockError
    with all that is wrong: a file outside `folder`, requirements that are paths, addresses or version
    control, options that wheels cannot honour, and lines that are no requirement.
    """
    reader = _read(source, folder, environment, shown)
    if reader.problems:
        count = "1 problem" if len(reader.problems) == 1 else f"{len(reader.problems)} problems"
        raise LockError(
            "\n".join([f"{count} in the requirements:", *(f"  {problem}" for problem in reader.problems)])
        )
    return reader.result()


def requirement_problems(path: Path, *, folder: Path, shown: str) -> tuple[Problem, ...]:
    """All that is wrong with a requirements file and those it includes, each with its file and line."""
    return tuple(_read(path, folder, None, shown).problems)


def requirement_inputs(path: Path, *, folder: Path, shown: str = "") -> tuple[Path, ...]:
    """The requirements file and all files it includes: what a lock was made from. Raises LockError."""
    return read_requirements(path, folder=folder, shown=shown).files


def _read(
    source: Path | Sequence[str] | None, folder: Path, environment: Mapping[str, str] | None, shown: str
) -> _Reader:
    reader = _Reader(folder.resolve(), os.environ if environment is None else environment, shown)
    if isinstance(source, Path):
        reader.include(folder / source, "--requirement", None)
    elif source:
        reader.take_all(source, reader.folder / "requirements", "--requirement")
    return reader


class _Place(NamedTuple):
    """A line of a file, as messages show it."""

    file: str
    line: int | None = None

    def problem(self, message: str) -> Problem:
        return Problem(self.file, "", message, line=self.line)


class _Reader:
    """Gathers over several files what one `Requirements` will hold."""

    def __init__(self, folder: Path, environment: Mapping[str, str], name: str) -> None:
        self.folder = folder
        self.name = name
        self.environment = environment
        self.problems: list[Problem] = []
        self.seen: dict[tuple[Path, str], None] = {}
        self.lines: dict[str, list[str]] = {"--requirement": [], "--constraint": []}
        self.hashes: dict[str, set[Digest]] = {}
        self.options: dict[str, list[str]] = {}

    def result(self) -> Requirements:
        options = self.options
        index = options.get("--index-url", [None])[-1]
        return Requirements(
            lines=tuple(self.lines["--requirement"]),
            constraints=tuple(self.lines["--constraint"]),
            hashes={name: frozenset(digests) for name, digests in self.hashes.items()},
            files=tuple(dict.fromkeys(path for path, _kind in self.seen)),
            index="" if "--no-index" in options else index,
            extra_indexes=tuple(options.get("--extra-index-url", ())),
            find_links=tuple(options.get("--find-links", ())),
            insecure_hosts=tuple(options.get("--trusted-host", ())),
            prereleases="--pre" in options,
        )

    def include(self, path: Path, kind: str, where: _Place | None) -> None:
        path = path.resolve()
        if (path, kind) in self.seen:
            return
        place = where or _Place(self.shown(path))
        if not path.is_relative_to(self.folder):
            self.problems.append(place.problem("lies outside the package's folder; move it inside"))
            return
        try:
            lines = _decoded(_bounded(path)).splitlines()
        except OSError as error:
            self.problems.append(place.problem(f"{self.shown(path)} cannot be read: {error.strerror}"))
        except UnicodeError:
            self.problems.append(_Place(self.shown(path)).problem("not a text in UTF-8; save it as UTF-8"))
        else:
            self.seen[path, kind] = None
            self.take_all(lines, path, kind)

    def shown(self, path: Path) -> str:
        if not path.is_relative_to(self.folder):
            return path.name
        return str(PurePosixPath(self.name, path.relative_to(self.folder).as_posix()))

    def take_all(self, lines: Sequence[str], path: Path, kind: str) -> None:
        for number, line in _logical_lines(lines):
            text = _VARIABLE.sub(lambda found: self.environment.get(found[1], found[0]), line)
            where = _Place(self.shown(path), number)
            if text.startswith("-"):
                self.take_option(text, path, where)
            else:
                self.take_requirement(text, kind, where)

    def take_option(self, text: str, path: Path, where: _Place) -> None:
        name, _, value = (
            text.partition("=")
            if text.startswith("--") and "=" in text.split(maxsplit=1)[0]
            else ("", "", "")
        )
        if not name:
            name, _, value = text.partition(" ")
        if name[:2] in _SHORT and not name.startswith("--"):
            name, value = _SHORT[name[:2]], name[2:] + value
        value = value.strip().strip("'\"")
        if name in ("--requirement", "--constraint"):
            self.take_include(name, value, path, where)
        elif name == "--find-links":
            self.options.setdefault(name, []).append(value if "://" in value else str(path.parent / value))
        elif name in ("--index-url", "--extra-index-url", "--trusted-host", "--no-index", "--pre"):
            self.options.setdefault(name, []).append(value)
        elif name == "--editable":
            self.problems.append(where.problem(f"an editable requirement cannot ship; {_SHIP}"))
        elif name not in _HARMLESS:
            self.problems.append(where.problem(f"the option {name} is not supported; remove it"))

    def take_include(self, name: str, value: str, path: Path, where: _Place) -> None:
        if "://" in value:
            self.problems.append(
                where.problem(f"{name} from an address is not locked; copy the file beside this one")
            )
        else:
            self.include(path.parent / value, name, where)

    def take_requirement(self, text: str, kind: str, where: _Place) -> None:
        from packaging.requirements import InvalidRequirement  # noqa: PLC0415
        from packaging.utils import canonicalize_name  # noqa: PLC0415

        hashes = _HASH.findall(text)
        bare = _HASH.sub("", text).strip()
        if reason := _unlockable(bare):
            self.problems.append(where.problem(f"{reason}; {_SHIP}"))
            return
        try:
            requirement = _parsed(bare)
        except InvalidRequirement as error:
            self.problems.append(
                where.problem(f"{bare!r} is not a requirement: {str(error).splitlines()[0]}")
            )
            return
        if requirement.url:
            self.problems.append(where.problem(f"{requirement.name} is given by an address or path; {_SHIP}"))
            return
        self.lines[kind].append(str(requirement))
        allowed = [digest for value in hashes if (digest := _sha256(value))]
        if hashes and not allowed:
            self.problems.append(
                where.problem(f"{requirement.name} has no sha256 hash; add one or remove the others")
            )
        if allowed:
            self.hashes.setdefault(canonicalize_name(requirement.name), set()).update(allowed)


_SHIP = (
    "write name==version, and for code of your own put its wheel into a folder named by find_links "
    "under [python] in mlpkg.toml"
)


def _parsed(text: str) -> Requirement:
    from packaging.requirements import Requirement  # noqa: PLC0415

    return Requirement(text)


def _unlockable(text: str) -> str:
    """Why a line that is no name cannot be locked; empty for all others. Shows no address."""
    first = text.split(" @ ", maxsplit=1)[0] if " @ " in text else text.split(";", maxsplit=1)[0]
    first = first.strip()
    if re.match(r"(git|hg|svn|bzr)\+", first):
        return "a requirement from version control has no wheel to lock"
    if "://" in first:
        return "a requirement given by its address is not locked"
    if first.startswith((".", "/", "~")) or first.endswith((".whl", ".tar.gz", ".zip")) or "\\" in first:
        return f"{first!r} is a path, not a name"
    return ""


def _sha256(value: str) -> Digest | None:
    try:
        return parse_digest(value.lower())
    except ValueError:
        return None


def _bounded(path: Path) -> bytes:
    """A regular file's bytes. Raises OSError, also for a pipe, a device, and more than `LARGEST` bytes."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise OSError(errno.EFBIG, f"it is larger than {LARGEST} bytes")
    return data


def _decoded(data: bytes) -> str:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding)
    return data.decode("utf-8")


def _logical_lines(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Lines joined over a trailing backslash, without comments, with the number of their first line."""
    parts: list[str] = []
    start = 1
    for number, line in enumerate(lines, 1):
        start = start if parts else number
        comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not comment:
            parts.append(line[:-1])
            continue
        parts.append("" if comment else line)
        text = _COMMENT.sub("", "".join(parts)).strip()
        parts = []
        if text:
            yield start, text
    if text := _COMMENT.sub("", "".join(parts)).strip():
        yield start, text
