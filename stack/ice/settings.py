"""The timers and numbers of the full agent, by their names in the RFCs where these have one; times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from stack.ice.consent import ConsentSettings


@dataclass(frozen=True, slots=True)
class IceSettings:
    """Change them in tests, or where the network is known."""

    ta: float = 0.05
    """The least time between two new checks (RFC 8445 §14.2)."""
    rto: float = 0.5
    """The least retransmission timeout; it grows with the number of pairs (RFC 8445 §14.3)."""
    repeat: float = 0.2
    """How soon an unanswered check is repeated by a new one, when no other check is due."""
    nomination_patience: float = 0.1
    """How long a controlling agent waits for a better pair once it has a valid one."""
    hold: float = 3.5
    """How long a nominated path may be silent before another valid one that is not takes its place: less than the
    4 to 6 s between two consent checks of a peer (RFC 7675 §5.1), so that the first from a new address counts."""
    patience: float = 39.5
    """How long to wait for a first path before giving up (RFC 8863 §4)."""
    consent: ConsentSettings = field(default_factory=ConsentSettings)


class IceTimer(Enum):
    """Why an agent wants to be woken."""

    PACING = "the next check"
    RETRANSMISSION = "a check without answer"
    NOMINATION = "waited long enough for a better pair"
    CONSENT_CHECK = "the next consent check"
    CONSENT_EXPIRY = "no consent for too long"
    PATIENCE = "no path for too long"
