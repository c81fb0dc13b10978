"""SHUTDOWN, SHUTDOWN ACK and SHUTDOWN COMPLETE (RFC 9260 §3.3.8, §3.3.9, §3.3.13)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Self

from stack.core.errors import ParseError
from stack.core.serial import Tsn
from stack.sctp.chunks.registry import register_chunk
from stack.sctp.chunks.tlv import build_chunk

SHUTDOWN = 7
SHUTDOWN_ACK = 8
SHUTDOWN_COMPLETE = 14
FLAG_T = 0x01
"""The verification tag of the packet is the receiver's own, reflected (RFC 9260 §8.5.1)."""
_U32 = Struct("!I")


@register_chunk(SHUTDOWN)
@dataclass(frozen=True, slots=True)
class ShutdownChunk:
    """SHUTDOWN: nothing new will be sent; what has been received is acknowledged (RFC 9260 §3.3.8).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Type = 7    |  Chunk Flags  |          Length = 8           |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                      Cumulative TSN Ack                       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    cumulative_tsn_ack: Tsn

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value."""
        if len(value) < 4:
            raise ParseError("truncated SHUTDOWN")
        return cls(_U32.unpack_from(value)[0])

    def serialize(self) -> bytes:
        """Return the chunk."""
        return build_chunk(SHUTDOWN, 0, _U32.pack(self.cumulative_tsn_ack))


@register_chunk(SHUTDOWN_ACK)
@dataclass(frozen=True, slots=True)
class ShutdownAckChunk:
    """SHUTDOWN ACK: this side has nothing left to send either (RFC 9260 §3.3.9).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Type = 8    |  Chunk Flags  |          Length = 4           |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk; whatever its value holds is passed over."""
        return cls()

    def serialize(self) -> bytes:
        """Return the chunk."""
        return build_chunk(SHUTDOWN_ACK, 0, b"")


@register_chunk(SHUTDOWN_COMPLETE)
@dataclass(frozen=True, slots=True)
class ShutdownCompleteChunk:
    """SHUTDOWN COMPLETE: over; `reflected` is the T bit (RFC 9260 §3.3.13).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Type = 14   |  Reserved   |T|          Length = 4           |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    reflected: bool = False

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk."""
        return cls(bool(flags & FLAG_T))

    def serialize(self) -> bytes:
        """Return the chunk."""
        return build_chunk(SHUTDOWN_COMPLETE, FLAG_T if self.reflected else 0, b"")
