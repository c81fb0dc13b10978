"""Selective acknowledgement (RFC 9260 §3.3.4).

::

    | 3 | 0 | length | cumulative TSN ack 32 | a_rwnd 32 | gap blocks 16 | duplicates 16 |
    | start 16 | end 16 | …                         offsets from the cumulative TSN ack
    | duplicate TSN 32 | …
"""

from __future__ import annotations

from struct import Struct, pack, unpack_from
from typing import NamedTuple

from stack.core.errors import ParseError
from stack.sctp.chunks.kinds import ChunkType

_FIXED = Struct("!IIHH")
_WHOLE = Struct("!BBHIIHH")
SACK_OVERHEAD = _WHOLE.size


class SackChunk(NamedTuple):
    """What the receiver has: `gaps` are (start, end) offsets from `cumulative_tsn_ack`, both included."""

    cumulative_tsn_ack: int
    a_rwnd: int
    gaps: tuple[tuple[int, int], ...] = ()
    duplicates: tuple[int, ...] = ()

    @classmethod
    def parse(cls, flags: int, value: bytes) -> SackChunk:
        """Read a chunk's value; the gap blocks must be in order, as §3.3.4 has them."""
        if len(value) < 12:
            raise ParseError("truncated SACK")
        cumulative, a_rwnd, gap_count, duplicate_count = _FIXED.unpack_from(value)
        if not gap_count and not duplicate_count:
            return cls(cumulative, a_rwnd)
        if len(value) < 12 + 4 * (gap_count + duplicate_count):
            raise ParseError("truncated SACK blocks")
        edges = unpack_from(f"!{2 * gap_count}H", value, 12)
        gaps = tuple(zip(edges[::2], edges[1::2], strict=True))
        previous = 0
        for start, end in gaps:
            if start <= previous or end < start:
                raise ParseError("gap blocks out of order")
            previous = end
        duplicates = unpack_from(f"!{duplicate_count}I", value, 12 + 4 * gap_count)
        return cls(cumulative, a_rwnd, gaps, duplicates)

    def serialize(self) -> bytes:
        """Return the chunk, which needs no padding."""
        cumulative, a_rwnd, gaps, duplicates = self
        size = SACK_OVERHEAD + 4 * (len(gaps) + len(duplicates))
        fixed = _WHOLE.pack(ChunkType.SACK, 0, size, cumulative, a_rwnd, len(gaps), len(duplicates))
        if not gaps and not duplicates:
            return fixed
        edges = [edge for gap in gaps for edge in gap]
        return fixed + pack(f"!{len(edges)}H{len(duplicates)}I", *edges, *duplicates)
