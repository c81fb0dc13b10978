"""BYE: these sources leave (RFC 3550 §6.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from stack.core.serial import Ssrc
from stack.core.wire import Writer
from stack.rtp.rtcp.header import Frame, RtcpPacket, close_packet, register_packet


@register_packet
@dataclass(frozen=True, slots=True)
class Goodbye(RtcpPacket):
    """BYE.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |V=2|P|    SC   |   PT=BYE=203  |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                     SSRC/CSRC (SC of them)                    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     length    |      reason for leaving (optional), UTF-8     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    ssrcs: tuple[Ssrc, ...]
    reason: str = ""

    TYPE = 203

    @classmethod
    def read(cls, frame: Frame) -> Self:
        """Read the sources and the reason."""
        reader = frame.body
        ssrcs = tuple(Ssrc(reader.u32()) for _ in range(frame.subtype))
        return cls(ssrcs, reader.vector8().rest().decode("utf-8", "replace") if reader else "")

    def serialize(self) -> bytes:
        """Return the BYE as bytes; the reason is cut at 255 bytes."""
        body = Writer()
        for ssrc in self.ssrcs:
            body.u32(ssrc)
        if self.reason:
            with body.vector8():
                body.put(self.reason.encode()[:255])
        return close_packet(len(self.ssrcs), self.TYPE, body)
