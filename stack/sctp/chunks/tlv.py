r"""What all chunks, parameters and error causes are made of: type (and flags), length, value, padding.

A chunk (RFC 9260 §3.2)::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |   Chunk Type  |  Chunk Flags  |         Chunk Length          |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    \                          Chunk Value                          \
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

A parameter (§3.2.1); an error cause (§3.3.10) is the same with a cause code in place of the type::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |        Parameter Type         |       Parameter Length        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    \                        Parameter Value                        \
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

The length counts the header and the value, but not the padding to four bytes (RFC 9260 §3.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple, Protocol

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


def build_chunk(chunk_type: int, flags: int, value: bytes) -> bytes:
    """Return a padded chunk."""
    size = HEADER_SIZE + len(value)
    if size > 0xFFFF:
        raise LocalError(f"a chunk of {size} bytes does not fit its length field")
    return b"".join((_CHUNK.pack(chunk_type, flags, size), value, padding(size)))


class Parameter(Protocol):
    """A parameter or error cause, known or not."""

    def serialize(self) -> bytes:
        """Return the bytes without padding."""
        ...


class RawParameter(NamedTuple):
    """A parameter or error cause whose value was not read; the box is in this module's docstring."""

    parameter_type: int
    value: bytes

    def serialize(self) -> bytes:
        """Return the bytes without padding."""
        return build_parameter(self.parameter_type, self.value)


def build_parameter(parameter_type: int, value: bytes) -> bytes:
    """Return a parameter or error cause without padding."""
    return _PARAMETER.pack(parameter_type, HEADER_SIZE + len(value)) + value


def parse_parameters(data: bytes) -> Iterator[RawParameter]:
    """Yield the parameters that fill `data`; the padding of the last one may be missing."""
    offset, size, count = 0, len(data), 0
    while offset < size:
        if size - offset < HEADER_SIZE:
            raise ParseError("truncated parameter header")
        parameter_type, length = _PARAMETER.unpack_from(data, offset)
        end = offset + length
        if length < HEADER_SIZE or end > size:
            raise ParseError(f"parameter {parameter_type} has length {length}, {size - offset} bytes left")
        count += 1
        if count > MAX_PARAMETERS:
            raise ParseError("too many parameters")
        yield RawParameter(parameter_type, data[offset + HEADER_SIZE : end])
        offset = end + (-length & 3)


def build_parameters(parameters: Iterable[Parameter]) -> bytes:
    """Return the parameters one after the other, each padded except the last (RFC 9260 §3.2.1)."""
    out = bytearray()
    for parameter in parameters:
        out += padding(len(out))
        out += parameter.serialize()
    return bytes(out)
