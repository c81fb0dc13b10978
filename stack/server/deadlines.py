"""The deadlines of all sessions in one heap: who wants to be woken next, at O(log n) a change.

A changed deadline leaves its old entry in the heap, which is recognised as stale and skipped when it surfaces;
the heap is rebuilt when more than half of it is stale.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

from stack.core.machine import Instant

KeyT = TypeVar("KeyT", bound=Hashable)

_REBUILD_FLOOR = 64


class Deadlines(Generic[KeyT]):
    """One deadline for each key."""

    __slots__ = ("_at", "_heap", "_order", "next")

    def __init__(self) -> None:
        self._at: dict[KeyT, Instant] = {}
        self._heap: list[tuple[Instant, int, KeyT]] = []
        self._order = 0  # breaks ties, so that keys are never compared
        self.next: Instant | None = None
        """The earliest deadline; None if there is none. Read it, never write it."""

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: KeyT, at: Instant | None) -> None:
        """Let `key` be due at the instant `at`; None: never."""
        if at is None:
            self._at.pop(key, None)
            self._settle()
            return
        if self._at.get(key) == at:
            return
        self._at[key] = at
        self._order += 1
        heappush(self._heap, (at, self._order, key))
        if len(self._heap) > _REBUILD_FLOOR + 2 * len(self._at):
            self._heap = [(when, index, key) for index, (key, when) in enumerate(self._at.items())]
            self._order = len(self._heap)
            heapify(self._heap)
        top = self._heap[0]
        if self._at.get(top[2]) == top[0]:
            self.next = top[0]
        else:
            self._settle()

    def pop_due(self, now: Instant) -> list[KeyT]:
        """Remove and return, earliest first, the keys whose deadline is not after `now`."""
        due: list[KeyT] = []
        while self._heap and self._heap[0][0] <= now:
            key = heappop(self._heap)[2]
            del self._at[key]
            due.append(key)
            self._settle()
        return due

    def _settle(self) -> None:
        """Keep a live entry at the top of the heap."""
        while self._heap and self._at.get(self._heap[0][2]) != self._heap[0][0]:
            heappop(self._heap)
        self.next = self._heap[0][0] if self._heap else None
