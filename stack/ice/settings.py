"""The numbers of the full agent, by their names in the RFCs where these have one; all times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

from stack.ice.consent import ConsentSettings


@dataclass(frozen=True, slots=True)
class IceSettings:
    """Change them in tests, or where the network is known."""

    ta: float = 0.05
    """The least time between two new checks (RFC 8445 §14.2)."""
    rto: float = 0.5
    """The least retransmission timeout; it grows with the number of pairs (RFC 8445 §14.3)."""
    nomination_patience: float = 0.1
    """How long a controlling agent waits for a better pair once it has a valid one."""
    hold: float = 5.0
    """How long a nominated path may be silent before another valid one takes its place."""
    patience: float = 39.5
    """How long to wait for a first path before giving up (RFC 8863 §4)."""
    consent: ConsentSettings = field(default_factory=ConsentSettings)
