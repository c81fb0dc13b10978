"""Reading and writing binary structures in network byte order.

`Reader` raises `ParseError` and nothing else; it never copies more than it is asked for. `Writer` collects
bytes; a length that stands before its content is written by `with writer.vector16():`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from struct import Struct

from stack.core.errors import LocalError, ParseError

_U16 = Struct("!H")
_U32 = Struct("!I")
_U64 = Struct("!Q")


class Reader:
    """A cursor over bytes received from outside."""

    __slots__ = ("_data", "_end", "_position")

    def __init__(self, data: bytes | memoryview, start: int = 0, end: int | None = None) -> None:
        self._data = bytes(data) if isinstance(data, memoryview) else data
        self._position = start
        self._end = len(self._data) if end is None else end

    @property
    def position(self) -> int:
        """Offset of the next byte from the start of the underlying data."""
        return self._position

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return self._end - self._position

    def __bool__(self) -> bool:
        return self._position < self._end

    def _advance(self, size: int) -> int:
        start = self._position
        if size < 0 or start + size > self._end:
            raise ParseError(f"truncated: {size} bytes wanted, {self._end - start} left")
        self._position = start + size
        return start

    def u8(self) -> int:
        """Read one byte as an unsigned number."""
        return self._data[self._advance(1)]

    def u16(self) -> int:
        """Read two bytes as an unsigned number."""
        value: int = _U16.unpack_from(self._data, self._advance(2))[0]
        return value

    def u24(self) -> int:
        """Read three bytes as an unsigned number."""
        return int.from_bytes(self.take(3), "big")

    def u32(self) -> int:
        """Read four bytes as an unsigned number."""
        value: int = _U32.unpack_from(self._data, self._advance(4))[0]
        return value

    def u48(self) -> int:
        """Read six bytes as an unsigned number."""
        return int.from_bytes(self.take(6), "big")

    def u64(self) -> int:
        """Read eight bytes as an unsigned number."""
        value: int = _U64.unpack_from(self._data, self._advance(8))[0]
        return value

    def take(self, size: int) -> bytes:
        """Read exactly `size` bytes."""
        start = self._advance(size)
        return self._data[start : start + size]

    def rest(self) -> bytes:
        """Read all that is left; may be empty."""
        return self.take(self.remaining)

    def skip(self, size: int) -> None:
        """Pass over `size` bytes."""
        self._advance(size)

    def sub(self, size: int) -> Reader:
        """Return a reader of the next `size` bytes and pass over them."""
        start = self._advance(size)
        return Reader(self._data, start, start + size)

    def vector8(self) -> Reader:
        """Return a reader of a vector that follows its one-byte length."""
        return self.sub(self.u8())

    def vector16(self) -> Reader:
        """Return a reader of a vector that follows its two-byte length."""
        return self.sub(self.u16())

    def vector24(self) -> Reader:
        """Return a reader of a vector that follows its three-byte length."""
        return self.sub(self.u24())

    def expect_end(self, what: str) -> None:
        """Raise `ParseError` if anything is left of `what`."""
        if self._position != self._end:
            raise ParseError(f"{self.remaining} bytes too many in {what}")


class Writer:
    """Collects the bytes of a structure."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def __len__(self) -> int:
        return len(self._buffer)

    def u8(self, value: int) -> Writer:
        """Write one byte."""
        self._buffer.append(value)
        return self

    def u16(self, value: int) -> Writer:
        """Write a two-byte number."""
        self._buffer += _U16.pack(value)
        return self

    def u24(self, value: int) -> Writer:
        """Write a three-byte number."""
        self._buffer += value.to_bytes(3, "big")
        return self

    def u32(self, value: int) -> Writer:
        """Write a four-byte number."""
        self._buffer += _U32.pack(value)
        return self

    def u48(self, value: int) -> Writer:
        """Write a six-byte number."""
        self._buffer += value.to_bytes(6, "big")
        return self

    def u64(self, value: int) -> Writer:
        """Write an eight-byte number."""
        self._buffer += _U64.pack(value)
        return self

    def put(self, data: bytes) -> Writer:
        """Write bytes as they are."""
        self._buffer += data
        return self

    def pad(self, multiple: int, value: int = 0) -> Writer:
        """Fill up with `value` to the next multiple of `multiple` bytes."""
        self._buffer += bytes([value]) * (-len(self._buffer) % multiple)
        return self

    @contextmanager
    def _vector(self, width: int) -> Iterator[None]:
        at = len(self._buffer)
        self._buffer += bytes(width)
        yield
        size = len(self._buffer) - at - width
        if size >> (8 * width):
            raise LocalError(f"a vector of {size} bytes does not fit a {width}-byte length")
        self._buffer[at : at + width] = size.to_bytes(width, "big")

    def vector8(self) -> AbstractContextManager[None]:
        """Context: what is written inside follows its one-byte length."""
        return self._vector(1)

    def vector16(self) -> AbstractContextManager[None]:
        """Context: what is written inside follows its two-byte length."""
        return self._vector(2)

    def vector24(self) -> AbstractContextManager[None]:
        """Context: what is written inside follows its three-byte length."""
        return self._vector(3)

    def finish(self) -> bytes:
        """Return everything written so far."""
        return bytes(self._buffer)
