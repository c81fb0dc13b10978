"""How much of what we send is lost, by what the peer reports.

Receiver reports come every second or every five; transport-wide feedback comes ten times a second. Whichever is
fresh is believed, the latter first. A rise is believed faster than a fall.
"""

from __future__ import annotations

from collections import deque

from stack.core.machine import Instant
from stack.rtp.rtcp import TransportWideFeedback

FEEDBACK_WINDOW = 250
"""Packets over which transport-wide feedback is averaged: five seconds of sound."""
FEEDBACK_FRESH = 5.0
"""Seconds after which feedback that has ceased is no longer believed."""

_MINIMUM = 25
_RISE, _FALL = 0.6, 0.3


class LossEstimate:
    """The loss on the way to the peer, 0 … 1."""

    __slots__ = ("_fed_at", "_fed_lost", "_fed_total", "_feedback", "_reported")

    def __init__(self) -> None:
        self._reported = 0.0
        self._feedback: deque[tuple[int, int]] = deque()  # packets, of which lost
        self._fed_total = 0
        self._fed_lost = 0
        self._fed_at: Instant | None = None

    def handle_fraction(self, fraction_lost: float) -> None:
        """Take the fraction of a report block."""
        weight = _RISE if fraction_lost > self._reported else _FALL
        self._reported += weight * (fraction_lost - self._reported)

    def handle_feedback(self, feedback: TransportWideFeedback, now: Instant) -> None:
        """Take one transport-wide feedback."""
        total, lost = feedback.status_count, feedback.status_count - len(feedback.arrivals)
        if total > FEEDBACK_WINDOW:  # no sender has that many packets between two feedbacks about a call
            return
        self._feedback.append((total, lost))
        self._fed_total += total
        self._fed_lost += lost
        self._fed_at = now
        while self._fed_total > FEEDBACK_WINDOW:
            old_total, old_lost = self._feedback.popleft()
            self._fed_total -= old_total
            self._fed_lost -= old_lost

    def at(self, now: Instant) -> float:
        """Return the loss as far as it is known at `now`."""
        if self._fed_at is not None and now - self._fed_at < FEEDBACK_FRESH and self._fed_total >= _MINIMUM:
            return self._fed_lost / self._fed_total
        return self._reported
