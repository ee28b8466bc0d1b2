"""The open connections, and which of them makes room when there are too many.

A connection costs a client nothing to hold, so the ones that do nothing must never keep a new one from its answer:
the longest idle one is closed for it, and when every one is busy, the new one may still ask a probe.
"""

from __future__ import annotations

import resource
from collections import OrderedDict
from enum import IntEnum
from typing import Final, Generic, Protocol, TypeVar

SPARE: Final = 64
"""Connections beyond the limit that are open for probes."""
_OTHER_FILES: Final = 64
"""Descriptors of the front that are no client's: listeners, workers, logs."""


class State(IntEnum):
    """What a connection does; the first ones make room first."""

    REFUSED = 0
    IDLE = 1
    RECEIVING = 2
    BUSY = 3


class Member(Protocol):
    """A connection, as far as its place among the others goes."""

    state: State
    is_guest: bool

    def evict(self) -> None:
        """Close now: another needs the room."""


AnyMember = TypeVar("AnyMember", bound=Member)


class Crowd(Generic[AnyMember]):
    """Open connections by what they do, each kind in the order in which it began to do so."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.evicted = 0
        self._lines: dict[State, OrderedDict[AnyMember, None]] = {state: OrderedDict() for state in State}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def admit(self, member: AnyMember) -> bool:
        """Take a new connection, `is_guest` set where only probes are served. False: there is no room at all."""
        size = len(self)
        if size >= self.limit and not self._make_room():
            if size >= self.limit + SPARE:
                return False
            member.is_guest = True
        self._lines[member.state][member] = None
        return True

    def move(self, member: AnyMember, state: State) -> None:
        """The connection does something else now."""
        line = self._lines[member.state]
        if member in line:
            del line[member]
            self._lines[state][member] = None
        member.state = state

    def leave(self, member: AnyMember) -> None:
        """The connection is closed."""
        self._lines[member.state].pop(member, None)

    def members(self, state: State | None = None) -> list[AnyMember]:
        """The connections in this state, or all, as they are now."""
        lines = self._lines.values() if state is None else (self._lines[state],)
        return [member for line in lines for member in line]

    def _make_room(self) -> bool:
        for state in (State.REFUSED, State.IDLE, State.RECEIVING):
            line = self._lines[state]
            if line:
                member, _ = line.popitem(last=False)
                self.evicted += 1
                member.evict()
                return True
        return False


def claim_descriptors(wanted: int) -> int:
    """Raise this process's soft limit of open files for so many connections; return how many it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    allowed = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(1, allowed - SPARE - _OTHER_FILES)
