"""MAPPED-ADDRESS and XOR-MAPPED-ADDRESS: how the server sees the client (RFC 8489 §14.1, §14.2)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Self

from stack.core.errors import ParseError
from stack.core.machine import Address
from stack.core.stun_framing import MAGIC_COOKIE_BYTES, TransactionId
from stack.core.wire import Reader, Writer
from stack.stun.attributes.base import Attribute, register_attribute

_ADDRESS_SIZES = {0x01: 4, 0x02: 16}
"""Bytes by family: IPv4, IPv6 (RFC 8489 §14.1)."""


@dataclass(frozen=True, slots=True)
class TransportAddress(Attribute):
    """An IP address and a port, each masked."""

    address: Address

    @staticmethod
    def _mask(transaction_id: TransactionId) -> bytes:
        return bytes(16)

    @classmethod
    def parse(cls, value: bytes, transaction_id: TransactionId) -> Self:
        """Read family, port and address."""
        reader = Reader(value)
        reader.skip(1)
        family = reader.u8()
        mask = cls._mask(transaction_id)
        port = reader.u16() ^ int.from_bytes(mask[:2], "big")
        size = _ADDRESS_SIZES.get(family)
        if size is None:
            raise ParseError(f"{cls.NAME} of unknown family {family}")
        masked = reader.take(size)
        reader.expect_end(cls.NAME)
        packed = bytes(a ^ b for a, b in zip(masked, mask, strict=False))
        return cls(Address(str(ip_address(packed)), port))

    def serialize(self, transaction_id: TransactionId) -> bytes:
        """Write family, port and address."""
        mask = self._mask(transaction_id)
        packed = ip_address(self.address.host).packed
        writer = Writer().u8(0).u8(2 if len(packed) == 16 else 1)
        writer.u16(self.address.port ^ int.from_bytes(mask[:2], "big"))
        return writer.put(bytes(a ^ b for a, b in zip(packed, mask, strict=False))).finish()


@register_attribute
@dataclass(frozen=True, slots=True)
class MappedAddress(TransportAddress):
    """MAPPED-ADDRESS (RFC 8489 §14.1): the source address in clear.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |       0       |     Family    |              Port             |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                 Address (32 bits or 128 bits)                 |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x0001
    NAME = "MAPPED-ADDRESS"


@dataclass(frozen=True, slots=True)
class XorTransportAddress(TransportAddress):
    """An address that is masked with the magic cookie, followed by the transaction identifier."""

    @staticmethod
    def _mask(transaction_id: TransactionId) -> bytes:
        return MAGIC_COOKIE_BYTES + transaction_id


@register_attribute
@dataclass(frozen=True, slots=True)
class XorMappedAddress(XorTransportAddress):
    """XOR-MAPPED-ADDRESS (RFC 8489 §14.2): the source address, masked against NATs that rewrite addresses in data.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |       0       |     Family    |             X-Port            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                X-Address (32 bits or 128 bits)                |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

    The mask is the magic cookie, followed by the transaction identifier.
    """

    TYPE = 0x0020
    NAME = "XOR-MAPPED-ADDRESS"
