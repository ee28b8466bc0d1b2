"""The versions of everything mlpkg writes. Each moves when the same inputs would give other bytes.

They stand together because a run with nothing to do compares them all and must load none of the makers.
"""

from __future__ import annotations

RECORD = 2
"""Records below ``.mlpkg``."""

LOCK = 1
"""package.lock."""

PLAN = 2
"""plan.json, and what the planner decides."""

IMAGE = 1
"""The image value in a build's record."""

TAR = 1
"""The tar stream of a layer."""

DEBIAN = "debian/1"
"""What of a .deb goes into a layer, and where."""

WHEELS = "wheels/1"
"""What of a wheel goes into a layer, and where."""

BYTECODE = "bytecode/1"
"""Which sources are compiled, how, and where the results go."""


def layer_format(name: str, *, compiled: bool) -> str:
    """By which rules a locked layer is made; `compiled`: with .pyc files beside the sources."""
    if name in ("base", "system"):
        return f"tar/{TAR} {DEBIAN}"
    if name == "bytecode":
        return f"tar/{TAR} {BYTECODE}"
    return f"tar/{TAR} {WHEELS} {BYTECODE}" if compiled else f"tar/{TAR} {WHEELS}"


def is_current(name: str, form: str) -> bool:
    """Whether a locked layer was made by today's rules."""
    return form in (layer_format(name, compiled=True), layer_format(name, compiled=False))
