"""Named timer slots: a machine has one slot per reason to be woken, and can say which is next."""

from __future__ import annotations

from enum import Enum
from typing import Generic, TypeVar

from stack.core.machine import Instant

NameT = TypeVar("NameT", bound=Enum)


class Timers(Generic[NameT]):
    """A handful of named deadlines with the earliest at hand.

    `next` is O(1); setting and clearing are O(number of armed slots), which is a handful by design. Whoever
    needs a deadline per packet or per peer keeps a heap and arms one slot with its head.
    """

    __slots__ = ("_deadlines", "_next")

    def __init__(self) -> None:
        self._deadlines: dict[NameT, Instant] = {}
        self._next: Instant | None = None

    def set(self, name: NameT, at: Instant) -> None:
        """Arm (or re-arm) the slot `name` for the instant `at`."""
        self._deadlines[name] = at
        self._next = min(self._deadlines.values())

    def set_default(self, name: NameT, at: Instant) -> None:
        """Arm the slot `name` unless it is armed already."""
        if name not in self._deadlines:
            self.set(name, at)

    def clear(self, name: NameT) -> None:
        """Disarm the slot `name`; harmless if it is not armed."""
        if self._deadlines.pop(name, None) is not None:
            self._next = min(self._deadlines.values(), default=None)

    def clear_all(self) -> None:
        """Disarm every slot."""
        self._deadlines.clear()
        self._next = None

    def get(self, name: NameT) -> Instant | None:
        """Return when the slot `name` fires; None if it is not armed."""
        return self._deadlines.get(name)

    def is_set(self, name: NameT) -> bool:
        """Return True if the slot `name` is armed."""
        return name in self._deadlines

    @property
    def next(self) -> Instant | None:
        """The earliest deadline; None if nothing is armed."""
        return self._next

    def why(self) -> NameT | None:
        """Return the name of the slot that fires next."""
        return min(self._deadlines, key=self._deadlines.__getitem__, default=None)

    def pop_due(self, now: Instant) -> list[NameT]:
        """Disarm and return, earliest first, the slots whose deadline is not after `now`."""
        if self._next is None or self._next > now:
            return []
        due = sorted((at, index, name) for index, (name, at) in enumerate(self._deadlines.items()) if at <= now)
        for _, _, name in due:
            del self._deadlines[name]
        self._next = min(self._deadlines.values(), default=None)
        return [name for _, _, name in due]


def earliest(*deadlines: Instant | None) -> Instant | None:
    """Return the earliest of several deadlines, of which any may be None: never."""
    return min((at for at in deadlines if at is not None), default=None)
