"""What every RTCP packet begins with (RFC 3550 §6.4.1), and the way a packet is cut out and put together.

 0                   1                   2                   3
|V=2|P|  count  |  packet type  |  length in words, minus one   |
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from stack.core.errors import LocalError, ParseError
from stack.core.wire import Reader, Writer

_HEADER = 4


class PacketType(IntEnum):
    """The RTCP packet types that are told apart (RFC 3550 §12.1, RFC 4585 §6.1, RFC 3611 §2)."""

    SENDER_REPORT = 200
    RECEIVER_REPORT = 201
    SOURCE_DESCRIPTION = 202
    GOODBYE = 203
    APPLICATION = 204
    TRANSPORT_FEEDBACK = 205
    PAYLOAD_FEEDBACK = 206
    EXTENDED_REPORT = 207


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


def open_packet(data: bytes, packet_type: PacketType) -> tuple[int, Reader]:
    """Return the subtype of the one packet in `data`, and a reader of what follows its header."""
    frames = list(split(data))
    if len(frames) != 1 or frames[0].packet_type != packet_type:
        raise ParseError(f"RTCP: not one {packet_type.name}")
    return frames[0].subtype, frames[0].body


def close_packet(count: int, packet_type: int, body: Writer) -> bytes:
    """Return a packet of `body` behind its header, filled up to a whole word with zeros."""
    content = body.pad(4).finish()
    if not 0 <= count <= 31 or len(content) > 4 * 0xFFFF:
        raise LocalError("RTCP: count or length does not fit")
    return Writer().u8(0x80 | count).u8(packet_type).u16(len(content) >> 2).put(content).finish()
