"""How datagrams reach a machine: one by one, or in the batches that an edge reads that looks a little late.

The simulated network (`tests.sim.network`) asks here when a datagram is read, and which are read together. Which
way it is, the fixture `arrivals` (`tests/conftest.py`) says before a test, and runs it both ways from the same
seeds. The batches draw from a generator of their own, so what the network does to a datagram is the same in both.

Here, too, is checked that nothing comes after a machine's terminal event.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

ItemT = TypeVar("ItemT")

WINDOWS = (0.0, 0.001, 0.025)
"""Seconds that an edge may be late: everything that arrives until then is read together."""
_WHOLE = 0.7
"""The share of readings that are one batch; the others are cut at random places."""


class ContractViolation(AssertionError):
    """A machine did what the contract of `stack.core.machine` forbids."""


_in_batches = False


@contextmanager
def in_batches(wanted: bool) -> Iterator[None]:
    """Have simulated networks that are made from here on deliver in batches, or not."""
    global _in_batches
    before, _in_batches = _in_batches, wanted
    try:
        yield
    finally:
        _in_batches = before


class Arrivals:
    """When the receivers of one network read their datagrams, and which of them together."""

    def __init__(self, seed: int | str) -> None:
        self._chance = random.Random(f"arrivals/{seed}") if _in_batches else None
        self._readings: dict[Hashable, tuple[float, float]] = {}

    @property
    def in_batches(self) -> bool:
        """True if datagrams are to be delivered in batches."""
        return self._chance is not None

    def reading(self, receiver: Hashable, at: float) -> float:
        """Return when a datagram that arrives at the instant `at` is read."""
        if self._chance is None:
            return at
        first, read = self._readings.get(receiver, (1.0, 0.0))
        if not first <= at <= read:
            first, read = self._readings[receiver] = at, at + self._chance.choice(WINDOWS)
        return read

    def cut(self, items: Sequence[ItemT]) -> list[Sequence[ItemT]]:
        """Cut what is read at one instant into batches."""
        chance = self._chance
        if chance is None:
            return [[item] for item in items]
        if len(items) < 2 or chance.random() < _WHOLE:
            return [items]
        places = sorted(chance.sample(range(1, len(items)), chance.randint(1, len(items) - 1)))
        return [items[a:b] for a, b in zip([0, *places], [*places, len(items)], strict=True)]


class Ending:
    """Whether a machine has reported its terminal event; after it may come nothing."""

    def __init__(self, name: str, machine: Any) -> None:
        self._name = name
        self._terminal: tuple[type[Any], ...] = machine.terminal_events
        self._over: Any = None

    def check(self, event: Any) -> None:
        """Take the next event that the machine has reported."""
        if self._over is not None:
            raise ContractViolation(f"{self._name}: {event!r} after {self._over!r}")
        if isinstance(event, self._terminal):
            self._over = event

    def begin_anew(self) -> None:
        """A command has revived the machine."""
        self._over = None
