r"""The SCTP packet: a common header and chunks (RFC 9260 §3, §3.1, §6.8), and its zero checksum (RFC 9653).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |       Source Port Number      |    Destination Port Number    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                        Verification Tag                       |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                            Checksum                           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    \                            Chunk #1                           \
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    \                            Chunk #n                           \
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

The checksum is CRC32c, the only number in SCTP that travels least significant byte first.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from stack.core.errors import ParseError
from stack.sctp.chunks import CHUNK_PARSERS, Chunk, UnknownChunk
from stack.sctp.chunks.data import new_tuple
from stack.sctp.crc32c import crc32c_extend

_HEADER = Struct("!HHI")
_CHUNK = Struct("!BBH")
_NO_CHECKSUM = b"\0\0\0\0"
COMMON_HEADER_SIZE = 12
MAX_CHUNKS = 512
"""More chunks than this in one packet are refused; 1500 bytes hold 372 of the smallest."""


class Packet(NamedTuple):
    """A packet that arrived; its checksum was right, or was zero and `accept_zero_checksum` allowed that."""

    source_port: int
    destination_port: int
    verification_tag: int
    chunks: list[Chunk]

    @classmethod
    def parse(cls, data: bytes, *, accept_zero_checksum: bool = False) -> Packet:
        """Read a packet; raises `ParseError` for a wrong checksum or anything that is not SCTP."""
        size = len(data)
        if size < COMMON_HEADER_SIZE + 4:
            raise ParseError("too short for SCTP")
        checksum = data[8:12]
        # RFC 9653 §5.3: a zero checksum is accepted from a peer to whom that was announced; a right one always is.
        if not (accept_zero_checksum and checksum == _NO_CHECKSUM):
            actual = crc32c_extend(0, data[:8] + _NO_CHECKSUM + data[COMMON_HEADER_SIZE:])
            if actual.to_bytes(4, "little") != checksum:
                raise ParseError("wrong checksum")
        source, destination, tag = _HEADER.unpack_from(data)
        chunks: list[Chunk] = []
        parsers = CHUNK_PARSERS
        offset = COMMON_HEADER_SIZE
        while offset < size:
            if size - offset < 4 or len(chunks) == MAX_CHUNKS:
                raise ParseError("truncated chunk header, or too many chunks")
            chunk_type, flags, length = _CHUNK.unpack_from(data, offset)
            end = offset + length
            if length < 4 or end > size:
                raise ParseError(f"chunk {chunk_type} has length {length}, {size - offset} bytes left")
            value = data[offset + 4 : end]
            parser = parsers.get(chunk_type)
            chunks.append(parser(flags, value) if parser is not None else UnknownChunk(chunk_type, flags, value))
            offset = end + (-length & 3)
        return new_tuple(cls, (source, destination, tag, chunks))


def build_packet(
    source_port: int, destination_port: int, tag: int, chunks: Iterable[bytes], *, zero_checksum: bool = False
) -> bytes:
    """Return a packet of serialized, padded chunks."""
    return build_packets(source_port, destination_port, tag, (b"".join(chunks),), zero_checksum=zero_checksum)[0]


def build_packets(
    source_port: int, destination_port: int, tag: int, bodies: Iterable[bytes], *, zero_checksum: bool = False
) -> list[bytes]:
    """Return a packet for each body, which is one chunk or several; their common header is summed once for all."""
    header = _HEADER.pack(source_port, destination_port, tag)
    if zero_checksum:
        header += _NO_CHECKSUM
        return [header + body for body in bodies]
    crc = crc32c_extend(0, header + _NO_CHECKSUM)
    return [header + crc32c_extend(crc, body).to_bytes(4, "little") + body for body in bodies]
