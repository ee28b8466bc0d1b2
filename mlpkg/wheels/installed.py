"""What is installed below a prefix: its distributions, their files, and whose a file is that several hold."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from mlpkg.errors import LockError

_RECORD_COLUMNS = 3
_SHOWN_PATHS = 3
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_BROKEN = "the wheel is broken: choose another version of it"

# Written by installers about the installation, not part of the wheel.
_NOTES = frozenset({"INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"})


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a RECORD: the path below the prefix, and what the line says of its bytes."""

    path: str
    digest: str
    size: str


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed distribution: normalised name, its dist-info folder, the files that ship."""

    name: str
    info: Path
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Installed:
    """A prefix with its packages' folder (``lib/python3.11/site-packages``) and distributions, by name."""

    tree: Path
    site: Path
    distributions: tuple[Distribution, ...]

    @property
    def below(self) -> str:
        """The packages' folder below the prefix."""
        return self.site.relative_to(self.tree).as_posix()


@dataclass(frozen=True, slots=True)
class Claim:
    """A file with the names of those that hold it, sorted, and whether their bytes are the same."""

    path: str
    holders: tuple[str, ...]
    same: bool

    @property
    def owner(self) -> str:
        """Whose file it is: the first by name where all hold the same bytes, else the last."""
        return self.holders[0 if self.same else -1]


def read_installed(tree: Path) -> Installed | None:
    """The distributions below a prefix; None where it has no packages' folder. Raises LockError."""
    # A virtual environment's lib64 is a link to its lib.
    roots = [path for path in sorted(tree.glob("lib*")) if not path.is_symlink()]
    sites = [path for root in roots for path in sorted(root.glob("python*/*-packages")) if path.is_dir()]
    if not sites:
        return None
    if len(sites) > 1:
        raise LockError(f"{tree}: packages lie in more than one folder", hint="install the wheels again")
    base = sites[0].relative_to(tree).parts
    found = [Distribution(_name(info), info, _rows(base, info)) for info in sites[0].glob("*.dist-info")]
    return Installed(tree, sites[0], tuple(sorted(found, key=lambda item: item.name)))


def claims(distributions: Iterable[Distribution]) -> dict[str, Claim]:
    """Who holds each file, by path. A file without a digest is taken to differ from all others."""
    held: dict[str, list[tuple[str, str]]] = {}
    for distribution in distributions:
        for row in distribution.rows:
            held.setdefault(row.path, []).append((distribution.name, row.digest))
    return {
        path: Claim(
            path,
            tuple(sorted(name for name, _digest in rows)),
            len(rows) == 1 or bool(rows[0][1] and len({digest for _name, digest in rows}) == 1),
        )
        for path, rows in held.items()
    }


def take_owners_files(tree: Path, install_alone: Callable[[str], Path]) -> list[str]:
    """Replace each file that several distributions hold by its owner's; say where bytes differ.

    An installer that works in parallel leaves any holder's bytes and mode. `install_alone` installs the
    distribution of that name below a prefix of its own, beside `tree`, and returns it.
    Raises LockError.
    """
    installed = read_installed(tree)
    if installed is None:
        return []
    shared = [claim for claim in claims(installed.distributions).values() if len(claim.holders) > 1]
    for owner, owned in groupby(sorted(shared, key=lambda claim: claim.owner), lambda claim: claim.owner):
        alone = install_alone(owner)
        for claim in owned:
            try:
                (alone / claim.path).replace(tree / claim.path)
            except OSError as error:
                raise LockError(
                    f"{owner} names {claim.path} among its files, but does not contain it",
                    hint=_BROKEN,
                ) from error
    return _notices([claim for claim in shared if not claim.same], f"{installed.below}/")


def _notices(clashes: list[Claim], site: str) -> list[str]:
    """One text for each group of distributions that clash."""
    notices: list[str] = []
    clashes = sorted(clashes, key=lambda claim: (claim.holders, claim.path))
    for holders, group in groupby(clashes, lambda claim: claim.holders):
        paths = [claim.path.removeprefix(site) for claim in group]
        more = len(paths) - _SHOWN_PATHS
        shown = ", ".join(paths[:_SHOWN_PATHS]) + (f" and {more} more" if more > 0 else "")
        names = f"{', '.join(holders[:-1])} and {holders[-1]}"
        notices.append(f"{names} hold different files of one name, {holders[-1]}'s are used: {shown}")
    return notices


def ships(path: str) -> bool:
    """Whether a file is of the wheel: byte code and installers' notes are not."""
    folders, _, name = path.rpartition("/")
    if folders.endswith(".dist-info") and name in _NOTES:
        return False
    return "__pycache__" not in folders.split("/")


def _name(info: Path) -> str:
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    return canonicalize_name(info.name.removesuffix(".dist-info").rsplit("-", 1)[0])


def _rows(base: tuple[str, ...], info: Path) -> tuple[Row, ...]:
    try:
        text = (info / "RECORD").read_text("utf-8")
    except UnicodeError as error:
        raise LockError(f"{info.name}: its RECORD is no text in UTF-8", hint=_BROKEN) from error
    except OSError as error:
        raise LockError(
            f"{info.name}: has no list of its files (RECORD)", hint="install the wheels again"
        ) from error
    try:
        lines = [line for line in csv.reader(io.StringIO(text)) if line]
    except csv.Error as error:
        raise LockError(f"{info.name}: its RECORD cannot be read: {error}", hint=_BROKEN) from error
    if any(len(line) != _RECORD_COLUMNS for line in lines):
        raise LockError(f"{info.name}: its RECORD is torn", hint="install the wheels again")
    found = (Row(_joined(base, path, info.name), digest, size) for path, digest, size in lines)
    # Some wheels name a file twice.
    return tuple({row.path: row for row in found if ships(row.path)}.values())


def _joined(base: tuple[str, ...], path: str, owner: str) -> str:
    """A RECORD's path, which is relative to the packages' folder, below the prefix."""
    parts = list(base)
    for part in path.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part in ("", ".", "..") or _CONTROL.search(part):
            raise LockError(
                f"{owner}: its RECORD names {path!r}, which leaves the environment or is no usual name",
                hint=_BROKEN,
            )
        else:
            parts.append(part)
    return "/".join(parts)
