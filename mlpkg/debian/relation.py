"""Dependency fields and Debian's version order (Debian Policy, chapter 7 and §5.6.12), read by python-debian."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from debian.deb822 import PkgRelation
    from debian.debian_support import Version

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9+.-]*")

_HOLDS: dict[str, Callable[[Any, Any], bool]] = {
    "<<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ">=": operator.ge,
    ">>": operator.gt,
    # The two single signs are obsolete and include equality (deb-control(5)).
    "<": operator.le,
    ">": operator.ge,
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
        """Whether a package of that version meets the condition. Raises ValueError for what is no version."""
        return not self.operator or _HOLDS[self.operator](parse_version(version), parse_version(self.version))


Alternatives = tuple[Relation, ...]


@lru_cache(maxsize=8192)
def parse_relations(field: str) -> tuple[Alternatives, ...]:
    """A field such as Depends: groups of alternatives, each of which must be met. Raises ValueError."""
    from debian.deb822 import PkgRelation  # noqa: PLC0415

    groups = (group for group in field.split(",") if group.strip())
    return tuple(tuple(map(_relation, PkgRelation.parse_relations(group)[0])) for group in groups)


def _relation(parsed: PkgRelation.ParsedRelation) -> Relation:
    name, (sign, version) = parsed["name"], parsed["version"] or ("", "")
    # The library hands back as a name what it cannot read. Restrictions belong to source packages.
    is_read = _NAME.fullmatch(name) and not (parsed["arch"] or parsed["restrictions"])
    if not is_read or (sign and sign not in _HOLDS):
        raise ValueError(f"not a package relation: {name!r}")
    if sign:
        parse_version(version)
    return Relation(name, sign, version)


@lru_cache(maxsize=8192)
def parse_version(version: str) -> Version:
    """A version that compares as Debian's do. Raises ValueError."""
    from debian.debian_support import Version  # noqa: PLC0415

    return Version(version)
