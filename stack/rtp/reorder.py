"""Built, not wired: a reordering buffer, which hands items over in sequence and waits a bounded time for gaps.

It has no playout clock and no repair. A program that wants frames without the adaptive jitter buffer (a recorder,
a test) can put it above an `RtpTransport`; calls use `jitter.py`.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from stack.core.machine import Instant
from stack.core.serial import ExtendedSequenceNumber

ItemT = TypeVar("ItemT")

DEFAULT_DEPTH = 64
DEFAULT_PATIENCE = 0.1


class ReorderBuffer(Generic[ItemT]):
    """At most `depth` items wait, each at most `patience` seconds, for the ones before them.

    Sequence numbers are the extended ones. What comes after its turn has passed, or twice, is dropped and counted.
    """

    __slots__ = ("_depth", "_held", "_next", "_patience", "late", "skipped")

    def __init__(self, depth: int = DEFAULT_DEPTH, patience: float = DEFAULT_PATIENCE) -> None:
        self._depth = depth
        self._patience = patience
        self._held: dict[ExtendedSequenceNumber, tuple[Instant, ItemT]] = {}
        self._next: ExtendedSequenceNumber | None = None
        self.late = 0
        self.skipped = 0

    def __len__(self) -> int:
        return len(self._held)

    def insert(self, sequence: ExtendedSequenceNumber, item: ItemT, now: Instant) -> list[ItemT]:
        """Take one item; return those whose turn has come, in order."""
        if self._next is None:
            self._next = sequence
        if sequence < self._next or sequence in self._held:
            self.late += 1
            return []
        self._held[sequence] = (now, item)
        ready = self._in_order()
        if len(self._held) > self._depth:
            ready += self._skip()
        return ready

    def pull(self, now: Instant) -> list[ItemT]:
        """Return what has waited long enough, and what follows it in order."""
        ready: list[ItemT] = []
        while self._held and now >= self._deadline():
            ready += self._skip()
        return ready

    def poll_timeout(self) -> Instant | None:
        """When `pull` will have something; None if nothing waits."""
        return self._deadline() if self._held else None

    def reset(self) -> None:
        """Forget everything: another line begins."""
        self._held.clear()
        self._next = None

    def _deadline(self) -> Instant:
        return min(arrival for arrival, _ in self._held.values()) + self._patience

    def _skip(self) -> list[ItemT]:
        """Give up what is missing before the first item that is here."""
        first = min(self._held)
        assert self._next is not None
        self.skipped += first - self._next
        self._next = first
        return self._in_order()

    def _in_order(self) -> list[ItemT]:
        ready: list[ItemT] = []
        assert self._next is not None
        while (held := self._held.pop(self._next, None)) is not None:
            ready.append(held[1])
            self._next += 1
        return ready
