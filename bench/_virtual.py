"""An event loop whose clock jumps: asyncio code runs through simulated minutes as fast as it can compute.

It is here because aiortc's SCTP is written for asyncio: it cannot be a machine on the simulated network of the
tests. What is measured in it is processor time. Both contestants of a benchmark run in such a loop and over the
same `Link`, so that what the loop and the link cost is the same for both. What becomes of a packet is up to the
model that the tests and the relay between real clients use, too (`interop.network_model`).
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from interop import network_model
from interop.network_model import NetworkModel


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
    """One direction of a path in the loop's time: what the network does is a model's affair (`interop`)."""

    def __init__(self, loop: VirtualLoop, seed: int, model: NetworkModel) -> None:
        self.deliver: Callable[[list[bytes]], None] | None = None
        """Takes the packets that have arrived together, like an edge that empties its socket before it works."""
        self.packets = 0
        self._loop = loop
        self._link = network_model.Link(model, seed)
        self._order = count()
        self._on_the_way: list[tuple[float, int, bytes]] = []

    def send(self, packet: bytes) -> None:
        """Put a packet on its way."""
        self.packets += 1
        for at in self._link.transit(len(packet), self._loop.time()):
            heappush(self._on_the_way, (at, next(self._order), packet))
            if self._on_the_way[0][0] == at:
                self._loop.call_at(at, self._arrive)

    def _arrive(self) -> None:
        now, waiting = self._loop.time(), self._on_the_way
        arrived = []
        while waiting and waiting[0][0] <= now:
            arrived.append(heappop(waiting)[2])
        if not arrived:
            return
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
