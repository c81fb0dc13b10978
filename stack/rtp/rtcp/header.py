"""What every RTCP packet begins with (RFC 3550 §6.4.1), the table of packet types, and how a packet is cut out.

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|V=2|P| RC / FMT|       PT      |   length in words, minus one  |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

A class registers itself with `@register_packet`, a format of feedback with `@register_feedback` (`feedback.py`),
and the package imports every module that it has: a new packet type is a file beside these, and no list names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self, TypeVar

from stack.core.errors import LocalError, ParseError
from stack.core.registry import add_once
from stack.core.wire import Reader, Writer

_HEADER = 4


class Frame(NamedTuple):
    """One RTCP packet, cut out of a compound: `data` is the whole of it, `end` where its padding begins.

    `subtype` is the five bits that are a count in a report and a format in feedback.
    """

    subtype: int
    packet_type: int
    data: bytes
    end: int

    @property
    def body(self) -> Reader:
        """A reader of what stands between the header and the padding."""
        return Reader(self.data, _HEADER, self.end)


class RtcpPacket:
    """What every RTCP packet has: a type, itself from a frame, itself as bytes.

    No `ABC`: its metaclass would make each `isinstance` with another class run Python code.
    """

    __slots__ = ()

    TYPE: ClassVar[int]
    """IANA's packet type."""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a packet that stands alone; `ParseError` if it is of another type or malformed."""
        frames = list(split(data))
        if len(frames) != 1 or not cls.matches(frames[0]):
            raise ParseError(f"RTCP: not one {cls.__name__}")
        return cls.read(frames[0])

    @classmethod
    def matches(cls, frame: Frame) -> bool:
        """Return True if the frame is of this class."""
        return frame.packet_type == cls.TYPE

    @classmethod
    def read(cls, frame: Frame) -> Self:
        """Read a frame that matches; `ParseError` if it is malformed."""
        raise NotImplementedError

    def serialize(self) -> bytes:
        """Return the packet as bytes."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class UnknownPacket(RtcpPacket):
    """A packet of a type without a class: kept as it is."""

    packet_type: int
    subtype: int
    body: bytes

    @classmethod
    def matches(cls, frame: Frame) -> bool:
        """Return True: any packet may be kept as it is."""
        return True

    @classmethod
    def read(cls, frame: Frame) -> Self:
        """Keep the packet."""
        return cls(frame.packet_type, frame.subtype, frame.body.rest())

    def serialize(self) -> bytes:
        """Return the packet as bytes."""
        return close_packet(self.subtype, self.packet_type, Writer().put(self.body))


PacketT = TypeVar("PacketT", bound=RtcpPacket)

_READERS: dict[int, Callable[[Frame], RtcpPacket]] = {}


def register_packet(kind: type[PacketT]) -> type[PacketT]:
    """Class decorator: packets of this `TYPE` are read by the class; `LocalError` if another one reads them."""
    register_reader(kind.TYPE, kind.read)
    return kind


def register_reader(packet_type: int, read: Callable[[Frame], RtcpPacket]) -> None:
    """Have the packets of one type read by a function; `LocalError` if they are already."""
    add_once(_READERS, packet_type, read)


def read_frame(frame: Frame) -> RtcpPacket:
    """Read a frame by the table; a type that is not in it is an `UnknownPacket`."""
    return _READERS.get(frame.packet_type, UnknownPacket.read)(frame)


def split(data: bytes) -> Iterator[Frame]:
    """Yield the packets of a compound in order; raise `ParseError` where it is malformed (RFC 3550 §A.2)."""
    position, length = 0, len(data)
    if not data:
        raise ParseError("RTCP: empty")
    while position < length:
        if length - position < _HEADER:
            raise ParseError("RTCP: truncated header")
        first, packet_type = data[position], data[position + 1]
        if first >> 6 != 2:
            raise ParseError(f"RTCP: version {first >> 6}")
        stop = position + 4 + 4 * (data[position + 2] << 8 | data[position + 3])
        if stop > length:
            raise ParseError("RTCP: a packet is longer than the compound")
        end = stop - position
        if first & 0x20:
            # RFC 3550 §6.4.1: only the last packet of a compound may be padded. The padding is to be whole words,
            # but browsers fill up transport-wide feedback with one to three bytes and call that padding.
            padding = data[stop - 1]
            if stop != length or not 0 < padding <= end - _HEADER:
                raise ParseError("RTCP: wrong padding")
            end -= padding
        yield Frame(first & 0x1F, packet_type, data[position:stop], end)
        position = stop


def close_packet(count: int, packet_type: int, body: Writer) -> bytes:
    """Return a packet of `body` behind its header, filled up to a whole word with zeros."""
    content = body.pad(4).finish()
    if not 0 <= count <= 31 or len(content) > 4 * 0xFFFF:
        raise LocalError("RTCP: count or length does not fit")
    return Writer().u8(0x80 | count).u8(packet_type).u16(len(content) >> 2).put(content).finish()
