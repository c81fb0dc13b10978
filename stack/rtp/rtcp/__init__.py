"""RTCP: `parse_compound` and `serialize_compound` are the way in and out, and a packet type is one file.

A packet type is a class with `@register_packet`, a format of feedback one with `@register_feedback`. Every module
of this package is imported here, so a file beside these is all that a new one takes:

    @register_feedback
    @dataclass(frozen=True, slots=True)
    class PictureLossIndication(Feedback):
        TYPE = PAYLOAD_FEEDBACK
        FORMAT = 1

        @classmethod
        def read_fci(cls, sender_ssrc: Ssrc, media_ssrc: Ssrc, fci: Reader) -> Self:
            return cls(sender_ssrc, media_ssrc)

        def write_fci(self, fci: Writer) -> None:
            pass

`RtpTransport` hands up what it does nothing about as an `RtcpReceived` event.
"""

from __future__ import annotations

from stack.core.registry import import_modules
from stack.rtp.rtcp.application_defined import ApplicationDefined
from stack.rtp.rtcp.compound import parse_compound, serialize_compound
from stack.rtp.rtcp.extended_report import Dlrr, DlrrEntry, ExtendedReport, RawBlock, ReceiverReferenceTime
from stack.rtp.rtcp.feedback import Feedback, RawFeedback, register_feedback
from stack.rtp.rtcp.generic_nack import GenericNack
from stack.rtp.rtcp.goodbye import Goodbye
from stack.rtp.rtcp.header import RtcpPacket, UnknownPacket, register_packet
from stack.rtp.rtcp.report import ReceiverReport, ReportBlock, SenderReport
from stack.rtp.rtcp.source_description import SdesChunk, SdesItem, SourceDescription
from stack.rtp.rtcp.transport_cc import TransportWideFeedback

import_modules(__name__, __path__)

__all__ = [
    "ApplicationDefined",
    "Dlrr",
    "DlrrEntry",
    "ExtendedReport",
    "Feedback",
    "GenericNack",
    "Goodbye",
    "RawBlock",
    "RawFeedback",
    "ReceiverReferenceTime",
    "ReceiverReport",
    "ReportBlock",
    "RtcpPacket",
    "SdesChunk",
    "SdesItem",
    "SenderReport",
    "SourceDescription",
    "TransportWideFeedback",
    "UnknownPacket",
    "parse_compound",
    "register_feedback",
    "register_packet",
    "serialize_compound",
]
