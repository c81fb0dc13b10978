"""Selective acknowledgement (RFC 9260 §3.3.4)."""

from __future__ import annotations

from struct import Struct, pack, unpack_from
from typing import NamedTuple, Self

from stack.core.errors import ParseError
from stack.core.serial import Tsn
from stack.sctp.chunks.data import new_tuple
from stack.sctp.chunks.registry import register_chunk

SACK = 3
_FIXED = Struct("!IIHH")
_WHOLE = Struct("!BBHIIHH")
SACK_OVERHEAD = _WHOLE.size


@register_chunk(SACK)
class SackChunk(NamedTuple):
    r"""SACK: what the receiver has (RFC 9260 §3.3.4).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |    Type = 3   |  Chunk Flags  |          Chunk Length         |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                       Cumulative TSN Ack                      |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |           Advertised Receiver Window Credit (a_rwnd)          |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |  Number of Gap Ack Blocks = N |  Number of Duplicate TSNs = M |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |     Gap Ack Block #1 Start    |      Gap Ack Block #1 End     |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                              ...                              \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                        Duplicate TSN 1                        |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                              ...                              \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

    `gaps` are the (start, end) offsets of the gap ack blocks from `cumulative_tsn_ack`, both included.
    """

    cumulative_tsn_ack: Tsn
    a_rwnd: int
    gaps: tuple[tuple[int, int], ...] = ()
    duplicates: tuple[Tsn, ...] = ()

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value; the gap blocks must be in order, as §3.3.4 has them."""
        if len(value) < 12:
            raise ParseError("truncated SACK")
        cumulative, a_rwnd, gap_count, duplicate_count = _FIXED.unpack_from(value)
        if not gap_count and not duplicate_count:
            return new_tuple(cls, (cumulative, a_rwnd, (), ()))
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
        return new_tuple(cls, (cumulative, a_rwnd, gaps, duplicates))

    def serialize(self) -> bytes:
        """Return the chunk, which needs no padding."""
        cumulative, a_rwnd, gaps, duplicates = self
        size = SACK_OVERHEAD + 4 * (len(gaps) + len(duplicates))
        fixed = _WHOLE.pack(SACK, 0, size, cumulative, a_rwnd, len(gaps), len(duplicates))
        if not gaps and not duplicates:
            return fixed
        edges = [edge for gap in gaps for edge in gap]
        return fixed + pack(f"!{len(edges)}H{len(duplicates)}I", *edges, *duplicates)
