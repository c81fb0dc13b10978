"""Replay protection: which of the last packets have been accepted already (RFC 3711 §3.3.2)."""

from __future__ import annotations

WINDOW_SIZE = 128
"""Indices that are remembered; RFC 3711 §3.3.2 asks for at least 64. The same as libsrtp's."""


class ReplayWindow:
    """A sliding bitmap below the highest accepted index.

    `is_fresh` asks, `accept` remembers; they are two steps because a packet is remembered only after it has
    been authenticated (RFC 3711 §3.3.2).
    """

    __slots__ = ("_bitmap", "_highest")

    def __init__(self) -> None:
        self._highest: int | None = None
        self._bitmap = 0

    @property
    def highest(self) -> int | None:
        """The highest accepted index; None before the first."""
        return self._highest

    def is_fresh(self, index: int) -> bool:
        """Return True unless `index` was accepted before or is too old to tell."""
        if self._highest is None or index > self._highest:
            return True
        age = self._highest - index
        return age < WINDOW_SIZE and not self._bitmap >> age & 1

    def accept(self, index: int) -> None:
        """Remember that the packet with `index` was authenticated."""
        if self._highest is None:
            self._highest, self._bitmap = index, 1
        elif index > self._highest:
            # Bit n stands for the index n below the highest.
            shift = min(index - self._highest, WINDOW_SIZE)
            self._bitmap = (self._bitmap << shift | 1) & ((1 << WINDOW_SIZE) - 1)
            self._highest = index
        else:
            self._bitmap |= 1 << (self._highest - index)
