"""COOKIE ECHO and COOKIE ACK, the second half of the handshake (RFC 9260 §3.3.11, §3.3.12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from stack.sctp.chunks.registry import register_chunk
from stack.sctp.chunks.tlv import build_chunk

COOKIE_ECHO = 10
COOKIE_ACK = 11


@register_chunk(COOKIE_ECHO)
@dataclass(frozen=True, slots=True)
class CookieEchoChunk:
    r"""COOKIE ECHO: the state cookie comes back (RFC 9260 §3.3.11).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Type = 10   |  Chunk Flags  |            Length             |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                            Cookie                             \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    cookie: bytes

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value."""
        return cls(value)

    def serialize(self) -> bytes:
        """Return the padded chunk."""
        return build_chunk(COOKIE_ECHO, 0, self.cookie)


@register_chunk(COOKIE_ACK)
@dataclass(frozen=True, slots=True)
class CookieAckChunk:
    """COOKIE ACK: the association is up (RFC 9260 §3.3.12).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Type = 11   |  Chunk Flags  |          Length = 4           |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk; whatever its value holds is passed over."""
        return cls()

    def serialize(self) -> bytes:
        """Return the chunk."""
        return build_chunk(COOKIE_ACK, 0, b"")
