"""What all chunks, parameters and error causes are made of: type (and flags), length, value, padding.

RFC 9260 §3.2 (chunk), §3.2.1 (parameter), §3.3.10 (error cause)::

    chunk      | type 8 | flags 8 | length 16 | value … | padding to 4 |
    parameter  |     type 16      | length 16 | value … | padding to 4 |

The length counts the header and the value, but not the padding (RFC 9260 §3.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

from stack.core.errors import LocalError, ParseError

_CHUNK = Struct("!BBH")
_PARAMETER = Struct("!HH")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
HEADER_SIZE = 4
MAX_PARAMETERS = 64
"""More parameters or causes than this in one chunk are refused: no honest peer comes near."""


def padding(size: int) -> bytes:
    """Return the zero bytes that bring `size` to a multiple of four."""
    return _PADDING[size & 3]


def build_chunk(kind: int, flags: int, value: bytes) -> bytes:
    """Return a padded chunk."""
    size = HEADER_SIZE + len(value)
    if size > 0xFFFF:
        raise LocalError(f"a chunk of {size} bytes does not fit its length field")
    return b"".join((_CHUNK.pack(kind, flags, size), value, padding(size)))


class RawParameter(NamedTuple):
    """A parameter or error cause before anybody looked into its value."""

    kind: int
    value: bytes

    def serialize(self) -> bytes:
        """Return the bytes without padding."""
        return _PARAMETER.pack(self.kind, HEADER_SIZE + len(self.value)) + self.value


def parse_parameters(data: bytes) -> Iterator[RawParameter]:
    """Yield the parameters that fill `data`; the padding of the last one may be missing."""
    offset, size, count = 0, len(data), 0
    while offset < size:
        if size - offset < HEADER_SIZE:
            raise ParseError("truncated parameter header")
        kind, length = _PARAMETER.unpack_from(data, offset)
        end = offset + length
        if length < HEADER_SIZE or end > size:
            raise ParseError(f"parameter {kind} has length {length}, {size - offset} bytes left")
        count += 1
        if count > MAX_PARAMETERS:
            raise ParseError("too many parameters")
        yield RawParameter(kind, data[offset + HEADER_SIZE : end])
        offset = end + (-length & 3)


def build_parameters(parameters: Iterable[RawParameter]) -> bytes:
    """Return the parameters one after the other, each padded except the last (RFC 9260 §3.2.1)."""
    out = bytearray()
    for parameter in parameters:
        out += padding(len(out))
        out += parameter.serialize()
    return bytes(out)
