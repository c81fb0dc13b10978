"""ABORT and ERROR, which carry error causes (RFC 9260 §3.3.7, §3.3.10); the causes are in `causes.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from stack.sctp.chunks.causes import ErrorCause, parse_causes
from stack.sctp.chunks.registry import register_chunk
from stack.sctp.chunks.shutdown import FLAG_T
from stack.sctp.chunks.tlv import build_chunk, build_parameters

ABORT = 6
ERROR = 9


@register_chunk(ABORT)
@dataclass(frozen=True, slots=True)
class AbortChunk:
    r"""ABORT: over, at once; `reflected` is the T bit (RFC 9260 §3.3.7).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Type = 6    |  Reserved   |T|            Length             |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                   zero or more Error Causes                   \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    causes: tuple[ErrorCause, ...] = ()
    reflected: bool = False

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value."""
        return cls(parse_causes(value), bool(flags & FLAG_T))

    def serialize(self) -> bytes:
        """Return the padded chunk."""
        return build_chunk(ABORT, FLAG_T if self.reflected else 0, build_parameters(self.causes))


@register_chunk(ERROR)
@dataclass(frozen=True, slots=True)
class ErrorChunk:
    r"""ERROR: something was wrong, and the association lives on (RFC 9260 §3.3.10).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Type = 9    |  Chunk Flags  |            Length             |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                   one or more Error Causes                    \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    causes: tuple[ErrorCause, ...]

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value."""
        return cls(parse_causes(value))

    def serialize(self) -> bytes:
        """Return the padded chunk."""
        return build_chunk(ERROR, 0, build_parameters(self.causes))
