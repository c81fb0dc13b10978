"""HEARTBEAT and HEARTBEAT ACK (RFC 9260 §3.3.5, §3.3.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from stack.core.errors import ParseError
from stack.sctp.chunks.registry import register_chunk
from stack.sctp.chunks.tlv import build_chunk, build_parameter, parse_parameters

HEARTBEAT = 4
HEARTBEAT_ACK = 5
HEARTBEAT_INFO = 1


@register_chunk(HEARTBEAT)
@dataclass(frozen=True, slots=True)
class HeartbeatChunk:
    r"""HEARTBEAT with its one parameter, the Heartbeat Info (RFC 9260 §3.3.5).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Type = 4    |  Chunk Flags  |        Heartbeat Length       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |    Heartbeat Info Type = 1    |          HB Info Length       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                Sender-Specific Heartbeat Info                 \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    chunk_type: ClassVar[int] = HEARTBEAT
    info: bytes

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value."""
        for parameter in parse_parameters(value):
            if parameter.parameter_type == HEARTBEAT_INFO:
                return cls(parameter.value)
        raise ParseError("a heartbeat without information")

    def serialize(self) -> bytes:
        """Return the padded chunk."""
        return build_chunk(self.chunk_type, 0, build_parameter(HEARTBEAT_INFO, self.info))


@register_chunk(HEARTBEAT_ACK)
class HeartbeatAckChunk(HeartbeatChunk):
    r"""HEARTBEAT ACK returns the Heartbeat Info untouched (RFC 9260 §3.3.6).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Type = 5    |  Chunk Flags  |      Heartbeat Ack Length     |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |    Heartbeat Info Type = 1    |          HB Info Length       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                Sender-Specific Heartbeat Info                 \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    chunk_type = HEARTBEAT_ACK
