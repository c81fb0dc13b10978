"""A datagram of RTCP: one or more packets (RFC 3550 §6.1), also without a report at the front (RFC 5506).

Browsers offer `a=rtcp-rsize` and use it, so what arrives need not begin with SR or RR. What has no class here is
kept and handed on, not refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from stack.rtp.rtcp.header import RtcpPacket, read_frame, split


def parse_compound(data: bytes) -> list[RtcpPacket]:
    """Return the packets of one datagram in order; raise `ParseError` if any of it is malformed."""
    return [read_frame(frame) for frame in split(data)]


def serialize_compound(packets: Iterable[RtcpPacket]) -> bytes:
    """Return the packets as one datagram."""
    return b"".join(packet.serialize() for packet in packets)
