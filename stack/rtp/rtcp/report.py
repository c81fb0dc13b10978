"""SR and RR: what was sent and how it arrived (RFC 3550 §6.4). Profile-specific extensions are passed over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from stack.core.serial import RtpTimestamp, Ssrc
from stack.core.wire import Reader, Writer
from stack.rtp.rtcp.header import Frame, RtcpPacket, close_packet, register_packet

_MIN_LOST, _MAX_LOST = -0x80_0000, 0x7F_FFFF


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """How one source is received.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                              SSRC                             |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    | fraction lost |       cumulative number of packets lost       |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |           extended highest sequence number received           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                      interarrival jitter                      |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                         last SR (LSR)                         |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                   delay since last SR (DLSR)                  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

    `fraction_lost` is in 1/256, `jitter` in timestamp units, the last two in 1/65536 s; `last_sr` 0 means none.
    """

    ssrc: Ssrc
    fraction_lost: int
    cumulative_lost: int
    extended_highest_sequence: int
    jitter: int
    last_sr: int = 0
    delay_since_last_sr: int = 0

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one block."""
        ssrc, fraction, lost = Ssrc(reader.u32()), reader.u8(), reader.u24()
        # RFC 3550 §6.4.1: duplicates can make the loss negative.
        lost -= (lost & 0x80_0000) << 1
        return cls(ssrc, fraction, lost, reader.u32(), reader.u32(), reader.u32(), reader.u32())

    def write(self, writer: Writer) -> None:
        """Write one block."""
        lost = min(max(self.cumulative_lost, _MIN_LOST), _MAX_LOST)
        writer.u32(self.ssrc).u8(self.fraction_lost).u24(lost & 0xFF_FFFF)
        writer.u32(self.extended_highest_sequence & 0xFFFF_FFFF).u32(self.jitter)
        writer.u32(self.last_sr).u32(self.delay_since_last_sr)


@register_packet
@dataclass(frozen=True, slots=True)
class SenderReport(RtcpPacket):
    """SR.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |V=2|P|    RC   |   PT=SR=200   |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                         SSRC of sender                        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |              NTP timestamp, most significant word             |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             NTP timestamp, least significant word             |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                         RTP timestamp                         |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                     sender's packet count                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                      sender's octet count                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                   report blocks (RC of them)                  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

    `ntp_time` is the full 64 bits, in 2^-32 s since 1900.
    """

    ssrc: Ssrc
    ntp_time: int
    rtp_timestamp: RtpTimestamp
    packet_count: int
    octet_count: int
    reports: tuple[ReportBlock, ...] = ()

    TYPE = 200

    @classmethod
    def read(cls, frame: Frame) -> Self:
        """Read sender info and report blocks."""
        reader = frame.body
        head = Ssrc(reader.u32()), reader.u64(), RtpTimestamp(reader.u32()), reader.u32(), reader.u32()
        return cls(*head, tuple(ReportBlock.read(reader) for _ in range(frame.subtype)))

    def serialize(self) -> bytes:
        """Return the SR as bytes."""
        body = Writer().u32(self.ssrc).u64(self.ntp_time).u32(self.rtp_timestamp)
        body.u32(self.packet_count & 0xFFFF_FFFF).u32(self.octet_count & 0xFFFF_FFFF)
        for report in self.reports:
            report.write(body)
        return close_packet(len(self.reports), self.TYPE, body)


@register_packet
@dataclass(frozen=True, slots=True)
class ReceiverReport(RtcpPacket):
    """RR.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |V=2|P|    RC   |   PT=RR=201   |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                     SSRC of packet sender                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                   report blocks (RC of them)                  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    ssrc: Ssrc
    reports: tuple[ReportBlock, ...] = ()

    TYPE = 201

    @classmethod
    def read(cls, frame: Frame) -> Self:
        """Read the report blocks."""
        reader = frame.body
        return cls(Ssrc(reader.u32()), tuple(ReportBlock.read(reader) for _ in range(frame.subtype)))

    def serialize(self) -> bytes:
        """Return the RR as bytes."""
        body = Writer().u32(self.ssrc)
        for report in self.reports:
            report.write(body)
        return close_packet(len(self.reports), self.TYPE, body)
