"""Chunks of an unknown type, and what the two highest bits of the type ask for (RFC 9260 §3.2)."""

from __future__ import annotations

from dataclasses import dataclass

from stack.sctp.chunks.tlv import build_chunk


@dataclass(frozen=True, slots=True)
class UnknownChunk:
    r"""A chunk of a type that is not registered.

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |S|R|   Type    |     Flags     |            Length             |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                             Value                             \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

    S: skip this chunk and go on, otherwise discard the rest of the packet; R: report it in an ERROR.
    """

    chunk_type: int
    flags: int
    value: bytes

    @property
    def is_skipped(self) -> bool:
        """True: pass over the chunk and go on; False: discard the rest of the packet."""
        return bool(self.chunk_type & 0x80)

    @property
    def is_reported(self) -> bool:
        """True: report the chunk to its sender."""
        return bool(self.chunk_type & 0x40)

    def serialize(self) -> bytes:
        """Return the padded chunk as it came."""
        return build_chunk(self.chunk_type, self.flags, self.value)
