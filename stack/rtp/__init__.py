"""RTP and RTCP for the sound of one call (RFC 3550 and its extensions): `RtpSession` is the way in."""

from stack.rtp.config import RtpCodec, RtpConfig
from stack.rtp.events import ByeReceived, PacketReceived, RtpEvent, SourceChanged
from stack.rtp.extensions import AudioLevel, ExtensionIds, ExtensionMap, HeaderExtensions, PlayoutDelay
from stack.rtp.jitter import (
    Adjustment,
    ArrivalBuffer,
    Decode,
    Item,
    JitterBuffer,
    JitterPacket,
    Missing,
    Silence,
    Underrun,
)
from stack.rtp.jitter_clock import ClockBuffer, DelayHistogram
from stack.rtp.packet import RtpPacket
from stack.rtp.reorder import ReorderBuffer
from stack.rtp.reporter import RemoteView
from stack.rtp.session import RtpSession, RtpTimer

__all__ = [
    "Adjustment",
    "ArrivalBuffer",
    "AudioLevel",
    "ByeReceived",
    "ClockBuffer",
    "Decode",
    "DelayHistogram",
    "ExtensionIds",
    "ExtensionMap",
    "HeaderExtensions",
    "Item",
    "JitterBuffer",
    "JitterPacket",
    "Missing",
    "PacketReceived",
    "PlayoutDelay",
    "RemoteView",
    "ReorderBuffer",
    "RtpCodec",
    "RtpConfig",
    "RtpEvent",
    "RtpPacket",
    "RtpSession",
    "RtpTimer",
    "Silence",
    "SourceChanged",
    "Underrun",
]
