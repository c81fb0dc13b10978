"""Consent to receive (RFC 7675): a check every five seconds or so, and an end after thirty without a response.

Each consent check is a transaction of its own that is sent once (§5.1); any authenticated response renews the
consent. After a check without a response the next is sent sooner than §5.1 asks for, as in libwebrtc.
Consent checks also keep NAT bindings open, so there are no other keepalives (RFC 8445 §11).
"""

from __future__ import annotations

from dataclasses import dataclass

from stack.core.errors import LocalError
from stack.core.machine import Entropy, Instant
from stack.ice.check_client import CheckCredentials

_JITTER = 0.2


@dataclass(frozen=True, slots=True)
class ConsentSettings:
    """Seconds. RFC 7675 §5.1: an interval of 5 s, no less than 4 s apart; an end after 30 s without a response."""

    interval: float = 5.0
    timeout: float = 30.0
    retry: float = 1.0
    """The interval after a check that has no response yet: with 30 % loss each way every second check fails, and
    six of them in a timeout would end one call in fifty every half minute."""

    def __post_init__(self) -> None:
        if not 0 < self.retry <= self.interval < self.timeout:
            raise LocalError("retry, interval and timeout are positive and in this order")


class Consent:
    """When the next check of one path is due, and when its consent expires."""

    __slots__ = ("_entropy", "_settings", "credentials", "expires_at", "next_check_at", "unanswered")

    def __init__(
        self, settings: ConsentSettings, entropy: Entropy, credentials: CheckCredentials, now: Instant
    ) -> None:
        self._settings = settings
        self._entropy = entropy
        self.credentials = credentials
        """Of the checks: during an ICE restart still those from before it."""
        self.expires_at = now + settings.timeout
        self.unanswered = 0
        """How many checks have been sent since the last response."""
        self.next_check_at = now + self._randomised(settings.interval)

    def _randomised(self, interval: float) -> float:
        """Return 0.8 to 1.2 intervals, so that the checks of peers do not synchronise (RFC 7675 §5.1)."""
        fraction = int.from_bytes(self._entropy(4), "big") / 2**32
        return interval * (1 - _JITTER + 2 * _JITTER * fraction)

    def check_sent(self, now: Instant) -> None:
        """A check has just been sent: the next follows soon, unless a response to this one arrives."""
        self.unanswered += 1
        self.next_check_at = now + self._randomised(self._settings.retry)

    def renew(self, now: Instant) -> None:
        """Renew the consent: the peer has responded."""
        self.unanswered = 0
        self.expires_at = now + self._settings.timeout
        self.next_check_at = now + self._randomised(self._settings.interval)
