"""What is under way on a network that is simulated in real time: carried out when it is due, one timer for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

MAX_UNDER_WAY = 65_536
"""Datagrams that are under way at one time."""


class DelayLine:
    """Calls each `deliver` at its instant, by the loop's clock; those of one instant in the order of `add`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.lateness = Lateness()
        self._loop = loop
        self._orders = count()
        self._under_way: list[tuple[float, int, Callable[[], None]]] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, at: float, deliver: Callable[[], None]) -> bool:
        """Take something; False if too much is under way and it is dropped."""
        if len(self._under_way) >= MAX_UNDER_WAY:
            return False
        if at <= self._loop.time() and not self._under_way:
            deliver()
            return True
        heappush(self._under_way, (at, next(self._orders), deliver))
        self._set_timer()
        return True

    def close(self) -> int:
        """Stop at once; return how much was under way, and is lost."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lost = len(self._under_way)
        self._under_way.clear()
        return lost

    def _set_timer(self) -> None:
        at = self._under_way[0][0] if self._under_way else None
        if self._timer is not None:
            if at == self._timer.when():
                return
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer = self._loop.call_at(at, self._deliver_due)

    def _deliver_due(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._under_way and self._under_way[0][0] <= now:
            at, _, deliver = heappop(self._under_way)
            self.lateness.note(now - at)
            deliver()
        self._set_timer()


class Lateness:
    """How long after its instant a datagram left."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = 0.0
        self._max = 0.0

    def note(self, seconds: float) -> None:
        """Take one."""
        self._count += 1
        self._sum += seconds
        self._max = max(self._max, seconds)

    def summary(self) -> dict[str, float]:
        """Return mean and maximum, in milliseconds."""
        mean = self._sum / self._count if self._count else 0.0
        return {"mean": round(mean * 1000, 3), "max": round(self._max * 1000, 3)}
