"""What wheels must run on, and which of them fit (PEP 425, PEP 600)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from mlpkg.errors import LockError
from mlpkg.platforms import PLATFORMS

if TYPE_CHECKING:
    from packaging.tags import Tag

_UV_GLIBC = (17, 28, *range(31, 41))
"""The minor versions for which uv has a manylinux platform (uv 0.13, ``--python-platform``)."""


@dataclass(frozen=True, slots=True)
class Target:
    """What wheels must run on: Python (``3.13``), platform (``linux/amd64``), glibc (``2.41``)."""

    python: str
    platform: str
    glibc: str

    def __str__(self) -> str:
        return f"{self.platform}, Python {self.python}, glibc {self.glibc}"

    def uv_arguments(self) -> list[str]:
        """Uv's options for this target. Raises LockError for a platform that has no wheels."""
        machine, minor = self._machine(), self._glibc_minor()
        fitting = [known for known in _UV_GLIBC if known <= minor]
        if not fitting:
            raise LockError(f"glibc {self.glibc} is older than any wheel's", hint="choose a newer base")
        platform = f"{machine}-manylinux_2_{fitting[-1]}"
        return ["--python-version", self.python, "--python-platform", platform]

    def rank(self, filename: str) -> int | None:
        """The place of a wheel in the order of preference (0 is best); None when it does not fit."""
        from packaging.utils import parse_wheel_filename  # noqa: PLC0415

        order = _tag_order(self)
        return min((order[tag] for tag in parse_wheel_filename(filename)[3] if tag in order), default=None)

    def _machine(self) -> str:
        try:
            return PLATFORMS[self.platform].machine
        except KeyError:
            known = ", ".join(PLATFORMS)
            raise LockError(f"no wheels for the platform {self.platform!r}", hint=f"known: {known}") from None

    def _glibc_minor(self) -> int:
        found = re.fullmatch(r"2\.(\d+)", self.glibc)
        if not found:
            raise LockError(f"not a version of glibc: {self.glibc!r}", hint="it looks like 2.41")
        return int(found[1])

    def platforms(self) -> list[str]:
        """PEP 600 platforms, newest first, with the older names of three of them."""
        machine = self._machine()
        older = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
        names: list[str] = []
        for minor in range(self._glibc_minor(), 4, -1):
            names.append(f"manylinux_2_{minor}_{machine}")
            if minor in older:
                names.append(f"{older[minor]}_{machine}")
        return [*names, f"linux_{machine}"]


@cache
def _tag_order(target: Target) -> dict[Tag, int]:
    """The tags that a target takes, each with its place (PEP 425, PEP 600)."""
    from packaging.tags import compatible_tags, cpython_tags  # noqa: PLC0415

    major, minor = (int(part) for part in target.python.split("."))
    platforms = target.platforms()
    own = cpython_tags((major, minor), platforms=platforms)
    any_abi = compatible_tags((major, minor), f"cp{major}{minor}", platforms)
    return {tag: place for place, tag in enumerate((*own, *any_abi))}
