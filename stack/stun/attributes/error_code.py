"""ERROR-CODE and UNKNOWN-ATTRIBUTES: why a request failed (RFC 8489 §14.8, §14.13)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from stack.core.errors import ParseError
from stack.core.stun_framing import TransactionId
from stack.core.wire import Reader, Writer
from stack.stun.attributes.base import MAX_TEXT_SIZE, Attribute, register_attribute


class ErrorNumber(IntEnum):
    """The error codes that ICE agents exchange (RFC 8489 §14.8, RFC 8445 §7.3.1.1)."""

    BAD_REQUEST = 400
    UNAUTHENTICATED = 401
    UNKNOWN_ATTRIBUTE = 420
    ROLE_CONFLICT = 487
    SERVER_ERROR = 500


@register_attribute
@dataclass(frozen=True, slots=True)
class ErrorCode(Attribute):
    """ERROR-CODE (RFC 8489 §14.8).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |          Reserved, should be 0          |Class|     Number    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             Reason Phrase, UTF-8 (up to 763 bytes)            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    code: int
    reason: str = ""

    TYPE = 0x0009
    NAME = "ERROR-CODE"

    @classmethod
    def parse(cls, value: bytes, transaction_id: TransactionId) -> Self:
        """Read class, number and reason phrase."""
        reader = Reader(value)
        reader.skip(2)
        hundreds, number = reader.u8() & 0x07, reader.u8()
        if not 3 <= hundreds <= 6 or number > 99:
            raise ParseError(f"ERROR-CODE {hundreds}/{number} is out of range")
        reason = reader.rest()
        if len(reason) > MAX_TEXT_SIZE:
            raise ParseError("the reason phrase of ERROR-CODE is too long")
        return cls(hundreds * 100 + number, reason.decode(errors="replace"))

    def serialize(self, transaction_id: TransactionId) -> bytes:
        """Write class, number and reason phrase."""
        return Writer().u16(0).u8(self.code // 100).u8(self.code % 100).put(self.reason.encode()).finish()


@register_attribute
@dataclass(frozen=True, slots=True)
class UnknownAttributes(Attribute):
    """UNKNOWN-ATTRIBUTES (RFC 8489 §14.13): the types that made a request fail with 420.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |        Attribute 1 Type       |        Attribute 2 Type       |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                              ...                              |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    types: tuple[int, ...]

    TYPE = 0x000A
    NAME = "UNKNOWN-ATTRIBUTES"

    @classmethod
    def parse(cls, value: bytes, transaction_id: TransactionId) -> Self:
        """Read the list."""
        reader, types = Reader(value), []
        while reader:
            types.append(reader.u16())
        return cls(tuple(types))

    def serialize(self, transaction_id: TransactionId) -> bytes:
        """Write the list."""
        return b"".join(number.to_bytes(2, "big") for number in self.types)
