"""RTP and RTCP for the sound of one call (RFC 3550 and its extensions): `RtpSession` is the way in."""

from stack.rtp.config import RtpCodec, RtpConfig
from stack.rtp.events import ByeReceived, PacketReceived, RtpEvent, SourceChanged
from stack.rtp.extensions import AudioLevel, ExtensionIds, ExtensionMap, HeaderExtensions, PlayoutDelay
from stack.rtp.packet import RtpPacket
from stack.rtp.reorder import ReorderBuffer
from stack.rtp.reporter import RemoteView
from stack.rtp.session import RtpSession, RtpTimer

__all__ = [
    "AudioLevel",
    "ByeReceived",
    "ExtensionIds",
    "ExtensionMap",
    "HeaderExtensions",
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
    "SourceChanged",
]
