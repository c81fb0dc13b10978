"""HEARTBEAT over an idle association: does the peer still answer (RFC 9260 §8.3)?

Data in flight has its own timer, so a heartbeat is only sent when there is none. Inside a call, consent freshness
(RFC 7675) notices a dead path first; this serves a program that uses the association without ICE.

What a HEARTBEAT of ours carries and gets back (Heartbeat Information is the sender's own, §3.3.5):

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    :                         nonce, 64 bits                        :
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    :           instant of sending, in seconds, a binary64          :
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

from __future__ import annotations

import hmac
from struct import Struct

from stack.core.machine import Entropy, Instant
from stack.sctp.chunks import HeartbeatAckChunk, HeartbeatChunk

_SENT_AT = Struct("!d")
_NONCE_SIZE = 8


class Heartbeat:
    """The heartbeat timer and the HEARTBEAT that is outstanding, of which there is at most one."""

    __slots__ = ("_entropy", "_interval", "_nonce", "due_at", "is_outstanding")

    def __init__(self, interval: float, entropy: Entropy) -> None:
        self.due_at: Instant | None = None
        self.is_outstanding = False
        """A HEARTBEAT ACK is missing."""
        self._interval = interval
        self._entropy = entropy
        self._nonce = b""

    def restart(self, now: Instant) -> None:
        """Send the next HEARTBEAT after a whole interval."""
        self.is_outstanding = False
        self.due_at = now + self._interval

    def build(self, now: Instant, timeout: float) -> bytes:
        """Return a HEARTBEAT to be sent; without a HEARTBEAT ACK the next one is due after `timeout`."""
        self.is_outstanding = True
        self.due_at = now + timeout
        self._nonce = self._entropy(_NONCE_SIZE)
        return HeartbeatChunk(self._nonce + _SENT_AT.pack(now)).serialize()

    def handle_ack(self, chunk: HeartbeatAckChunk, now: Instant) -> float | None:
        """Take a HEARTBEAT ACK; return the round trip in seconds, None if it answers no HEARTBEAT of ours."""
        nonce, sent_at = chunk.info[:_NONCE_SIZE], chunk.info[_NONCE_SIZE:]
        if not self.is_outstanding or len(sent_at) != _SENT_AT.size or not hmac.compare_digest(nonce, self._nonce):
            return None
        self.restart(now)
        rtt: float = now - _SENT_AT.unpack(sent_at)[0]
        return rtt if rtt >= 0 else None
