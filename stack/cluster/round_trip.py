"""How long a message and its answer take over the backbone, measured as RTCP does it (RFC 3550 §6.4.1: LSR, DLSR).

Both sides tell each other four times a second how far they are (`Progress`). Each says by its own clock when it
said so, and of the other's latest word when that was said and for how long it has been here; the two clocks need
not agree.
"""

from __future__ import annotations

from typing import NamedTuple

from stack.core.machine import Instant

PATIENCE = 2.0
"""Seconds after which a word is not answered any more: the other side would measure how long we were busy."""


class Stamp(NamedTuple):
    """What goes into a word: seconds by the sender's clock, and by that of its receiver; 0 where there is none."""

    said_at: float = 0.0
    heard: float = 0.0
    """What the other side's latest word said."""
    held: float = 0.0
    """Seconds since that was received."""


class RoundTrip:
    """Between two processes, at one of them."""

    def __init__(self) -> None:
        self.latest: float | None = None
        """Seconds."""
        self._heard = 0.0
        self._heard_at = 0.0

    def stamp(self, now: Instant) -> Stamp:
        """Return what our next word says."""
        held = now - self._heard_at
        return Stamp(now, self._heard, held) if self._heard and held < PATIENCE else Stamp(now)

    def note(self, stamp: Stamp, now: Instant) -> None:
        """Take a word of the other side."""
        self._heard, self._heard_at = stamp.said_at, now
        if stamp.heard:
            self.latest = max(0.0, now - stamp.heard - stamp.held)
