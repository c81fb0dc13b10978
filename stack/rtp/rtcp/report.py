"""SR and RR: what was sent and how it arrived (RFC 3550 §6.4). Profile-specific extensions are passed over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from stack.core.wire import Reader, Writer
from stack.rtp.rtcp.header import PacketType, close_packet, open_packet

_MIN_LOST, _MAX_LOST = -0x80_0000, 0x7F_FFFF


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """How one source is received.

    |                             SSRC                              |
    | fraction lost |       cumulative number of packets lost       |
    |           extended highest sequence number received           |
    |                      interarrival jitter                      |
    |                         last SR (LSR)                         |
    |                   delay since last SR (DLSR)                  |

    `fraction_lost` is in 1/256, `jitter` in timestamp units, the last two in 1/65536 s; `last_sr` 0 means none.
    """

    ssrc: int
    fraction_lost: int
    cumulative_lost: int
    extended_highest_sequence: int
    jitter: int
    last_sr: int = 0
    delay_since_last_sr: int = 0

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one block."""
        ssrc, fraction, lost = reader.u32(), reader.u8(), reader.u24()
        # RFC 3550 §6.4.1: duplicates can make the loss negative.
        lost -= (lost & 0x80_0000) << 1
        return cls(ssrc, fraction, lost, reader.u32(), reader.u32(), reader.u32(), reader.u32())

    def write(self, writer: Writer) -> None:
        """Write one block."""
        lost = min(max(self.cumulative_lost, _MIN_LOST), _MAX_LOST)
        writer.u32(self.ssrc).u8(self.fraction_lost).u24(lost & 0xFF_FFFF)
        writer.u32(self.extended_highest_sequence & 0xFFFF_FFFF).u32(self.jitter)
        writer.u32(self.last_sr).u32(self.delay_since_last_sr)


@dataclass(frozen=True, slots=True)
class SenderReport:
    """SR, packet type 200: `ntp_time` is the full 64 bits, in 2^-32 s since 1900."""

    ssrc: int
    ntp_time: int
    rtp_timestamp: int
    packet_count: int
    octet_count: int
    reports: tuple[ReportBlock, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the SR in `data`."""
        count, reader = open_packet(data, PacketType.SENDER_REPORT)
        head = reader.u32(), reader.u64(), reader.u32(), reader.u32(), reader.u32()
        return cls(*head, tuple(ReportBlock.read(reader) for _ in range(count)))

    def serialize(self) -> bytes:
        """Return the SR as bytes."""
        body = Writer().u32(self.ssrc).u64(self.ntp_time).u32(self.rtp_timestamp)
        body.u32(self.packet_count & 0xFFFF_FFFF).u32(self.octet_count & 0xFFFF_FFFF)
        for report in self.reports:
            report.write(body)
        return close_packet(len(self.reports), PacketType.SENDER_REPORT, body)


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """RR, packet type 201."""

    ssrc: int
    reports: tuple[ReportBlock, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the RR in `data`."""
        count, reader = open_packet(data, PacketType.RECEIVER_REPORT)
        return cls(reader.u32(), tuple(ReportBlock.read(reader) for _ in range(count)))

    def serialize(self) -> bytes:
        """Return the RR as bytes."""
        body = Writer().u32(self.ssrc)
        for report in self.reports:
            report.write(body)
        return close_packet(len(self.reports), PacketType.RECEIVER_REPORT, body)
