"""An event loop whose clock jumps: asyncio code runs through simulated minutes as fast as it can compute.

What is measured in it is processor time. Both contestants of a benchmark run in such a loop and over the same
`Link`, so that what the loop and the link cost is the same for both.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import deque
from collections.abc import Callable
from typing import Protocol


class _JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: a wait moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everything waits for something else")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in virtual time, without I/O."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class Wire(Protocol):
    """What an end sees of one direction of a path."""

    deliver: Callable[[list[bytes]], None] | None

    def send(self, packet: bytes) -> None: ...


class Link:
    """One direction of a path: delay, jitter that keeps the order, random loss, a rate with a queue if given."""

    def __init__(
        self,
        loop: VirtualLoop,
        seed: int,
        *,
        delay: float,
        loss: float = 0.0,
        jitter: float = 0.0,
        bytes_per_second: float | None = None,
        queue_seconds: float = 0.1,
    ) -> None:
        self.deliver: Callable[[list[bytes]], None] | None = None
        """Takes the packets that have arrived together, like an edge that empties its socket before it works."""
        self.packets = 0
        self._loop = loop
        self._random = random.Random(seed)
        self._delay = delay
        self._loss = loss
        self._jitter = jitter
        self._rate = bytes_per_second
        self._queue_seconds = queue_seconds
        self._busy_until = 0.0
        self._on_the_way: deque[tuple[float, bytes]] = deque()

    def send(self, packet: bytes) -> None:
        """Put a packet on its way."""
        self.packets += 1
        if self._random.random() < self._loss:
            return
        wait = 0.0
        if self._rate is not None:
            now = self._loop.time()
            backlog = max(0.0, self._busy_until - now)
            if backlog > self._queue_seconds:
                return
            wait = backlog + len(packet) / self._rate
            self._busy_until = now + wait
        at = self._loop.time() + wait + self._delay
        if self._jitter:
            at += self._random.random() * self._jitter
            at = max(at, self._on_the_way[-1][0]) if self._on_the_way else at
        self._on_the_way.append((at, packet))
        if len(self._on_the_way) == 1:
            self._loop.call_at(at, self._arrive)

    def _arrive(self) -> None:
        now, waiting = self._loop.time(), self._on_the_way
        arrived = []
        while waiting and waiting[0][0] <= now:
            arrived.append(waiting.popleft()[1])
        if waiting:
            self._loop.call_at(waiting[0][0], self._arrive)
        assert self.deliver is not None
        self.deliver(arrived)


class Lane:
    """One flow's part of a link that several share; a byte before each packet says whose it is."""

    def __init__(self, link: Link, others: list[Lane]) -> None:
        self.deliver: Callable[[list[bytes]], None] | None = None
        self.sent = 0
        self._link = link
        self._mark = bytes((len(others),))
        self._lanes = others
        others.append(self)
        link.deliver = self._split

    def send(self, packet: bytes) -> None:
        """Put a packet on its way."""
        self.sent += 1
        self._link.send(self._mark + packet)

    def _split(self, packets: list[bytes]) -> None:
        for number, lane in enumerate(self._lanes):
            own = [packet[1:] for packet in packets if packet[0] == number]
            if own and lane.deliver is not None:
                lane.deliver(own)
