"""What an `RtpTransport` tells its owner. `mid` is the media section (RFC 5888) in which it happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from stack.core.machine import Instant
from stack.core.serial import ExtendedSequenceNumber, ExtendedTimestamp, Ssrc
from stack.rtp.extensions import AudioLevel
from stack.rtp.rtcp import RtcpPacket


class PacketReceived(NamedTuple):
    """One codec frame, in the order of arrival; a NamedTuple because there are 50 of them a second in each call.

    `sequence` and `timestamp` do not wrap: they go on counting. Put them in order by `sequence`. `recovered`
    says that it came in the redundancy of a later packet or as a retransmission. An empty payload stands for a
    packet that holds no sound (a telephone event, or the padding with which browsers probe the path): its number
    is not missing, and there is nothing to decode or to conceal.
    """

    payload: bytes
    sequence: ExtendedSequenceNumber
    timestamp: ExtendedTimestamp
    arrival: Instant
    payload_type: int
    marker: bool
    ssrc: Ssrc
    audio_level: AudioLevel | None = None
    recovered: bool = False
    mid: str | None = None
    red_depth: int = 0
    """How many earlier frames the source repeated in its latest packet with redundancy (RFC 2198)."""


@dataclass(frozen=True, slots=True)
class RemoteView:
    """How the peer receives us, by its latest report block; losses in 0 … 1, `jitter` in seconds."""

    at: Instant
    fraction_lost: float
    packets_lost: int
    extended_highest_sequence: ExtendedSequenceNumber
    jitter: float
    reported_loss: float
    """The loss by all that the peer reports, transport-wide feedback too (`SendStream.reported_loss`)."""


@dataclass(frozen=True, slots=True)
class ReportReceived:
    """The peer has reported how it receives a section."""

    view: RemoteView
    mid: str | None = None


@dataclass(frozen=True, slots=True)
class SourceChanged:
    """What follows has sequence numbers and timestamps of another origin: forget the old ones.

    `previous` is None for the first source, and equal to `ssrc` if the same source started over.
    """

    ssrc: Ssrc
    previous: Ssrc | None
    mid: str | None = None


@dataclass(frozen=True, slots=True)
class ByeReceived:
    """The peer said that these sources leave."""

    ssrcs: tuple[Ssrc, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class RtcpReceived:
    """An RTCP packet that `stack.rtp.rtcp` has a class for, and that `RtpTransport` itself does nothing about."""

    packet: RtcpPacket


@dataclass(frozen=True, slots=True)
class DtmfReceived:
    """A key was pressed; told once, with the first packet that says so. `digit` is one of 0–9 * # A–D."""

    digit: str
    timestamp: ExtendedTimestamp
    mid: str | None = None
    """Of the media section on which it came."""


@dataclass(frozen=True, slots=True)
class DtmfEnded:
    """The key was released, or nothing more was heard of it; `duration` in seconds."""

    digit: str
    timestamp: ExtendedTimestamp
    duration: float
    mid: str | None = None
    """Of the media section on which it came."""


RtpEvent: TypeAlias = (
    PacketReceived | SourceChanged | ByeReceived | RtcpReceived | ReportReceived | DtmfReceived | DtmfEnded
)
