"""Replay protection: which of the last numbers were accepted already (RFC 3711 §3.3.2, RFC 9147 §4.5.1).

SRTP counts packets and DTLS counts records; both keep a bitmap below the highest number that was authenticated.
"""

from __future__ import annotations


class ReplayWindow:
    """A sliding bitmap of `size` numbers, the highest accepted one included.

    `is_replay` asks, `accept` remembers; they are two steps because a number is remembered only after what it
    stands on was authenticated.
    """

    __slots__ = ("_bitmap", "_mask", "_size", "highest")

    def __init__(self, size: int) -> None:
        self._size = size
        self._mask = (1 << size) - 1
        self._bitmap = 0  # bit n stands for the number n below the highest
        self.highest = -1
        """The highest accepted number; -1 before the first."""

    def is_replay(self, number: int) -> bool:
        """Return True if `number` was accepted before or is too old to tell."""
        age = self.highest - number
        return age >= 0 and (age >= self._size or bool(self._bitmap >> age & 1))

    def accept(self, number: int) -> None:
        """Remember `number`, which `is_replay` let pass and which was authenticated since."""
        age = self.highest - number
        if age < 0:
            self._bitmap = (self._bitmap << min(-age, self._size) | 1) & self._mask
            self.highest = number
        else:
            self._bitmap |= 1 << age
