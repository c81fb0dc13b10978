"""RTPFB and PSFB: feedback about packets and about pictures (RFC 4585 §6), and the table of their formats.

A format registers itself with `@register_feedback`, from a file of its own; one without a class is a
`RawFeedback`. Generic NACK is `generic_nack.py`, transport-wide feedback `transport_cc.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self, TypeVar

from stack.core.errors import LocalError
from stack.core.registry import add_once
from stack.core.serial import Ssrc
from stack.core.wire import Reader, Writer
from stack.rtp.rtcp.header import Frame, RtcpPacket, close_packet, register_reader

TRANSPORT_FEEDBACK = 205
"""RTPFB: about packets."""
PAYLOAD_FEEDBACK = 206
"""PSFB: about pictures."""


@dataclass(frozen=True, slots=True)
class Feedback(RtcpPacket):
    """A format of RTPFB or PSFB: two sources, and the feedback control information (FCI) that the class defines.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |V=2|P|   FMT   |       PT      |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                     SSRC of packet sender                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                      SSRC of media source                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |               Feedback Control Information (FCI)              |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    sender_ssrc: Ssrc
    media_ssrc: Ssrc

    FORMAT: ClassVar[int]
    """IANA's FMT value; `TYPE` is `TRANSPORT_FEEDBACK` or `PAYLOAD_FEEDBACK`."""

    @classmethod
    def matches(cls, frame: Frame) -> bool:
        """Return True if the frame is of this format."""
        return frame.packet_type == cls.TYPE and frame.subtype == cls.FORMAT

    @classmethod
    def read(cls, frame: Frame) -> Self:
        """Read the sources and the FCI."""
        reader = frame.body
        return cls.read_fci(Ssrc(reader.u32()), Ssrc(reader.u32()), reader)

    def serialize(self) -> bytes:
        """Return the feedback as bytes."""
        body = Writer().u32(self.sender_ssrc).u32(self.media_ssrc)
        self.write_fci(body)
        return close_packet(self.FORMAT, self.TYPE, body)

    @classmethod
    def read_fci(cls, sender_ssrc: Ssrc, media_ssrc: Ssrc, fci: Reader) -> Self:
        """Read the FCI; `ParseError` if it is malformed."""
        raise NotImplementedError

    def write_fci(self, fci: Writer) -> None:
        """Write the FCI."""
        raise NotImplementedError


FeedbackT = TypeVar("FeedbackT", bound=Feedback)

_READERS: dict[int, Callable[[Frame], RtcpPacket]] = {}


def register_feedback(kind: type[FeedbackT]) -> type[FeedbackT]:
    """Class decorator: feedback of this `TYPE` and `FORMAT` is read by the class; `LocalError` if by another."""
    read: Callable[[Frame], RtcpPacket] = kind.read
    add_once(_READERS, kind.TYPE << 5 | kind.FORMAT, read)
    return kind


def _read_feedback(frame: Frame) -> RtcpPacket:
    return _READERS.get(frame.packet_type << 5 | frame.subtype, RawFeedback.read)(frame)


register_reader(TRANSPORT_FEEDBACK, _read_feedback)
register_reader(PAYLOAD_FEEDBACK, _read_feedback)


@dataclass(frozen=True, slots=True)
class RawFeedback(RtcpPacket):
    """RTPFB or PSFB of a format without a class: kept as it is.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |V=2|P|   FMT   |       PT      |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                     SSRC of packet sender                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                      SSRC of media source                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |               Feedback Control Information (FCI)              |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    packet_type: int
    fmt: int
    sender_ssrc: Ssrc
    media_ssrc: Ssrc
    fci: bytes

    @classmethod
    def matches(cls, frame: Frame) -> bool:
        """Return True if the frame is any feedback."""
        return frame.packet_type in (TRANSPORT_FEEDBACK, PAYLOAD_FEEDBACK)

    @classmethod
    def read(cls, frame: Frame) -> Self:
        """Read the sources and keep the FCI."""
        reader = frame.body
        return cls(frame.packet_type, frame.subtype, Ssrc(reader.u32()), Ssrc(reader.u32()), reader.rest())

    def serialize(self) -> bytes:
        """Return the feedback as bytes."""
        if len(self.fci) % 4:
            raise LocalError("feedback control information has whole words")
        return close_packet(
            self.fmt, self.packet_type, Writer().u32(self.sender_ssrc).u32(self.media_ssrc).put(self.fci)
        )
