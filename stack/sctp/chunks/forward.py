"""FORWARD-TSN (RFC 3758 §3.2) and I-FORWARD-TSN (RFC 8260 §2.3.1): do not wait for what was given up.

::

    FORWARD-TSN    | 192 | 0 | length | new cumulative TSN 32 | stream 16, SSN 16 | …
    I-FORWARD-TSN  | 194 | 0 | length | new cumulative TSN 32 | stream 16, reserved 15, U 1, MID 32 | …
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple, Self

from stack.core.errors import ParseError
from stack.sctp.chunks.kinds import ChunkType
from stack.sctp.chunks.tlv import build_chunk

_U32 = Struct("!I")
_SKIP = Struct("!HH")
_I_SKIP = Struct("!HHI")


class Skip(NamedTuple):
    """The last message given up on a stream: `sequence` is its SSN, or its MID if messages interleave."""

    stream_id: int
    sequence: int
    unordered: bool = False


@dataclass(frozen=True, slots=True)
class ForwardTsnChunk:
    """FORWARD-TSN; unordered messages are not named in it."""

    new_cumulative_tsn: int
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
        return build_chunk(ChunkType.FORWARD_TSN, 0, _U32.pack(self.new_cumulative_tsn) + skips)


@dataclass(frozen=True, slots=True)
class IForwardTsnChunk:
    """I-FORWARD-TSN."""

    new_cumulative_tsn: int
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
        return build_chunk(ChunkType.I_FORWARD_TSN, 0, _U32.pack(self.new_cumulative_tsn) + skips)
