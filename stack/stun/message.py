"""The STUN message (RFC 8489 §5).

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|0|0|     STUN Message Type     |         Message Length        |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|                   Magic Cookie = 0x2112A442                   |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|                                                               |
+                                                               +
|                    Transaction ID (96 bits)                   |
+                                                               +
|                                                               |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|                         Attributes ...                        |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

The message type interleaves class and method:

 0                   1
 0 1 2 3 4 5 6 7 8 9 0 1 2 3
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|M|M|M|M|M|C|M|M|M|C|M|M|M|M|
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

`Message.parse` refuses what is not well-formed, checks FINGERPRINT where there is one, and leaves out what stands
behind MESSAGE-INTEGRITY, which does not cover it. Whether the sender knows the password is a separate question:
`stack.stun.integrity.verify_integrity`.

Left out: the classic STUN of RFC 3489 (no magic cookie).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Self, TypeVar

from stack.core.errors import LocalError, ParseError
from stack.core.stun_framing import (
    HEADER_SIZE,
    MAGIC_COOKIE,
    TRANSACTION_ID_SIZE,
    TransactionId,
    is_stun,
    walk_attributes,
)
from stack.core.wire import Writer
from stack.stun.attributes import Attribute, UnknownAttribute, parse_attribute
from stack.stun.attributes.integrity import Fingerprint, MessageIntegrity, MessageIntegritySha256
from stack.stun.integrity import add_fingerprint, add_integrity, fingerprint_fits

MAX_ATTRIBUTES = 64
"""Attributes read of one message; checks of browsers have ten."""

MAX_METHOD = 0x0FF
"""The field has 12 bits; RFC 8489 §18.2 gives out only these, and RFC 7983 tells STUN apart by it."""

AttributeT = TypeVar("AttributeT", bound=Attribute)

_FINGERPRINT = Fingerprint.TYPE
_INTEGRITY_TYPES = frozenset((MessageIntegrity.TYPE, MessageIntegritySha256.TYPE))
_AFTER_INTEGRITY = frozenset((MessageIntegritySha256.TYPE, Fingerprint.TYPE))
"""RFC 8489 §14.5: what follows MESSAGE-INTEGRITY is ignored, but for these two."""


class MessageClass(IntEnum):
    """The two class bits (RFC 8489 §5)."""

    REQUEST = 0b00
    INDICATION = 0b01
    SUCCESS_RESPONSE = 0b10
    ERROR_RESPONSE = 0b11


class Method(IntEnum):
    """The methods of STUN itself, and of TURN (RFC 8656 §17)."""

    BINDING = 0x001
    ALLOCATE = 0x003
    REFRESH = 0x004
    SEND = 0x006
    DATA = 0x007
    CREATE_PERMISSION = 0x008
    CHANNEL_BIND = 0x009


def _message_type(message_class: MessageClass, method: int) -> int:
    """Interleave: M11..M7 C1 M6..M4 C0 M3..M0."""
    m_low, m_middle, m_high = method & 0x000F, method & 0x0070, method & 0x0F80
    return m_high << 2 | (message_class & 0b10) << 7 | m_middle << 1 | (message_class & 0b01) << 4 | m_low


def _split_message_type(message_type: int) -> tuple[MessageClass, int]:
    message_class = MessageClass((message_type >> 7) & 0b10 | (message_type >> 4) & 0b01)
    return message_class, (message_type >> 2) & 0x0F80 | (message_type >> 1) & 0x0070 | message_type & 0x000F


@dataclass(frozen=True, slots=True)
class Message:
    """One STUN message. The order of the attributes is kept."""

    message_class: MessageClass
    method: int
    transaction_id: TransactionId
    attributes: tuple[Attribute, ...] = ()

    def __post_init__(self) -> None:
        if len(self.transaction_id) != TRANSACTION_ID_SIZE:
            raise LocalError(f"a transaction identifier has {TRANSACTION_ID_SIZE} bytes")
        if not 0 <= self.method <= MAX_METHOD:
            raise LocalError(f"a STUN method is at most {MAX_METHOD}")

    def get(self, kind: type[AttributeT]) -> AttributeT | None:
        """Return the first attribute of this class: only the first counts (RFC 8489 §14)."""
        for attribute in self.attributes:
            if isinstance(attribute, kind):
                return attribute
        return None

    def get_all(self, kind: type[AttributeT]) -> tuple[AttributeT, ...]:
        """Return every attribute of this class, as of the relayed addresses (RFC 8656 §7.3)."""
        return tuple(attribute for attribute in self.attributes if isinstance(attribute, kind))

    def with_attributes(self, *attributes: Attribute) -> Self:
        """Return the message with more attributes at its end."""
        return replace(self, attributes=self.attributes + attributes)

    def respond(self, message_class: MessageClass, *attributes: Attribute) -> Message:
        """Return a response to this request: the same method and transaction (RFC 8489 §6.3.1)."""
        return Message(message_class, self.method, self.transaction_id, attributes)

    @property
    def unknown_required(self) -> tuple[int, ...]:
        """The types that the receiver would have to understand and does not."""
        return tuple(
            attribute.type
            for attribute in self.attributes
            if isinstance(attribute, UnknownAttribute) and attribute.comprehension_required
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read one whole datagram; raise `ParseError` for anything that is not a well-formed message."""
        if not is_stun(data):
            raise ParseError("not a STUN message")
        message_class, method = _split_message_type(data[0] << 8 | data[1])
        transaction_id = TransactionId(data[8:HEADER_SIZE])
        attributes: list[Attribute] = []
        seen_integrity = False
        for span in walk_attributes(data):
            if len(attributes) == MAX_ATTRIBUTES:
                raise ParseError(f"more than {MAX_ATTRIBUTES} STUN attributes")
            if span.type == _FINGERPRINT and not fingerprint_fits(data, span):
                # RFC 8489 §6.3 and §14.7: the last attribute, and the checksum has to fit.
                raise ParseError("FINGERPRINT does not fit")
            if seen_integrity and span.type not in _AFTER_INTEGRITY:
                continue
            seen_integrity = seen_integrity or span.type in _INTEGRITY_TYPES
            value = data[span.value_start : span.value_end]
            attributes.append(parse_attribute(span.type, value, transaction_id))
        return cls(message_class, method, transaction_id, tuple(attributes))

    def serialize(self) -> bytes:
        """Write the message with the attributes just as they are listed; padding is zero."""
        body = Writer()
        for attribute in self.attributes:
            value = attribute.serialize(self.transaction_id)
            body.u16(attribute.type).u16(len(value)).put(value).pad(4)
        header = Writer().u16(_message_type(self.message_class, self.method)).u16(len(body)).u32(MAGIC_COOKIE)
        return header.put(self.transaction_id).put(body.finish()).finish()

    def sign(self, key: bytes) -> bytes:
        """Write the message with MESSAGE-INTEGRITY made with `key`, and FINGERPRINT, behind the attributes."""
        return add_fingerprint(add_integrity(self.serialize(), key))

    def serialize_with_fingerprint(self) -> bytes:
        """Write the message with FINGERPRINT alone: for responses without a key, such as 401."""
        return add_fingerprint(self.serialize())
