"""A virtual environment of this machine with the locked versions, to serve without a container."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlpkg.digest import Digest, framed
from mlpkg.errors import LockError
from mlpkg.lockfile import Wheel
from mlpkg.platforms import platform_of
from mlpkg.store.files import incoming_folder
from mlpkg.wheels.install import raise_for_install
from mlpkg.wheels.installed import take_owners_files
from mlpkg.wheels.locked import requirements_text
from mlpkg.wheels.requirements import Requirements
from mlpkg.wheels.sources import WheelSources
from mlpkg.wheels.target import Target
from mlpkg.wheels.uv import run_uv

FORMAT = "host-environment/1"
MARKER = "mlpkg.json"

_OLDEST = (3, 9)
"""The oldest Python that the server runs on."""


@dataclass(frozen=True, slots=True)
class LockedEnvironment:
    """What a host's environment is made from: the lock's wheels, and what they were chosen for."""

    wheels: tuple[Wheel, ...]
    requirements: Requirements
    runtime: tuple[str, ...]
    target: Target


@dataclass(frozen=True, slots=True)
class _Interpreter:
    path: str
    version: str
    """Major and minor: ``3.13``."""


def host_environment(
    locked: LockedEnvironment,
    folder: Path,
    *,
    sources: WheelSources,
    notice: Callable[[str], None],
) -> Path:
    """The Python of ``<folder>/venv``, made anew only when what it is made from has changed.

    Where this machine is like the image, it holds the locked wheels themselves; elsewhere wheels of
    the locked versions are chosen for it, with their hashes kept in ``<folder>/venv.lock``. The image's
    Python is preferred, then the running one, then any other; `notice` is told when it is another, and
    of files that several wheels hold differently: the same one wins as in the image.
    Raises LockError when no Python here can have the locked versions, Unreachable, DigestMismatch.
    """
    venv = folder / "venv"
    inputs = _inputs(locked)
    if _made_from(venv) == inputs and _python_of(venv).exists():
        return _python_of(venv)
    with incoming_folder(folder) as scratch:
        interpreter, pins = _resolved(locked, scratch, sources)
        if interpreter.version != locked.target.python:
            notice(
                f"the image has Python {locked.target.python}; here the locked versions "
                f"run on Python {interpreter.version}"
            )
        for text in _make(scratch, interpreter, sources, pins):
            notice(text)
        marker = {"format": FORMAT, "inputs": inputs, "python": interpreter.version}
        (scratch / "venv" / MARKER).write_text(json.dumps(marker), "utf-8")
        if venv.exists():
            venv.replace(scratch / "old")
        (scratch / "venv.lock").replace(folder / "venv.lock")
        (scratch / "venv").replace(venv)
    return _python_of(venv)


def _inputs(locked: LockedEnvironment) -> Digest:
    return framed(
        [
            FORMAT, str(locked.target), requirements_text(locked.wheels),
            "\n".join(locked.requirements.lines), "\n".join(locked.requirements.constraints),
            "\n".join(locked.runtime), sys.executable, sys.version, platform.machine(),
        ]
    )  # fmt: skip


def _made_from(venv: Path) -> str | None:
    try:
        marker = json.loads((venv / MARKER).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return marker.get("inputs") if isinstance(marker, dict) else None


def _python_of(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _resolved(locked: LockedEnvironment, scratch: Path, sources: WheelSources) -> tuple[_Interpreter, str]:
    """The first Python here that can have the locked versions, and its hash-checked requirements."""
    failures: list[str] = []
    for interpreter in _interpreters(locked.target.python, scratch, sources):
        if _is_like_target(locked, interpreter):
            return interpreter, requirements_text(locked.wheels)
        pins, reason = _pins(locked, interpreter, scratch, sources)
        if pins is not None:
            return interpreter, pins
        failures.append(f"with Python {interpreter.version}:\n{reason}")
    raise LockError(
        "\n".join(["no Python on this machine can have the locked versions", *failures]),
        hint=f"install Python {locked.target.python}, or run the image with mlpkg run",
    )


def _interpreters(wanted: str, scratch: Path, sources: WheelSources) -> Iterator[_Interpreter]:
    """The Pythons to try: the wanted version, the running one, then the newest of each other version."""
    running = _Interpreter(sys.executable, f"{sys.version_info.major}.{sys.version_info.minor}")
    if running.version == wanted:
        yield running
        return
    kept = _pyenv_versions()
    yield from (item for item in kept if item.version == wanted)
    found = _found_by_uv(scratch, sources)
    yield from (item for item in found if item.version == wanted)
    yield running
    known = {wanted, running.version}
    for item in sorted((*found, *kept), key=lambda item: _numbers(item.version), reverse=True):
        if item.version not in known:
            known.add(item.version)
            yield item


def _found_by_uv(scratch: Path, sources: WheelSources) -> list[_Interpreter]:
    """CPythons of uv's own and on the PATH."""
    result = run_uv(
        ["python", "list", "--only-installed", "--output-format", "json"], folder=scratch, sources=sources
    )
    try:
        rows = json.loads(result.output) if not result.code else []
    except ValueError:
        rows = []
    found = (
        _Interpreter(str(row["path"]), f"{row['version_parts']['major']}.{row['version_parts']['minor']}")
        for row in rows
        if row.get("implementation") == "cpython" and row.get("path") and row.get("variant") == "default"
    )
    return [item for item in found if _numbers(item.version) >= _OLDEST]


