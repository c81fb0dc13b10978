"""What every STUN attribute is (RFC 8489 §14), the table of their types, and the shapes that several share.

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|              Type             |             Length            |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|       Value (variable), padded with zeros to whole words      |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

`parse` takes the value without header and padding; the transaction identifier is there because XOR-MAPPED-ADDRESS
is masked with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self, TypeVar

from stack.core.errors import LocalError, ParseError
from stack.core.registry import add_once
from stack.core.stun_framing import TransactionId

MAX_TEXT_SIZE = 763
"""SOFTWARE, REALM, NONCE and the reason phrase: fewer than 128 characters, hence at most 763 bytes."""


class Attribute:
    """What every attribute has: a type, a value from bytes, a value to bytes.

    No `ABC`: its metaclass would make each `isinstance` with another class run Python code.
    """

    __slots__ = ()

    TYPE: ClassVar[int]
    """IANA's number; below 0x8000 the receiver must understand the attribute (RFC 8489 §14)."""
    NAME: ClassVar[str]
    """As the RFC writes it."""

    @property
    def type(self) -> int:
        """The attribute's number on the wire."""
        return self.TYPE

    @classmethod
    def parse(cls, value: bytes, transaction_id: TransactionId) -> Self:
        """Read the value, without header and padding."""
        raise NotImplementedError

    def serialize(self, transaction_id: TransactionId) -> bytes:
        """Return the value, without header and padding."""
        raise NotImplementedError


AttributeT = TypeVar("AttributeT", bound=Attribute)

_PARSERS: dict[int, Callable[[bytes, TransactionId], Attribute]] = {}


def register_attribute(kind: type[AttributeT]) -> type[AttributeT]:
    """Class decorator: attributes of this `TYPE` are read by the class; `LocalError` if another one reads them."""
    parse: Callable[[bytes, TransactionId], Attribute] = kind.parse
    add_once(_PARSERS, kind.TYPE, parse)
    return kind


def parse_attribute(number: int, value: bytes, transaction_id: TransactionId) -> Attribute:
    """Make the attribute of type `number` from its value."""
    parse = _PARSERS.get(number)
    return UnknownAttribute(number, value) if parse is None else parse(value, transaction_id)


@dataclass(frozen=True, slots=True)
class UnknownAttribute(Attribute):
    """An attribute of a type without a class."""

    number: int
    value: bytes

    @property
    def type(self) -> int:
        """The attribute's number on the wire."""
        return self.number

    @property
    def comprehension_required(self) -> bool:
        """True if a request that holds it has to be refused with 420 (RFC 8489 §6.3.1)."""
        return self.number < 0x8000

    @classmethod
    def parse(cls, value: bytes, transaction_id: TransactionId) -> Self:
        """Not used: the number is not in the value."""
        raise LocalError("an unknown attribute is made with its number")

    def serialize(self, transaction_id: TransactionId) -> bytes:
        """Return the value as it was received."""
        return self.value


@dataclass(frozen=True, slots=True)
class TextAttribute(Attribute):
    """UTF-8 text, not terminated."""

    value: str

    MAX_SIZE: ClassVar[int] = MAX_TEXT_SIZE
    """Bytes."""

    @classmethod
    def parse(cls, value: bytes, transaction_id: TransactionId) -> Self:
        """Read the text."""
        if len(value) > cls.MAX_SIZE:
            raise ParseError(f"{cls.NAME} is longer than {cls.MAX_SIZE} bytes")
        try:
            return cls(value.decode())
        except UnicodeDecodeError as error:
            raise ParseError(f"{cls.NAME} is not UTF-8") from error

    def serialize(self, transaction_id: TransactionId) -> bytes:
        """Write the text."""
        return self.value.encode()


@dataclass(frozen=True, slots=True)
class OpaqueAttribute(Attribute):
    """Bytes that mean nothing to STUN itself."""

    value: bytes

    SIZES: ClassVar[range] = range(0x10000)
    """How many there may be."""

    @classmethod
    def parse(cls, value: bytes, transaction_id: TransactionId) -> Self:
        """Keep the bytes."""
        if len(value) not in cls.SIZES:
            raise ParseError(f"{cls.NAME} cannot have {len(value)} bytes")
        return cls(value)

    def serialize(self, transaction_id: TransactionId) -> bytes:
        """Return the bytes."""
        return self.value


@dataclass(frozen=True, slots=True)
class UnsignedAttribute(Attribute):
    """An unsigned number of `SIZE` bytes."""

    value: int

    SIZE: ClassVar[int] = 4

    @classmethod
    def parse(cls, value: bytes, transaction_id: TransactionId) -> Self:
        """Read the number."""
        if len(value) != cls.SIZE:
            raise ParseError(f"{cls.NAME} has {len(value)} bytes, not {cls.SIZE}")
        return cls(int.from_bytes(value, "big"))

    def serialize(self, transaction_id: TransactionId) -> bytes:
        """Write the number."""
        return self.value.to_bytes(self.SIZE, "big")
