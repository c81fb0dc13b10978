"""A clock that stands still until it is moved, and a list of what is to happen when."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from stack.core.machine import Instant

Action = Callable[[], None]

START: Instant = 1000.0
"""When every simulation begins: not at 0, because code that takes 0 for "never" should be found out."""


class VirtualClock:
    """Time as a number; it never goes back."""

    __slots__ = ("_now",)

    def __init__(self, start: Instant = START) -> None:
        self._now = start

    @property
    def now(self) -> Instant:
        """The present instant."""
        return self._now

    def advance_to(self, instant: Instant) -> None:
        """Let time pass until `instant`; an instant in the past changes nothing."""
        self._now = max(self._now, instant)


class Agenda:
    """Actions by the instant at which they are due; those of one instant in the order in which they were added."""

    __slots__ = ("_heap", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[Instant, int, Action]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, at: Instant, action: Action) -> None:
        """Have `action` done at the instant `at`."""
        heappush(self._heap, (at, next(self._order), action))

    @property
    def next(self) -> Instant | None:
        """When the first action is due; None if there is none."""
        return self._heap[0][0] if self._heap else None

    def pop(self) -> Action:
        """Remove the first action and return it."""
        return heappop(self._heap)[2]
