"""The steps of a call's set-up: when each was reached, and after how many round trips.

Times are milliseconds from the arrival of the offer; our client's from the moment at which it began to dial, and
those of a session that was told of neither, from its making.

Round trips count from the moment at which the offerer had the answer and began to check: at a lite agent that is
half a round trip before its first check arrives, at a full agent the making of the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SESSION_MADE: Final = "session_made"
"""The session exists: the answer can be sent."""
ICE_VALIDATED: Final = "ice_validated"
"""A check was authenticated, or one of ours answered: there is a path."""
DTLS_BEGUN: Final = "dtls_begun"
"""The first part of the peer's handshake is there, by itself or in a check."""
ICE_SELECTED: Final = "ice_selected"
KEYS_READY: Final = "keys_ready"
"""Media and data can be sent: `Connected`."""
DTLS_CONNECTED: Final = "dtls_connected"
"""The peer has proved who it is: what it sends is taken from now on."""
ASSOCIATION_UP: Final = "association_up"
CHANNEL_OPEN: Final = "channel_open"
"""The first data channel is."""
FIRST_SENT: Final = "first_sent"
"""Our first packet of sound has left."""
FIRST_PACKET: Final = "first_packet"
"""The first packet of the peer's sound that was taken."""

STEPS: Final = (
    SESSION_MADE,
    ICE_VALIDATED,
    DTLS_BEGUN,
    ICE_SELECTED,
    KEYS_READY,
    DTLS_CONNECTED,
    ASSOCIATION_UP,
    CHANNEL_OPEN,
    FIRST_SENT,
    FIRST_PACKET,
)
MIN_ROUND_TRIP = 0.005
"""Seconds below which counting round trips says nothing, as the page has it: what the ends compute takes longer.
On loopback nearly all that a lite agent sees between its response and what follows it is computing."""


@dataclass(frozen=True, slots=True)
class SetupStep:
    """One step; `round_trips` is None before the first check, and where no round trip is known."""

    name: str
    at_ms: float
    round_trips: float | None = None


def waterfall(steps: Mapping[str, float], round_trip: float | None, *, lite: bool) -> tuple[SetupStep, ...]:
    """Return the steps in the order of their times; `round_trip` is in seconds, and `lite` of our own agent."""
    began = steps.get(ICE_VALIDATED if lite else SESSION_MADE)
    ordered = sorted(steps.items(), key=lambda step: step[1])
    if began is None or round_trip is None or round_trip < MIN_ROUND_TRIP:
        return tuple(SetupStep(name, at) for name, at in ordered)
    ahead = 0.5 if lite else 0.0
    return tuple(
        SetupStep(name, at, round(ahead + (at - began) / round_trip / 1000, 2) if at >= began else None)
        for name, at in ordered
    )


__all__ = ["STEPS", "SetupStep", "waterfall"]
