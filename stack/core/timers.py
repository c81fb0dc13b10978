"""Named timer slots: a machine has one slot per reason to be woken, and can say which is next.

A machine that contains others has one slot for each of them, too: after every input it sets the slots of those
that took part to what they say, and asks no other part.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Generic, TypeVar

from stack.core.machine import Instant


class TimerName(Enum):
    """The base of a machine's timer names.

    Members are single objects, so identity hashes them; `Enum` would run Python code at every look-up.
    """

    __hash__ = object.__hash__


NameT = TypeVar("NameT", bound=Enum)

RETRY = 0.1
"""Seconds until a slot fires again whose handler has raised."""


class Timers(Generic[NameT]):
    """A handful of named deadlines with the earliest at hand.

    `next` is the earliest deadline, None if nothing is armed; read it, never write it. Setting and clearing are
    O(number of armed slots), which is a handful by design. A machine that needs a deadline per packet or per peer
    keeps a heap and arms one slot with its head.
    """

    __slots__ = ("_deadlines", "next")

    def __init__(self) -> None:
        self._deadlines: dict[NameT, Instant] = {}
        self.next: Instant | None = None

    def set(self, name: NameT, at: Instant | None) -> None:
        """Arm (or re-arm) the slot `name` for the instant `at`; None disarms it."""
        deadlines = self._deadlines
        if at is None:
            if deadlines.pop(name, None) is not None:
                self.next = min(deadlines.values(), default=None)
        elif (former := deadlines.get(name)) != at:
            deadlines[name] = at
            if self.next is None or at < self.next:
                self.next = at
            elif former == self.next:  # it may have been the earliest
                self.next = min(deadlines.values())

    def set_default(self, name: NameT, at: Instant) -> None:
        """Arm the slot `name` unless it is armed already."""
        if name not in self._deadlines:
            self.set(name, at)

    def clear(self, name: NameT) -> None:
        """Disarm the slot `name`; harmless if it is not armed."""
        if self._deadlines.pop(name, None) is not None:
            self.next = min(self._deadlines.values(), default=None)

    def clear_all(self) -> None:
        """Disarm every slot."""
        self._deadlines.clear()
        self.next = None

    def get(self, name: NameT) -> Instant | None:
        """Return when the slot `name` fires; None if it is not armed."""
        return self._deadlines.get(name)

    def is_set(self, name: NameT) -> bool:
        """Return True if the slot `name` is armed."""
        return name in self._deadlines

    def why(self) -> NameT | None:
        """Return the name of the slot that fires next."""
        return min(self._deadlines, key=self._deadlines.__getitem__, default=None)

    def pop_due(self, now: Instant) -> list[NameT]:
        """Disarm and return, earliest first, the slots whose deadline is not after `now`."""
        if self.next is None or self.next > now:
            return []
        due: list[tuple[Instant, int, NameT]] = []
        for name, at in self._deadlines.items():
            if at <= now:
                due.append((at, len(due), name))
        due.sort()
        names = []
        for _, _, name in due:
            names.append(name)
            del self._deadlines[name]
        self.next = min(self._deadlines.values(), default=None)
        return names

    def fire(self, now: Instant, handle: Callable[[NameT, Instant], object]) -> None:
        """Disarm the slots that are due and hand each to `handle(name, now)`, earliest first.

        What `handle` raises is raised, and costs no timer: its slot is armed again for `RETRY` seconds later and
        those behind it for now, unless they have been armed meanwhile.
        """
        due = self.pop_due(now)
        try:
            while due:
                handle(due[0], now)
                del due[0]
        finally:
            if due:
                self.set_default(due[0], now + RETRY)
                for name in due[1:]:
                    self.set_default(name, now)


def earliest(*deadlines: Instant | None) -> Instant | None:
    """Return the earliest of several deadlines, of which any may be None: never."""
    return min((at for at in deadlines if at is not None), default=None)
