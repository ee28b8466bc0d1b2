"""Locked wheels: what they must look like, requirements.lock, and which have a layer of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mlpkg import names
from mlpkg.digest import parse_digest
from mlpkg.errors import LockError
from mlpkg.lockfile import Wheel

HEAVY = 16 << 20
"""Bytes from which a wheel has a layer of its own: few wheels reach it, and those fill the image."""


def requirements_text(wheels: Sequence[Wheel]) -> str:
    """requirements.lock: pip's hash-checked format, sorted by name, naming no host."""
    lines = ["# Made by mlpkg; `mlpkg lock` writes it anew. The wheels of package.lock in pip's format."]
    for wheel in sorted(map(checked_wheel, wheels), key=lambda item: item.name):
        lines += [f"{wheel.name}=={wheel.version} \\", f"    --hash={wheel.digest}"]
    return "\n".join(lines) + "\n"


def heavy(wheel: Wheel) -> bool:
    """Whether a wheel has a layer of its own."""
    return wheel.size >= HEAVY


MOST_HEAVY = 64
"""Heavy wheels with a layer of their own: an image has room for 120 layers (`mlpkg.plan.plan.MAX_LAYERS`)."""


def own_layers(wheels: Iterable[Wheel]) -> frozenset[str]:
    """Names of the wheels that have a layer of their own: the heavy ones, the largest where they are too many."""
    found = sorted((wheel for wheel in wheels if heavy(wheel)), key=lambda wheel: (-wheel.size, wheel.name))
    return frozenset(wheel.name for wheel in found[:MOST_HEAVY])


def checked_wheel(wheel: Wheel) -> Wheel:
    """A wheel whose parts are fit to stand in a requirements file. Raises LockError."""
    from packaging.utils import canonicalize_name  # noqa: PLC0415
    from packaging.version import InvalidVersion, Version  # noqa: PLC0415

    try:
        Version(wheel.version)
        parse_digest(wheel.digest)
    except (InvalidVersion, ValueError) as error:
        raise LockError(f"the lock misstates {wheel.name!r}: {error}", hint="run mlpkg lock") from error
    if not re.fullmatch(names.PYTHON_PACKAGE, wheel.name) or canonicalize_name(wheel.name) != wheel.name:
        raise LockError(
            f"the lock has a name that is no normalised one: {wheel.name!r}", hint="run mlpkg lock"
        )
    checked_filename(wheel.filename)
    return wheel


def checked_filename(filename: str) -> str:
    """A wheel's file name that is fit to stand in a path. Raises LockError."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename  # noqa: PLC0415

    if not re.fullmatch(r"[\w.!+-]+\.whl", filename, re.ASCII):
        raise LockError(f"not the file name of a wheel: {filename!r}")
    try:
        parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        raise LockError(f"not the file name of a wheel: {filename!r}") from error
    return filename
