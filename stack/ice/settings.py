"""The timers and numbers of the full agent, by their names in the RFCs where these have one; times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

from stack.core.timers import TimerName
from stack.ice.consent import ConsentSettings


@dataclass(frozen=True, slots=True)
class IceSettings:
    """Seconds. The defaults are for the Internet; tests and known networks may use others."""

    ta: float = 0.05
    """The least time between two new checks (RFC 8445 §14.2)."""
    rto: float = 0.5
    """The least retransmission timeout; it grows with the number of pairs (RFC 8445 §14.3)."""
    repeat_interval: float = 0.2
    """How soon a check without a response is repeated by a new one, when no other check is due."""
    nomination_delay: float = 0.1
    """How long a controlling agent waits for a better pair once it has a valid one, before it nominates."""
    relayed_nomination_delay: float = 1.0
    """The same while the best valid pair is relayed: the punching of a hole through two NATs takes some round
    trips, and what the peer can be reached at may still be under way."""
    renomination: bool = False
    """Number our nominations, as the peer understands draft-thatcher-ice-renomination."""
    path_silence_timeout: float = 3.5
    """How long nothing may arrive on the nominated path before another valid one, on which something does, takes
    its place: less than the 4 to 6 s between two consent checks of a peer (RFC 7675 §5.1), so that the first check
    from a new address counts."""
    media_silence_timeout: float = 0.06
    """How long nothing may arrive on the nominated path before one where the peer's media come from, and where it
    has answered a check, takes its place."""
    suspicion_timeout: float = 1.0
    """How long nothing may arrive where media came until the peer is asked whether it is there, again each half of
    that. Two answers that do not come let every other pair be checked again, and one that answers takes its
    place."""
    pac_timeout: float = 39.5
    """The PAC timer: how long to wait for a first path before the agent fails (RFC 8863 §4)."""
    consent: ConsentSettings = field(default_factory=ConsentSettings)


class IceTimer(TimerName):
    """The timers of a full agent."""

    PACING = "pacing"
    """The next check is due (RFC 8445 §14.2)."""
    RETRANSMISSION = "retransmission"
    NOMINATION = "nomination"
    """A better pair has been waited for long enough."""
    PROBE = "probe"
    """A check to where media came from is to be sent again."""
    SUSPICION = "suspicion"
    """Media have stopped."""
    CONSENT_CHECK = "consent_check"
    CONSENT_EXPIRY = "consent_expiry"
    PAC = "pac"
    """Patiently awaiting connectivity (RFC 8863): there is still no path."""
