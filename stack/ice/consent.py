"""Consent to receive (RFC 7675): ask every five seconds or so, stop when nobody has said yes for thirty.

Each question is a transaction of its own that is sent once (§5.1); any authenticated answer renews the consent.
After an unanswered one the next comes sooner than §5.1 asks for, as it does in libwebrtc.
The questions also keep NAT bindings open, so there are no other keepalives (RFC 8445 §11).
"""

from __future__ import annotations

from dataclasses import dataclass

from stack.core.errors import LocalError
from stack.core.machine import Entropy, Instant
from stack.ice.check_client import Identity

_JITTER = 0.2


@dataclass(frozen=True, slots=True)
class ConsentSettings:
    """Seconds. RFC 7675 §5.1: an interval of 5 s, no less than 4 s apart; 30 s without an answer end it."""

    interval: float = 5.0
    timeout: float = 30.0
    retry: float = 1.0
    """The interval after a question that has not been answered yet: with 30 % loss each way every second question
    is lost, and six of them in a timeout would end one call in fifty every half minute."""

    def __post_init__(self) -> None:
        if not 0 < self.retry <= self.interval < self.timeout:
            raise LocalError("retry, interval and timeout are positive and in this order")


class Consent:
    """When to ask next and when consent is lost, for one path."""

    __slots__ = ("_entropy", "_settings", "expires_at", "identity", "next_check_at")

    def __init__(self, settings: ConsentSettings, entropy: Entropy, identity: Identity, now: Instant) -> None:
        self._settings = settings
        self._entropy = entropy
        self.identity = identity
        """Who asks whom: during an ICE restart still as before it."""
        self.expires_at = now + settings.timeout
        self.next_check_at = now + self._randomised(settings.interval)

    def _randomised(self, interval: float) -> float:
        """Return 0.8 to 1.2 intervals, so that peers do not fall into step (RFC 7675 §5.1)."""
        fraction = int.from_bytes(self._entropy(4), "big") / 2**32
        return interval * (1 - _JITTER + 2 * _JITTER * fraction)

    def asked(self, now: Instant) -> None:
        """A question has just been sent: the next follows soon, unless this one is answered."""
        self.next_check_at = now + self._randomised(self._settings.retry)

    def confirm(self, now: Instant) -> None:
        """Renew the consent: the peer answered."""
        self.expires_at = now + self._settings.timeout
        self.next_check_at = now + self._randomised(self._settings.interval)
