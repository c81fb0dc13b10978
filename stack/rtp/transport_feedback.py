"""Telling the sender when each of its packets arrived (draft-holmer-rmcat-transport-wide-cc-extensions §3).

The sender estimates bandwidth from it; without it a browser stays at its lowest rate or falls back on loss alone.
"""

from __future__ import annotations

from stack.core.machine import Instant
from stack.core.serial import SERIAL16, Ssrc, Unwrapper
from stack.rtp.rtcp import TransportWideFeedback
from stack.rtp.rtcp.transport_cc import DELTA_UNIT

FEEDBACK_INTERVAL = 0.1
"""Seconds between feedbacks, as browsers choose it for sound."""
MAX_STATUSES = 256
"""Packets that one feedback tells of; a sender that jumps further ahead is followed without telling of the gap."""

_MAX_DELTA = 0x7FFF


class TransportFeedbackGenerator:
    """Collects arrivals by transport-wide sequence number."""

    __slots__ = ("_arrivals", "_base", "_count", "_unwrapper")

    def __init__(self) -> None:
        self._unwrapper = Unwrapper(SERIAL16)
        self._arrivals: dict[int, int] = {}
        self._base: int | None = None  # the first number that no feedback has told of
        self._count = 0

    def __len__(self) -> int:
        return len(self._arrivals)

    def record(self, transport_sequence: int, now: Instant) -> None:
        """Note that a packet arrived; what was already reported as lost stays so."""
        sequence = self._unwrapper.unwrap(transport_sequence)
        if self._base is None or sequence - self._base >= MAX_STATUSES:
            self._arrivals.clear()
            self._base = sequence
        if sequence >= self._base:
            self._arrivals.setdefault(sequence, int(now / DELTA_UNIT))

    def flush(self, sender_ssrc: Ssrc, media_ssrc: Ssrc) -> list[TransportWideFeedback]:
        """Return the feedback about everything that arrived since the last call."""
        feedbacks: list[TransportWideFeedback] = []
        while self._arrivals:
            assert self._base is not None
            told: list[tuple[int, int]] = []
            clock: int | None = None
            for sequence in sorted(self._arrivals):
                arrival = self._arrivals[sequence]
                if clock is not None and not -_MAX_DELTA <= arrival - clock <= _MAX_DELTA:
                    break  # the next feedback begins with a reference time of its own
                told.append((sequence - self._base, arrival))
                clock = arrival
                del self._arrivals[sequence]
            status_count = told[-1][0] + 1
            feedbacks.append(
                TransportWideFeedback(
                    sender_ssrc, media_ssrc, self._base & 0xFFFF, status_count, self._count, tuple(told)
                )
            )
            self._base += status_count
            self._count = self._count + 1 & 0xFF
        return feedbacks
