"""Telling protocols apart that share one port by their first byte (RFC 7983 §7, RFC 5761 §4)."""

from __future__ import annotations

from enum import Enum, auto


class Kind(Enum):
    """What a datagram is."""

    STUN = auto()
    DTLS = auto()
    RTP = auto()
    RTCP = auto()
    UNKNOWN = auto()


_STUN, _DTLS, _RTP, _RTCP, _UNKNOWN = Kind  # looking a member up in its class takes longer than all the rest


def classify(data: bytes) -> Kind:
    """Return the protocol that `data` belongs to by its first bytes."""
    if not data:
        return _UNKNOWN
    first = data[0]
    if 128 <= first <= 191:
        # RFC 5761 §4: with the marker bit, RTCP packet types 192-223 look like payload types 64-95.
        return _RTCP if len(data) > 1 and 192 <= data[1] <= 223 else _RTP
    if 20 <= first <= 63:
        return _DTLS
    if first <= 3:
        return _STUN
    return _UNKNOWN  # ZRTP (16-19) and TURN channels (64-79) are not spoken here
