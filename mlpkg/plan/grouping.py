"""Which layers share one when an image has no room for a layer each. Pure, and steady.

A layer's group follows from its own name alone, so that one more model, or one less, moves one group and not all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def grouped(names: Sequence[str], most: int) -> list[tuple[int, tuple[str, ...]]]:
    """All names in at most `most` numbered groups, in order; where they fit, each is a group by itself."""
    if len(names) <= most:
        return [(number, (name,)) for number, name in enumerate(sorted(names))]
    found: dict[int, list[str]] = {}
    for name in sorted(names):
        digest = hashlib.sha256(name.encode()).digest()
        found.setdefault(int.from_bytes(digest[:8], "big") % most, []).append(name)
    return [(number, tuple(found[number])) for number in sorted(found)]


def shares(large: int, small: int, room: int) -> tuple[int, int]:
    """How many layers `large` files and `small` rests may have in a `room` of at least two.

    Powers of two where they must share: the room changes with every heavy wheel, the groups then seldom do.
    """
    if large + small <= room:
        return large, small
    if large <= room // 2:
        return large, _power_of_two(room - large)
    if small <= room // 2:
        return _power_of_two(room - small), small
    return _power_of_two(room // 2), _power_of_two(room // 2)


def _power_of_two(most: int) -> int:
    """The largest power of two up to `most`, which is at least one."""
    return 1 << (most.bit_length() - 1)
