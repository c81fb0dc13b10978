"""APP: application-defined packets, kept as they are, since no application here defines one (RFC 3550 §6.7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from stack.core.errors import LocalError
from stack.core.serial import Ssrc
from stack.core.wire import Writer
from stack.rtp.rtcp.header import Frame, RtcpPacket, close_packet, register_packet


@register_packet
@dataclass(frozen=True, slots=True)
class ApplicationDefined(RtcpPacket):
    """APP.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |V=2|P| subtype |   PT=APP=204  |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                           SSRC/CSRC                           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                          name (ASCII)                         |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |            application-dependent data (whole words)           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    subtype: int
    ssrc: Ssrc
    name: bytes
    data: bytes

    TYPE = 204

    @classmethod
    def read(cls, frame: Frame) -> Self:
        """Read source and name, and keep the data."""
        reader = frame.body
        return cls(frame.subtype, Ssrc(reader.u32()), reader.take(4), reader.rest())

    def serialize(self) -> bytes:
        """Return the APP as bytes."""
        if len(self.name) != 4 or len(self.data) % 4:
            raise LocalError("APP: the name has four bytes, the data whole words")
        return close_packet(self.subtype, self.TYPE, Writer().u32(self.ssrc).put(self.name).put(self.data))
