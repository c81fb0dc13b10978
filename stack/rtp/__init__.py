"""RTP and RTCP of one connection (RFC 3550 and its extensions): `RtpTransport` is the way in."""

from stack.rtp.config import RtpCodec, RtpConfig
from stack.rtp.events import (
    ByeReceived,
    DtmfEnded,
    DtmfReceived,
    PacketReceived,
    RemoteView,
    ReportReceived,
    RtcpReceived,
    RtpEvent,
    SourceChanged,
)
from stack.rtp.extensions import (
    AudioLevel,
    ExtensionIds,
    ExtensionMap,
    HeaderExtensions,
    PlayoutDelay,
)
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
from stack.rtp.section import MediaSection
from stack.rtp.stats import (
    InboundRtpStats,
    OutboundRtpStats,
    RemoteInboundRtpStats,
    RemoteOutboundRtpStats,
    RtpStatistics,
)
from stack.rtp.transport import RtpTimer, RtpTransport

__all__ = [
    "Adjustment",
    "ArrivalBuffer",
    "AudioLevel",
    "ByeReceived",
    "ClockBuffer",
    "Decode",
    "DelayHistogram",
    "DtmfEnded",
    "DtmfReceived",
    "ExtensionIds",
    "ExtensionMap",
    "HeaderExtensions",
    "InboundRtpStats",
    "Item",
    "JitterBuffer",
    "JitterPacket",
    "MediaSection",
    "Missing",
    "OutboundRtpStats",
    "PacketReceived",
    "PlayoutDelay",
    "RemoteInboundRtpStats",
    "RemoteOutboundRtpStats",
    "RemoteView",
    "ReorderBuffer",
    "ReportReceived",
    "RtcpReceived",
    "RtpCodec",
    "RtpConfig",
    "RtpEvent",
    "RtpPacket",
    "RtpStatistics",
    "RtpTimer",
    "RtpTransport",
    "Silence",
    "SourceChanged",
    "Underrun",
]
