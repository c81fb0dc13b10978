"""The chunks that carry little: cookies, heartbeats, shutdown, and the ones nobody knows.

RFC 9260 §3.3.5 HEARTBEAT, §3.3.6 HEARTBEAT ACK, §3.3.8 SHUTDOWN, §3.3.9 SHUTDOWN ACK, §3.3.11 COOKIE ECHO,
§3.3.12 COOKIE ACK, §3.3.13 SHUTDOWN COMPLETE.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Self

from stack.core.errors import ParseError
from stack.sctp.chunks.kinds import ChunkType
from stack.sctp.chunks.tlv import RawParameter, build_chunk, parse_parameters

_U32 = Struct("!I")
_HEARTBEAT_INFO = 1

FLAG_T = 0x01
"""The verification tag of the packet is the receiver's own, reflected (RFC 9260 §8.5.1)."""


@dataclass(frozen=True, slots=True)
class EmptyChunk:
    """A chunk without a value."""

    kind: ClassVar[ChunkType]

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk; whatever its value holds is passed over."""
        return cls()

    def serialize(self) -> bytes:
        """Return the chunk."""
        return build_chunk(self.kind, 0, b"")


class CookieAckChunk(EmptyChunk):
    """COOKIE ACK: the association is up."""

    __slots__ = ()
    kind = ChunkType.COOKIE_ACK


class ShutdownAckChunk(EmptyChunk):
    """SHUTDOWN ACK: nothing is left to be sent on this side either."""

    __slots__ = ()
    kind = ChunkType.SHUTDOWN_ACK


@dataclass(frozen=True, slots=True)
class CookieEchoChunk:
    """COOKIE ECHO: the state cookie comes back."""

    cookie: bytes

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value."""
        return cls(value)

    def serialize(self) -> bytes:
        """Return the padded chunk."""
        return build_chunk(ChunkType.COOKIE_ECHO, 0, self.cookie)


@dataclass(frozen=True, slots=True)
class HeartbeatChunk:
    """HEARTBEAT, and HEARTBEAT ACK, which returns the same information untouched."""

    info: bytes

    kind = ChunkType.HEARTBEAT

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value: one parameter, the heartbeat information (1)."""
        for parameter in parse_parameters(value):
            if parameter.kind == _HEARTBEAT_INFO:
                return cls(parameter.value)
        raise ParseError("a heartbeat without information")

    def serialize(self) -> bytes:
        """Return the padded chunk."""
        return build_chunk(self.kind, 0, RawParameter(_HEARTBEAT_INFO, self.info).serialize())


class HeartbeatAckChunk(HeartbeatChunk):
    """HEARTBEAT ACK."""

    __slots__ = ()
    kind = ChunkType.HEARTBEAT_ACK


@dataclass(frozen=True, slots=True)
class ShutdownChunk:
    """SHUTDOWN: nothing new will be sent; what has been received up to here is acknowledged."""

    cumulative_tsn_ack: int

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value."""
        if len(value) < 4:
            raise ParseError("truncated SHUTDOWN")
        return cls(_U32.unpack_from(value)[0])

    def serialize(self) -> bytes:
        """Return the chunk."""
        return build_chunk(ChunkType.SHUTDOWN, 0, _U32.pack(self.cumulative_tsn_ack))


@dataclass(frozen=True, slots=True)
class ShutdownCompleteChunk:
    """SHUTDOWN COMPLETE: over; `reflected` is the T bit."""

    reflected: bool = False

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk."""
        return cls(bool(flags & FLAG_T))

    def serialize(self) -> bytes:
        """Return the chunk."""
        return build_chunk(ChunkType.SHUTDOWN_COMPLETE, FLAG_T if self.reflected else 0, b"")


@dataclass(frozen=True, slots=True)
class UnknownChunk:
    """A chunk of a type that this stack does not know; the type's two highest bits say what to do."""

    kind: int
    flags: int
    value: bytes

    def serialize(self) -> bytes:
        """Return the padded chunk as it came."""
        return build_chunk(self.kind, self.flags, self.value)
