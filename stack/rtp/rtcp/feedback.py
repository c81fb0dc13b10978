"""RTPFB and PSFB: feedback about packets and about pictures (RFC 4585 §6).

Generic NACK is read and made here, transport-wide feedback in `transport_cc.py`. Every other format is kept raw:
a call without pictures has no use for PLI and its kin.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from stack.core.errors import LocalError, ParseError
from stack.core.serial import SERIAL16
from stack.core.wire import Writer
from stack.rtp.rtcp.header import PacketType, close_packet, open_packet


class TransportFeedbackFormat(IntEnum):
    """FMT values of RTPFB that are understood."""

    GENERIC_NACK = 1
    TRANSPORT_CC = 15


@dataclass(frozen=True, slots=True)
class GenericNack:
    """RTPFB with FMT 1: these packets are missing (RFC 4585 §6.2.1).

    |            PID (a packet)     |   BLP (bitmap of the 16 after it) |
    """

    sender_ssrc: int
    media_ssrc: int
    lost: tuple[int, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the NACK in `data`."""
        count, reader = open_packet(data, PacketType.TRANSPORT_FEEDBACK)
        if count != TransportFeedbackFormat.GENERIC_NACK:
            raise ParseError(f"RTPFB: format {count} is no NACK")
        sender_ssrc, media_ssrc, lost = reader.u32(), reader.u32(), list[int]()
        while reader:
            packet, bitmap = reader.u16(), reader.u16()
            lost.append(packet)
            lost.extend(SERIAL16.add(packet, bit + 1) for bit in range(16) if bitmap >> bit & 1)
        return cls(sender_ssrc, media_ssrc, tuple(lost))

    def serialize(self) -> bytes:
        """Return the NACK as bytes: neighbours share an entry, in the order in which they stand in `lost`."""
        body = Writer().u32(self.sender_ssrc).u32(self.media_ssrc)
        for packet, bitmap in _entries(self.lost):
            body.u16(packet).u16(bitmap)
        return close_packet(TransportFeedbackFormat.GENERIC_NACK, PacketType.TRANSPORT_FEEDBACK, body)


def _entries(lost: Iterable[int]) -> Iterable[tuple[int, int]]:
    packet, bitmap = -1, 0
    for number in lost:
        offset = (number - packet) & 0xFFFF
        if packet >= 0 and 1 <= offset <= 16:
            bitmap |= 1 << (offset - 1)
            continue
        if packet >= 0:
            yield packet, bitmap
        packet, bitmap = number, 0
    if packet >= 0:
        yield packet, bitmap


@dataclass(frozen=True, slots=True)
class RawFeedback:
    """RTPFB or PSFB of a format that is kept as it is; `fci` is the feedback control information."""

    packet_type: int
    fmt: int
    sender_ssrc: int
    media_ssrc: int
    fci: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the feedback in `data`."""
        packet_type = data[1] if len(data) > 1 else 0
        if packet_type not in (PacketType.TRANSPORT_FEEDBACK, PacketType.PAYLOAD_FEEDBACK):
            raise ParseError(f"RTCP: type {packet_type} is no feedback")
        fmt, reader = open_packet(data, PacketType(packet_type))
        return cls(packet_type, fmt, reader.u32(), reader.u32(), reader.rest())

    def serialize(self) -> bytes:
        """Return the feedback as bytes."""
        if len(self.fci) % 4:
            raise LocalError("feedback control information has whole words")
        return close_packet(
            self.fmt, self.packet_type, Writer().u32(self.sender_ssrc).u32(self.media_ssrc).put(self.fci)
        )