def _pyenv_versions() -> list[_Interpreter]:
    """CPythons that pyenv keeps, newest first. Its shims are not run: they take long and show only one."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [
        (_numbers(path.parent.parent.name), path)
        for path in root.glob("[0-9]*/bin/python3")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.parent.name)
    ]
    return [
        _Interpreter(str(path), f"{numbers[0]}.{numbers[1]}")
        for numbers, path in sorted(found, reverse=True)
        if numbers >= _OLDEST
    ]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _is_like_target(locked: LockedEnvironment, interpreter: _Interpreter) -> bool:
    """Whether the locked wheels themselves fit this machine."""
    library, glibc = platform.libc_ver()
    here = platform_of(platform.system(), platform.machine())
    if library != "glibc" or here is None:
        return False
    target = Target(interpreter.version, here.name, glibc)
    if (target.python, target.platform) != (locked.target.python, locked.target.platform):
        return False
    return all(target.rank(wheel.filename) is not None for wheel in locked.wheels)


def _pins(
    locked: LockedEnvironment,
    interpreter: _Interpreter,
    scratch: Path,
    sources: WheelSources,
) -> tuple[str | None, str]:
    """Requirements with hashes for this machine at the locked versions, or the reason why not."""
    wanted = [*locked.requirements.lines, *locked.runtime, ""]
    versions = [f"{wheel.name}=={wheel.version}" for wheel in locked.wheels]
    (scratch / "requirements.in").write_text("\n".join(wanted), "utf-8")
    (scratch / "constraints.in").write_text("\n".join([*versions, ""]), "utf-8")
    result = run_uv(
        [
            "pip", "compile", "requirements.in", "--constraints", "constraints.in", "--quiet",
            "--output-file", "pins.txt", "--format", "requirements.txt", "--generate-hashes",
            "--only-binary", ":all:", "--no-header", "--no-annotate", "--no-sources",
            "--prerelease", "allow" if _has_prerelease(locked) else "if-necessary-or-explicit",
            "--python", interpreter.path,
        ],
        folder=scratch,
        sources=sources,
    )  # fmt: skip
    if result.code:
        result.raise_for_service()
        return None, result.reason
    header = (
        f"# Made by mlpkg: the versions of package.lock for Python {interpreter.version} of this machine.\n"
    )
    return header + (scratch / "pins.txt").read_text("utf-8"), ""


def _has_prerelease(locked: LockedEnvironment) -> bool:
    from packaging.version import Version  # noqa: PLC0415

    return any(Version(wheel.version).is_prerelease for wheel in locked.wheels)


def _make(scratch: Path, interpreter: _Interpreter, sources: WheelSources, pins: str) -> list[str]:
    """The environment ``<scratch>/venv`` with the pinned wheels; what is to be told of them."""

    def install_alone(name: str) -> Path:
        return _make_one(scratch / "alone" / name, interpreter, sources, _pins_of(pins, name))

    made = _make_one(scratch, interpreter, sources, pins)
    return take_owners_files(made, install_alone)


def _make_one(folder: Path, interpreter: _Interpreter, sources: WheelSources, pins: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "venv.lock").write_text(pins, "utf-8")
    # Relocatable: it is made aside and renamed, and its scripts would name the old place.
    made = run_uv(
        ["venv", "--quiet", "--relocatable", "--no-project", "--python", interpreter.path, "venv"],
        folder=folder,
        sources=sources,
    )
    if made.code:
        raise LockError(f"no environment can be made with {interpreter.path}:\n{made.reason}")
    if "==" in pins:
        result = run_uv(
            [
                "pip", "install", "--quiet", "--python", str(_python_of(folder / "venv")), "--no-deps",
                "--require-hashes", "--only-binary", ":all:", "--no-sources", "--requirements", "venv.lock",
            ],
            folder=folder,
            sources=sources,
        )  # fmt: skip
        raise_for_install(result, f"Python {interpreter.version} of this machine")
    return folder / "venv"


def _pins_of(pins: str, name: str) -> str:
    """The requirement of one distribution, with its hashes, which stand in indented lines."""
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    return "".join(
        part
        for part in re.split(r"^(?=\S)", pins, flags=re.MULTILINE)
        if canonicalize_name(part.partition("==")[0]) == name
    )
