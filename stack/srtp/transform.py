"""What the engine and the reference have in common: the interface, the error, the bound on sources."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from stack.core.errors import ParseError

MAX_REMOTE_SOURCES = 64
"""SSRCs of the peer that one transform keeps a replay window for; packets from further ones are refused.

A call uses two or three. Only packets that were authenticated count, so a stranger cannot fill the table.
"""


class SrtpFailure(Enum):
    """Why a packet was not accepted; the value is the name under which to count it."""

    MALFORMED = "malformed"
    AUTHENTICATION = "authentication"
    REPLAY = "replay"
    TOO_MANY_SOURCES = "too_many_sources"


class SrtpError(ParseError):
    """A protected packet that was refused."""

    def __init__(self, reason: SrtpFailure, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason


class SrtpTransform(Protocol):
    """Both directions of one call's SRTP and SRTCP.

    `protect*` take what we made ourselves and raise `LocalError` when it is not a packet. `unprotect*` take
    what arrived and raise `SrtpError`. Protecting the very same RTP packet a second time is allowed, for
    retransmission, and gives the same bytes. Two different packets with one sequence number and SSRC must
    never be protected: under GCM that gives the authentication key away (RFC 7714 §9.1).
    """

    def protect(self, packet: bytes) -> bytes:
        """Return the RTP packet as SRTP."""
        ...

    def unprotect(self, packet: bytes) -> bytes:
        """Return the SRTP packet as RTP."""
        ...

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Return the compound RTCP packet as SRTCP."""
        ...

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """Return the SRTCP packet as RTCP."""
        ...
