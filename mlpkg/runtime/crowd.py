"""The open connections, and which of them makes room when there are too many.

A connection costs a client nothing to hold, so the ones that do nothing must never keep a new one from its answer:
an idle one is closed for it, and when every one is busy, the new one may still ask a probe.
"""

from __future__ import annotations

import resource
import time
from collections import OrderedDict
from enum import IntEnum
from typing import Final, Generic, Protocol, TypeVar

SPARE: Final = 64
"""Connections beyond the limit that are open for probes."""
_YOUNG: Final = 1.0
"""Seconds in which a new connection is expected to send something."""
_OTHER_FILES: Final = 64
"""Descriptors of the front that are no client's: listeners, workers, logs."""


class State(IntEnum):
    """What a connection does."""

    REFUSED = 0
    IDLE = 1
    RECEIVING = 2
    BUSY = 3


class Member(Protocol):
    """A connection, as far as its place among the others goes."""

    state: State
    since: float
    """When it was opened or had its last answer, a time of `monotonic` in seconds."""
    is_guest: bool
    """Whether it is beyond the limit: probes only."""

    def evict(self) -> None:
        """Close now: another needs the room."""


AnyMember = TypeVar("AnyMember", bound=Member)


class Crowd(Generic[AnyMember]):
    """The open connections, looked at only when there are too many: no request pays for it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.evicted = 0
        self._members: OrderedDict[AnyMember, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._members)

    def admit(self, member: AnyMember) -> bool:
        """Take a new connection, `is_guest` set where only probes are served. False: there is no room at all."""
        if len(self._members) >= self.limit and not self._make_room():
            if len(self._members) >= self.limit + SPARE:
                return False
            member.is_guest = True
        self._members[member] = None
        return True

    def leave(self, member: AnyMember) -> None:
        """The connection is closed."""
        self._members.pop(member, None)

    def members(self, *states: State) -> list[AnyMember]:
        """The connections in these states (all without any), as they are now."""
        return [member for member in self._members if not states or member.state in states]

    def _make_room(self) -> bool:
        """Close a connection that has been idle for a while, else the oldest that still sends, else the oldest idle."""
        now = time.monotonic()
        oldest: dict[State, AnyMember] = {}
        for _ in range(len(self._members)):
            member = next(iter(self._members))
            state = member.state
            if state is State.REFUSED or (state is State.IDLE and now - member.since > _YOUNG):
                return self._evict(member)
            if state not in oldest or member.since < oldest[state].since:
                oldest[state] = member
            self._members.move_to_end(member)  # the next search begins behind it
        victim = oldest.get(State.RECEIVING) or oldest.get(State.IDLE)
        return victim is not None and self._evict(victim)

    def _evict(self, member: AnyMember) -> bool:
        del self._members[member]
        self.evicted += 1
        member.evict()
        return True


def claim_descriptors(wanted: int) -> int:
    """Raise this process's soft limit of open files for so many connections; return how many it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    allowed = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(1, allowed - SPARE - _OTHER_FILES)
