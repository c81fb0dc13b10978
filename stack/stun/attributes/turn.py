"""The attributes of TURN (RFC 8656 §18), and ALTERNATE-SERVER, which names another server (RFC 8489 §14.15).

Left out, as the client asks for none of it: EVEN-PORT, DONT-FRAGMENT, RESERVATION-TOKEN, ICMP.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from stack.core.errors import ParseError
from stack.core.stun_framing import TransactionId
from stack.core.wire import Reader, Writer
from stack.stun.attributes.address import TransportAddress, XorTransportAddress
from stack.stun.attributes.base import Attribute, OpaqueAttribute, UnsignedAttribute, register_attribute

UDP_PROTOCOL_NUMBER = 17
"""IANA's, for REQUESTED-TRANSPORT."""


class AddressFamily(IntEnum):
    """RFC 8489 §14.1."""

    IPV4 = 0x01
    IPV6 = 0x02


@dataclass(frozen=True, slots=True)
class _PaddedNumber(Attribute):
    """A number, followed by bytes that are zero when sent and ignored when received, four in all."""

    value: int

    _SIZE = 1

    @classmethod
    def parse(cls, value: bytes, transaction_id: TransactionId) -> Self:
        """Read the number."""
        reader = Reader(value)
        number = int.from_bytes(reader.take(cls._SIZE), "big")
        reader.skip(4 - cls._SIZE)
        reader.expect_end(cls.NAME)
        return cls(number)

    def serialize(self, transaction_id: TransactionId) -> bytes:
        """Write the number."""
        return Writer().put(self.value.to_bytes(self._SIZE, "big")).put(bytes(4 - self._SIZE)).finish()


@register_attribute
@dataclass(frozen=True, slots=True)
class ChannelNumber(_PaddedNumber):
    """CHANNEL-NUMBER (RFC 8656 §18.1).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |         Channel Number        |            RFFU = 0           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x000C
    NAME = "CHANNEL-NUMBER"
    _SIZE = 2


@register_attribute
@dataclass(frozen=True, slots=True)
class Lifetime(UnsignedAttribute):
    """LIFETIME (RFC 8656 §18.2): seconds until an allocation expires without a refresh.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                            Lifetime                           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x000D
    NAME = "LIFETIME"


@register_attribute
@dataclass(frozen=True, slots=True)
class XorPeerAddress(XorTransportAddress):
    """XOR-PEER-ADDRESS (RFC 8656 §18.3): the peer as the server sees it.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |       0       |     Family    |             X-Port            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                X-Address (32 bits or 128 bits)                |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x0012
    NAME = "XOR-PEER-ADDRESS"


@register_attribute
@dataclass(frozen=True, slots=True)
class Data(OpaqueAttribute):
    """DATA (RFC 8656 §18.4): what is relayed, a whole datagram.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                       Application data                        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x0013
    NAME = "DATA"


@register_attribute
@dataclass(frozen=True, slots=True)
class XorRelayedAddress(XorTransportAddress):
    """XOR-RELAYED-ADDRESS (RFC 8656 §18.5): what the server has allocated.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |       0       |     Family    |             X-Port            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                X-Address (32 bits or 128 bits)                |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x0016
    NAME = "XOR-RELAYED-ADDRESS"


@register_attribute
@dataclass(frozen=True, slots=True)
class RequestedAddressFamily(_PaddedNumber):
    """REQUESTED-ADDRESS-FAMILY (RFC 8656 §18.6): of the relayed address, an `AddressFamily`.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     Family    |                  Reserved                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x0017
    NAME = "REQUESTED-ADDRESS-FAMILY"


@register_attribute
@dataclass(frozen=True, slots=True)
class RequestedTransport(_PaddedNumber):
    """REQUESTED-TRANSPORT (RFC 8656 §18.8): between server and peer; only UDP is allowed.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |    Protocol   |                    RFFU                       |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    value: int = UDP_PROTOCOL_NUMBER

    TYPE = 0x0019
    NAME = "REQUESTED-TRANSPORT"


@register_attribute
@dataclass(frozen=True, slots=True)
class AdditionalAddressFamily(_PaddedNumber):
    """ADDITIONAL-ADDRESS-FAMILY (RFC 8656 §18.11): ask for an IPv6 address beside the IPv4 one.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     Family    |                  Reserved                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x8000
    NAME = "ADDITIONAL-ADDRESS-FAMILY"


@register_attribute
@dataclass(frozen=True, slots=True)
class AddressErrorCode(Attribute):
    """ADDRESS-ERROR-CODE (RFC 8656 §18.12): why there is no address of one of two families.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Family       |    Reserved             |Class|     Number    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             Reason Phrase, UTF-8 (up to 763 bytes)            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    family: int
    code: int
    reason: str = ""

    TYPE = 0x8001
    NAME = "ADDRESS-ERROR-CODE"

    @classmethod
    def parse(cls, value: bytes, transaction_id: TransactionId) -> Self:
        """Read family, class, number and reason phrase."""
        reader = Reader(value)
        family = reader.u8()
        reader.skip(1)
        hundreds, number = reader.u8() & 0x07, reader.u8()
        if not 3 <= hundreds <= 6 or number > 99:
            raise ParseError(f"ADDRESS-ERROR-CODE {hundreds}/{number} is out of range")
        return cls(family, hundreds * 100 + number, reader.rest().decode(errors="replace"))

    def serialize(self, transaction_id: TransactionId) -> bytes:
        """Write family, class, number and reason phrase."""
        writer = Writer().u8(self.family).u8(0).u8(self.code // 100).u8(self.code % 100)
        return writer.put(self.reason.encode()).finish()


@register_attribute
@dataclass(frozen=True, slots=True)
class AlternateServer(TransportAddress):
    """ALTERNATE-SERVER (RFC 8489 §14.15): where to go instead.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |       0       |     Family    |              Port             |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                 Address (32 bits or 128 bits)                 |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x8023
    NAME = "ALTERNATE-SERVER"
