"""The header and the attributes of a STUN message as spans of bytes (RFC 8489 §5, §14), for demultiplexing.

Nothing here builds an object. The demultiplexer of a socket asks `is_stun`; the endpoint, which looks for the
session of an unknown source, asks `peek_username`. Neither proves who sent the datagram; that is what
`stack.stun.integrity` is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, NewType

from stack.core.errors import ParseError

MAGIC_COOKIE = 0x2112A442
MAGIC_COOKIE_BYTES = MAGIC_COOKIE.to_bytes(4, "big")
HEADER_SIZE = 20
TRANSACTION_ID_SIZE = 12
ATTRIBUTE_HEADER_SIZE = 4

USERNAME_TYPE = 0x0006
"""Of the one attribute that is read before a message is parsed."""

TransactionId = NewType("TransactionId", bytes)
"""96 bits (RFC 8489 §5)."""


class AttributeSpan(NamedTuple):
    """Where one attribute lies inside a message."""

    type: int
    start: int
    """Offset of the attribute's own header."""
    length: int
    """Length of the value, padding excluded."""

    @property
    def value_start(self) -> int:
        """Offset of the value."""
        return self.start + ATTRIBUTE_HEADER_SIZE

    @property
    def value_end(self) -> int:
        """Offset of the first byte behind the value; padding may follow."""
        return self.start + ATTRIBUTE_HEADER_SIZE + self.length


def is_stun(data: bytes) -> bool:
    """Return True if the datagram has the shape of a STUN message (RFC 8489 §5, RFC 7983 §7). Cheap, no proof."""
    size = len(data)
    return (
        size >= HEADER_SIZE
        and data[0] < 4
        and data[4:8] == MAGIC_COOKIE_BYTES
        and (data[2] << 8 | data[3]) == size - HEADER_SIZE
        and size % 4 == 0
    )


def walk_attributes(data: bytes) -> Iterator[AttributeSpan]:
    """Yield every attribute of a message that passed `is_stun`; raise `ParseError` where one runs over the end."""
    position, end = HEADER_SIZE, len(data)
    while position < end:
        if position + ATTRIBUTE_HEADER_SIZE > end:
            raise ParseError("STUN attribute header cut off")
        length = data[position + 2] << 8 | data[position + 3]
        # RFC 8489 §14: the value is padded to a multiple of four bytes, the length does not count the padding.
        following = position + ATTRIBUTE_HEADER_SIZE + length + (-length % 4)
        if following > end:
            raise ParseError("STUN attribute runs over the end of the message")
        yield AttributeSpan(data[position] << 8 | data[position + 1], position, length)
        position = following


def peek_username(data: bytes) -> str | None:
    """Return USERNAME without parsing the rest; None if this is no STUN message or has none.

    In an ICE check it reads "receiver's ufrag:sender's ufrag" (RFC 8445 §7.2.2). Unauthenticated.
    """
    if not is_stun(data):
        return None
    try:
        for span in walk_attributes(data):
            if span.type == USERNAME_TYPE:
                return data[span.value_start : span.value_end].decode()
    except (ParseError, UnicodeDecodeError):
        return None
    return None
