"""Chooses one wheel for each package that is wanted, for a target. uv solves; what it chose is checked here."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mlpkg.digest import Digest
from mlpkg.errors import LockError
from mlpkg.lockfile import Wheel
from mlpkg.store.files import incoming_folder
from mlpkg.wheels.locked import checked_filename, checked_wheel
from mlpkg.wheels.requirements import Requirements
from mlpkg.wheels.sources import WheelSources
from mlpkg.wheels.target import Target
from mlpkg.wheels.uv import UvResult, run_uv

_NO_WHEEL = re.compile(r"([\w.-]+)(?:[=<>!~]+[^\s,]+,?)*(?: \([^)]*\))? has no (?:usable )?wheels")
_NO_WHEEL_HINT = re.compile(r"(?:Wheels are (?:required|available) for|only found wheels for) `([\w.-]+)`")


@dataclass(frozen=True, slots=True)
class _Question:
    """What uv is asked to choose, but for earlier choices."""

    requirements: Requirements
    runtime: tuple[str, ...]
    target: Target
    sources: WheelSources


def choose_wheels(
    requirements: Requirements,
    *,
    runtime: Sequence[str] = (),
    target: Target,
    sources: WheelSources,
    previous: Sequence[Wheel] = (),
) -> tuple[Wheel, ...]:
    """Choose one wheel for each package that `requirements` and the server's `runtime` need together.

    `previous` are kept where they still fit; give none to upgrade. The result is sorted by name.
    Raises LockError when nothing fits (with uv's reason), Unreachable when an index does not answer.
    """
    if not requirements.lines and not runtime:
        return ()
    from mlpkg.wheels.size import wheel_sizes  # noqa: PLC0415 - loads urllib3

    question = _Question(requirements, tuple(runtime), target, sources)
    with incoming_folder() as scratch:
        result = _compile(question, previous, scratch)
        if result.code:
            result.raise_for_service()
            raise _unsolvable(result.reason, question)
        kept = frozenset(wheel.digest for wheel in previous)
        with wheel_sizes(sources) as size_of:
            rows = _rows(scratch / "pylock.toml")
            chosen = [_locked(row, question, kept, size_of) for row in rows]
    return tuple(sorted(chosen, key=lambda wheel: wheel.name))


def _compile(question: _Question, previous: Sequence[Wheel], scratch: Path) -> UvResult:
    wanted = question.requirements
    (scratch / "requirements.in").write_text("\n".join([*wanted.lines, *question.runtime, ""]), "utf-8")
    (scratch / "constraints.in").write_text("\n".join([*wanted.constraints, ""]), "utf-8")
    if previous:
        (scratch / "pylock.toml").write_text(_preferences(previous), "utf-8")
    return run_uv(
        [
            "pip", "compile", "requirements.in", "--constraints", "constraints.in",
            "--output-file", "pylock.toml", "--format", "pylock.toml", "--quiet",
            "--only-binary", ":all:", "--no-header", "--no-annotate", "--no-sources",
            "--python", sys.executable, *question.target.uv_arguments(),
            *(["--prerelease", "allow"] if wanted.prereleases else []),
        ],
        folder=scratch,
        sources=question.sources,
    )  # fmt: skip


def _preferences(previous: Sequence[Wheel]) -> str:
    """What uv takes as its own output of an earlier run; name and version are enough for it."""
    rows = [
        f"[[packages]]\nname = {json.dumps(wheel.name)}\nversion = {json.dumps(wheel.version)}\n"
        for wheel in map(checked_wheel, previous)
    ]
    return "\n".join(['lock-version = "1.0"\ncreated-by = "mlpkg"\n', *rows])


def _rows(path: Path) -> list[Mapping[str, Any]]:
    import tomli  # noqa: PLC0415

    rows = tomli.loads(path.read_text("utf-8")).get("packages", [])
    return [row for row in rows if isinstance(row, dict)]


def _locked(
    row: Mapping[str, Any], question: _Question, kept: frozenset[Digest], size_of: Callable[[str], int]
) -> Wheel:
    """The one wheel of a pylock package to take: an earlier choice, else the best by tags."""
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    name, version = canonicalize_name(str(row.get("name", ""))), str(row.get("version", ""))
    found = [item for item in row.get("wheels", ()) if isinstance(item, dict)]
    if not found:
        raise LockError(
            f"{name} {version} has no wheel, only source",
            hint="choose another version, or build its wheel and name its folder in find_links under [python]",
        )
    allowed = question.requirements.hashes.get(name)
    ranked: list[tuple[bool, int, str, Digest, str]] = []
    for item in found:
        url = str(item.get("url") or item.get("path", ""))
        filename = checked_filename(unquote(urlsplit(url).path).rsplit("/", 1)[-1])
        digest = Digest("sha256:" + str(item.get("hashes", {}).get("sha256", "")))
        place = question.target.rank(filename)
        if place is not None and (allowed is None or digest in allowed):
            ranked.append((digest not in kept, place, filename, digest, url))
    if not ranked:
        raise LockError(
            f"no wheel of {name} {version} for {question.target} has a hash that the requirements file allows",
            hint="correct the hashes, or remove them: requirements.lock holds those that count",
        )
    _moved, _place, filename, digest, url = min(ranked)
    stated = next((item["size"] for item in found if item.get("url") == url and "size" in item), None)
    size = size_of(url) if stated is None else int(stated)
    return checked_wheel(Wheel(name, version, filename, size, digest))


def _unsolvable(reason: str, question: _Question) -> LockError:
    if "No solution found" not in reason:
        return LockError(f"uv cannot choose wheels:\n{reason}", hint="correct what it names and try again")
    if _solve_apart(question):
        return LockError(
            "the requirements do not go together with those of the server "
            f"({', '.join(sorted(question.runtime))}):\n{reason}",
            hint="widen or remove the requirement that is in the way; the server's own cannot be changed",
        )
    missing = _without_wheel(reason, [*question.requirements.lines, *question.runtime])
    if missing:
        return LockError(
            f"no wheel of {', '.join(missing)} for {question.target}:\n{reason}",
            hint="choose another version, build the wheel and name its folder in find_links under [python] in "
            "mlpkg.toml, or choose another base",
        )
    if "was not found in the" in reason:
        return LockError(
            f"a package is in none of the package sources:\n{reason}",
            hint="check its spelling, or set index (or find_links) under [python] in mlpkg.toml",
        )
    return LockError(
        f"no choice of versions fits {question.target}:\n{reason}", hint="widen one of these requirements"
    )


def _without_wheel(reason: str, asked: Sequence[str]) -> list[str]:
    """The packages that uv says have no wheel: those asked for by name, if it names any of them."""
    named = {*_NO_WHEEL.findall(reason), *_NO_WHEEL_HINT.findall(reason)}
    direct = named & {line.lower() for text in asked for line in re.findall(r"\A[\w.-]+", text)}
    return sorted(direct or named)


def _solve_apart(question: _Question) -> bool:
    """Whether the user's and the server's requirements can each be had, so that only together they cannot."""
    if not question.runtime or not question.requirements.lines:
        return False
    alone = (replace(question, runtime=()), replace(question, requirements=Requirements()))
    for part in alone:
        with incoming_folder() as scratch:
            if _compile(part, (), scratch).code:
                return False
    return True
