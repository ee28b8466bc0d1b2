"""Dependency fields and Debian's version order (Debian Policy, chapter 7 and §5.6.12)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cmp_to_key, lru_cache
from typing import Any

_RELATION = re.compile(
    r"\s*(?P<name>[a-zA-Z0-9][a-zA-Z0-9+.-]*)(?::[a-z0-9-]+)?"
    r"(?:\s*\(\s*(?P<operator><<|<=|=|>=|>>|<|>)\s*(?P<version>[^\s)]+)\s*\))?\s*"
)

_HOLDS: dict[str, Callable[[int], bool]] = {
    "<<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    "=": lambda order: order == 0,
    ">=": lambda order: order >= 0,
    ">>": lambda order: order > 0,
    # The two single signs are obsolete and include equality (deb-control(5)).
    "<": lambda order: order <= 0,
    ">": lambda order: order >= 0,
}


@dataclass(frozen=True, slots=True)
class Relation:
    """One package name with an optional condition on its version, for example ``libc6 (>= 2.36)``."""

    name: str
    operator: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.operator} {self.version})" if self.operator else self.name

    def allows(self, version: str) -> bool:
        """Whether a package of that version meets the condition."""
        return not self.operator or _HOLDS[self.operator](compare_versions(version, self.version))


Alternatives = tuple[Relation, ...]


@lru_cache(maxsize=8192)
def parse_relations(field: str) -> tuple[Alternatives, ...]:
    """A field such as Depends: groups of alternatives, each of which must be met. Raises ValueError."""
    groups = (group for group in field.split(",") if group.strip())
    return tuple(tuple(_relation(text) for text in group.split("|")) for group in groups)


def _relation(text: str) -> Relation:
    match = _RELATION.fullmatch(text)
    if not match:
        raise ValueError(f"not a package relation: {text.strip()!r}")
    return Relation(match["name"], match["operator"] or "", match["version"] or "")


@lru_cache(maxsize=8192)
def compare_versions(left: str, right: str) -> int:
    """Below 0, 0 or above 0, as `left` is older than, as old as, or newer than `right`."""
    if left == right:
        return 0
    from debian.debian_support import version_compare  # noqa: PLC0415

    return int(version_compare(left, right))


version_key: Callable[[str], Any] = cmp_to_key(compare_versions)
"""Sorts version strings from old to new."""
