"""A datagram of RTCP: one or more packets (RFC 3550 §6.1), also without a report at the front (RFC 5506).

Browsers offer `a=rtcp-rsize` and use it, so what arrives need not begin with SR or RR. What is known to be of
no use here (APP, feedback about pictures, types of the future) is kept and handed on, not refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self, TypeAlias

from stack.core.wire import Writer
from stack.rtp.rtcp.description import ApplicationDefined, Goodbye, SourceDescription
from stack.rtp.rtcp.extended import ExtendedReport
from stack.rtp.rtcp.feedback import GenericNack, RawFeedback, TransportFeedbackFormat
from stack.rtp.rtcp.header import Frame, PacketType, close_packet, split
from stack.rtp.rtcp.report import ReceiverReport, SenderReport
from stack.rtp.rtcp.transport_cc import TransportWideFeedback


@dataclass(frozen=True, slots=True)
class UnknownPacket:
    """A packet of a type that nobody here understands."""

    packet_type: int
    subtype: int
    body: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the packet in `data`, whatever it is."""
        frame = next(split(data))
        return cls(frame.packet_type, frame.subtype, frame.body.rest())

    def serialize(self) -> bytes:
        """Return the packet as bytes."""
        return close_packet(self.subtype, self.packet_type, Writer().put(self.body))


RtcpPacket: TypeAlias = (
    SenderReport
    | ReceiverReport
    | SourceDescription
    | Goodbye
    | ApplicationDefined
    | GenericNack
    | TransportWideFeedback
    | RawFeedback
    | ExtendedReport
    | UnknownPacket
)

_PARSERS: dict[int, Callable[[bytes], RtcpPacket]] = {
    PacketType.SENDER_REPORT: SenderReport.parse,
    PacketType.RECEIVER_REPORT: ReceiverReport.parse,
    PacketType.SOURCE_DESCRIPTION: SourceDescription.parse,
    PacketType.GOODBYE: Goodbye.parse,
    PacketType.APPLICATION: ApplicationDefined.parse,
    PacketType.PAYLOAD_FEEDBACK: RawFeedback.parse,
    PacketType.EXTENDED_REPORT: ExtendedReport.parse,
}
_TRANSPORT_FEEDBACK_PARSERS: dict[int, Callable[[bytes], RtcpPacket]] = {
    TransportFeedbackFormat.GENERIC_NACK: GenericNack.parse,
    TransportFeedbackFormat.TRANSPORT_CC: TransportWideFeedback.parse,
}


def parse_compound(data: bytes) -> list[RtcpPacket]:
    """Return the packets of one datagram in order; raise `ParseError` if any of it is malformed."""
    return [_parse_frame(frame) for frame in split(data)]


def serialize_compound(packets: Iterable[RtcpPacket]) -> bytes:
    """Return the packets as one datagram."""
    return b"".join(packet.serialize() for packet in packets)


def _parse_frame(frame: Frame) -> RtcpPacket:
    if frame.packet_type == PacketType.TRANSPORT_FEEDBACK:
        return _TRANSPORT_FEEDBACK_PARSERS.get(frame.subtype, RawFeedback.parse)(frame.data)
    return _PARSERS.get(frame.packet_type, UnknownPacket.parse)(frame.data)
