"""FORWARD-TSN (RFC 3758 §3.2) and I-FORWARD-TSN (RFC 8260 §2.3.1): do not wait for what was abandoned."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple, Self, TypeAlias

from stack.core.errors import ParseError
from stack.core.serial import MessageIdentifier, StreamId, StreamSequenceNumber, Tsn
from stack.sctp.chunks.registry import register_chunk
from stack.sctp.chunks.tlv import build_chunk

FORWARD_TSN = 192
I_FORWARD_TSN = 194
_U32 = Struct("!I")
_SKIP = Struct("!HH")
_I_SKIP = Struct("!HHI")

MessageSequence: TypeAlias = StreamSequenceNumber | MessageIdentifier
"""What puts the messages of a stream in order: the SSN of DATA, the MID of I-DATA."""


class Skip(NamedTuple):
    """The last message abandoned on a stream: `sequence` is its SSN or MID."""

    stream_id: StreamId
    sequence: MessageSequence
    unordered: bool = False


@register_chunk(FORWARD_TSN)
@dataclass(frozen=True, slots=True)
class ForwardTsnChunk:
    r"""FORWARD-TSN; unordered messages are not named in it (RFC 3758 §3.2).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Type = 192  |  Flags = 0x00 |       Length = Variable       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                       New Cumulative TSN                      |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |            Stream-1           |       Stream Sequence-1       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                              ...                              \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |            Stream-N           |       Stream Sequence-N       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    new_cumulative_tsn: Tsn
    skips: tuple[Skip, ...] = ()

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value."""
        if len(value) < 4 or len(value) % 4:
            raise ParseError("FORWARD-TSN of a wrong size")
        skips = tuple(Skip(*_SKIP.unpack_from(value, at)) for at in range(4, len(value), 4))
        return cls(_U32.unpack_from(value)[0], skips)

    def serialize(self) -> bytes:
        """Return the chunk."""
        skips = b"".join(_SKIP.pack(skip.stream_id, skip.sequence) for skip in self.skips)
        return build_chunk(FORWARD_TSN, 0, _U32.pack(self.new_cumulative_tsn) + skips)


@register_chunk(I_FORWARD_TSN)
@dataclass(frozen=True, slots=True)
class IForwardTsnChunk:
    r"""I-FORWARD-TSN (RFC 8260 §2.3.1).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Type = 194  |  Flags = 0x00 |       Length = Variable       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                       New Cumulative TSN                      |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |       Stream Identifier       |           Reserved          |U|
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                       Message Identifier                      |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                              ...                              \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    new_cumulative_tsn: Tsn
    skips: tuple[Skip, ...] = ()

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value."""
        if len(value) < 4 or len(value) % 8 != 4:
            raise ParseError("I-FORWARD-TSN of a wrong size")
        skips = []
        for at in range(4, len(value), 8):
            stream_id, bits, mid = _I_SKIP.unpack_from(value, at)
            skips.append(Skip(stream_id, mid, bool(bits & 1)))
        return cls(_U32.unpack_from(value)[0], tuple(skips))

    def serialize(self) -> bytes:
        """Return the chunk."""
        skips = b"".join(_I_SKIP.pack(skip.stream_id, skip.unordered, skip.sequence) for skip in self.skips)
        return build_chunk(I_FORWARD_TSN, 0, _U32.pack(self.new_cumulative_tsn) + skips)
