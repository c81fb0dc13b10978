"""RTCP, one file for each family of packets; `parse_compound` and `serialize_compound` are the way in and out."""

from stack.rtp.rtcp.compound import RtcpPacket, UnknownPacket, parse_compound, serialize_compound
from stack.rtp.rtcp.description import ApplicationDefined, Goodbye, SdesChunk, SdesItem, SourceDescription
from stack.rtp.rtcp.extended import Dlrr, DlrrEntry, ExtendedReport, RawBlock, ReceiverReferenceTime
from stack.rtp.rtcp.feedback import GenericNack, RawFeedback
from stack.rtp.rtcp.report import ReceiverReport, ReportBlock, SenderReport
from stack.rtp.rtcp.transport_cc import TransportWideFeedback

__all__ = [
    "ApplicationDefined",
    "Dlrr",
    "DlrrEntry",
    "ExtendedReport",
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
    "serialize_compound",
]
