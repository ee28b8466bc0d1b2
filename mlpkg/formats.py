"""The versions of everything mlpkg writes. Each moves when the same inputs would give other bytes.

They stand together because a run with nothing to do compares them all and must load none of the makers.
"""

from __future__ import annotations

RECORD = 1
"""Records below ``.mlpkg``."""

LOCK = 1
"""package.lock."""

PLAN = 1
"""plan.json, and what the planner decides."""

TAR = 1
"""The tar stream of a layer."""

DEBIAN = "debian/1"
"""What of a .deb goes into a layer, and where."""

WHEELS = "wheels/1"
"""What of a wheel goes into a layer, and where."""


def layer_formats() -> dict[str, str]:
    """By which rules each kind of locked layer is made; part of what decides whether a lock fits."""
    return {"debian": f"tar/{TAR} {DEBIAN}", "wheels": f"tar/{TAR} {WHEELS}"}
