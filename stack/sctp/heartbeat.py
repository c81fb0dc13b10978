"""Is the peer still there? HEARTBEAT over an idle association (RFC 9260 §8.3).

Data in flight has its own timer, so a heartbeat is only sent when there is none. Inside a call, consent freshness
(RFC 7675) notices a dead path first; this is for whoever uses the association without ICE.
"""

from __future__ import annotations

import hmac
from struct import Struct

from stack.core.machine import Entropy, Instant
from stack.sctp.chunks import HeartbeatAckChunk, HeartbeatChunk

_SENT_AT = Struct("!d")
_NONCE_SIZE = 8


class Heartbeat:
    """At most one heartbeat is under way; `at` is when to act next."""

    __slots__ = ("_entropy", "_interval", "_nonce", "at", "awaited")

    def __init__(self, interval: float, entropy: Entropy) -> None:
        self.at: Instant | None = None
        self.awaited = False
        """True while an answer is missing."""
        self._interval = interval
        self._entropy = entropy
        self._nonce = b""

    def rest(self, now: Instant) -> None:
        """Nothing to ask for an interval."""
        self.awaited = False
        self.at = now + self._interval

    def ask(self, now: Instant, timeout: float) -> bytes:
        """Return a heartbeat to be sent."""
        self.awaited = True
        self.at = now + timeout
        self._nonce = self._entropy(_NONCE_SIZE)
        return HeartbeatChunk(self._nonce + _SENT_AT.pack(now)).serialize()

    def answered(self, chunk: HeartbeatAckChunk, now: Instant) -> float | None:
        """Take an answer; return the round trip in seconds, None if it answers nothing that was asked."""
        nonce, sent_at = chunk.info[:_NONCE_SIZE], chunk.info[_NONCE_SIZE:]
        if not self.awaited or len(sent_at) != _SENT_AT.size or not hmac.compare_digest(nonce, self._nonce):
            return None
        self.rest(now)
        rtt: float = now - _SENT_AT.unpack(sent_at)[0]
        return rtt if rtt >= 0 else None
