"""STUN attributes: one class per attribute, the wire format of its value in the docstring.

RFC 8489 §14 (STUN), RFC 8445 §7.1 (ICE), and two that libwebrtc sends: GOOG-NETWORK-INFO, and the DTLS-IN-STUN
pair of draft-hancke-webrtc-sped. An attribute without a class of its own is an `UnknownAttribute`: kept as it
is, written back as it was. `parse` takes the value without header and padding; the transaction identifier is
there because XOR-MAPPED-ADDRESS is masked with it.

Left out: the attributes of TURN (RFC 8656), USERHASH, PASSWORD-ALGORITHM(S) and ALTERNATE-SERVER, which only
a client or server with long-term credentials needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address
from typing import ClassVar, Self

from stack.core.errors import LocalError, ParseError
from stack.core.machine import Address
from stack.core.wire import Reader, Writer
from stack.stun.framing import MAGIC_COOKIE_BYTES

MAX_USERNAME_SIZE = 513
"""Two ICE username fragments of 256 characters and a colon (RFC 8445 §5.3); RFC 8489 §14.3 itself allows 508."""
MAX_TEXT_SIZE = 763
"""SOFTWARE, REALM, NONCE and the reason phrase: fewer than 128 characters, hence at most 763 bytes."""


class AttributeType(IntEnum):
    """IANA's numbers; below 0x8000 the receiver must understand the attribute (RFC 8489 §14)."""

    MAPPED_ADDRESS = 0x0001
    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    UNKNOWN_ATTRIBUTES = 0x000A
    REALM = 0x0014
    NONCE = 0x0015
    MESSAGE_INTEGRITY_SHA256 = 0x001C
    XOR_MAPPED_ADDRESS = 0x0020
    PRIORITY = 0x0024
    USE_CANDIDATE = 0x0025
    SOFTWARE = 0x8022
    FINGERPRINT = 0x8028
    ICE_CONTROLLED = 0x8029
    ICE_CONTROLLING = 0x802A
    GOOG_NETWORK_INFO = 0xC057
    DTLS_IN_STUN = 0xC070
    DTLS_IN_STUN_ACKNOWLEDGEMENT = 0xC071


class Attribute(ABC):
    """What every attribute has: a type, a value from bytes, a value to bytes."""

    __slots__ = ()

    TYPE: ClassVar[AttributeType]

    @property
    def type(self) -> int:
        """The attribute's number on the wire."""
        return self.TYPE

    @classmethod
    @abstractmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> Self:
        """Read the value, without header and padding."""

    @abstractmethod
    def serialize(self, transaction_id: bytes) -> bytes:
        """Return the value, without header and padding."""


@dataclass(frozen=True, slots=True)
class UnknownAttribute(Attribute):
    """An attribute that this package has no class for."""

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
    def parse(cls, value: bytes, transaction_id: bytes) -> Self:
        """Not used: the number is not in the value."""
        raise LocalError("an unknown attribute is made with its number")

    def serialize(self, transaction_id: bytes) -> bytes:
        """Return the value as it was received."""
        return self.value


# --- shapes that several attributes share ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Text(Attribute):
    """UTF-8 text, not terminated."""

    value: str

    MAX_SIZE: ClassVar[int] = MAX_TEXT_SIZE

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> Self:
        if len(value) > cls.MAX_SIZE:
            raise ParseError(f"{cls.TYPE.name} is longer than {cls.MAX_SIZE} bytes")
        try:
            return cls(value.decode())
        except UnicodeDecodeError as error:
            raise ParseError(f"{cls.TYPE.name} is not UTF-8") from error

    def serialize(self, transaction_id: bytes) -> bytes:
        return self.value.encode()


@dataclass(frozen=True, slots=True)
class _Opaque(Attribute):
    """Bytes whose meaning is somebody else's."""

    value: bytes

    SIZES: ClassVar[range] = range(0x10000)

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> Self:
        if len(value) not in cls.SIZES:
            raise ParseError(f"{cls.TYPE.name} cannot have {len(value)} bytes")
        return cls(value)

    def serialize(self, transaction_id: bytes) -> bytes:
        return self.value


@dataclass(frozen=True, slots=True)
class _Number(Attribute):
    """An unsigned number of `SIZE` bytes."""

    value: int

    SIZE: ClassVar[int] = 4

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> Self:
        if len(value) != cls.SIZE:
            raise ParseError(f"{cls.TYPE.name} has {len(value)} bytes, not {cls.SIZE}")
        return cls(int.from_bytes(value, "big"))

    def serialize(self, transaction_id: bytes) -> bytes:
        return self.value.to_bytes(self.SIZE, "big")


@dataclass(frozen=True, slots=True)
class _TransportAddress(Attribute):
    """An IP address and a port.

    ::

        |  0 (8)  | Family (8)  |  Port (16)  |
        |  Address (32 or 128)                |
    """

    address: Address

    @staticmethod
    def _mask(transaction_id: bytes) -> bytes:
        return bytes(16)

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> Self:
        reader = Reader(value)
        reader.skip(1)
        family = reader.u8()
        mask = cls._mask(transaction_id)
        port = reader.u16() ^ int.from_bytes(mask[:2], "big")
        # RFC 8489 §14.1: 1 is IPv4, 2 is IPv6.
        size = {1: 4, 2: 16}.get(family)
        if size is None:
            raise ParseError(f"{cls.TYPE.name} of unknown family {family}")
        masked = reader.take(size)
        reader.expect_end(cls.TYPE.name)
        packed = bytes(a ^ b for a, b in zip(masked, mask, strict=False))
        return cls(Address(str(ip_address(packed)), port))

    def serialize(self, transaction_id: bytes) -> bytes:
        mask = self._mask(transaction_id)
        packed = ip_address(self.address.host).packed
        writer = Writer().u8(0).u8(2 if len(packed) == 16 else 1)
        writer.u16(self.address.port ^ int.from_bytes(mask[:2], "big"))
        return writer.put(bytes(a ^ b for a, b in zip(packed, mask, strict=False))).finish()


# --- RFC 8489 -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MappedAddress(_TransportAddress):
    """MAPPED-ADDRESS (RFC 8489 §14.1): the source address in clear."""

    TYPE = AttributeType.MAPPED_ADDRESS


@dataclass(frozen=True, slots=True)
class XorMappedAddress(_TransportAddress):
    """XOR-MAPPED-ADDRESS (RFC 8489 §14.2): the source address, masked against NATs that rewrite what they know."""

    TYPE = AttributeType.XOR_MAPPED_ADDRESS

    @staticmethod
    def _mask(transaction_id: bytes) -> bytes:
        return MAGIC_COOKIE_BYTES + transaction_id


@dataclass(frozen=True, slots=True)
class Username(_Text):
    """USERNAME (RFC 8489 §14.3); in ICE "receiver's ufrag:sender's ufrag" (RFC 8445 §7.2.2)."""

    TYPE = AttributeType.USERNAME
    MAX_SIZE = MAX_USERNAME_SIZE


@dataclass(frozen=True, slots=True)
class MessageIntegrity(_Opaque):
    """MESSAGE-INTEGRITY (RFC 8489 §14.5): HMAC-SHA1; made and checked in `stack.stun.integrity`."""

    TYPE = AttributeType.MESSAGE_INTEGRITY
    SIZES = range(20, 21)


@dataclass(frozen=True, slots=True)
class MessageIntegritySha256(_Opaque):
    """MESSAGE-INTEGRITY-SHA256 (RFC 8489 §14.6): HMAC-SHA256, cut to no less than 16 bytes."""

    TYPE = AttributeType.MESSAGE_INTEGRITY_SHA256
    SIZES = range(16, 33, 4)


@dataclass(frozen=True, slots=True)
class Fingerprint(_Number):
    """FINGERPRINT (RFC 8489 §14.7): CRC-32 xor 0x5354554E; made and checked in `stack.stun.integrity`."""

    TYPE = AttributeType.FINGERPRINT


class ErrorNumber(IntEnum):
    """The error codes that ICE agents exchange (RFC 8489 §14.8, RFC 8445 §7.3.1.1)."""

    BAD_REQUEST = 400
    UNAUTHENTICATED = 401
    UNKNOWN_ATTRIBUTE = 420
    ROLE_CONFLICT = 487
    SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class ErrorCode(Attribute):
    """ERROR-CODE (RFC 8489 §14.8).

    ::

        |  0 (21)  | Class (3)  |  Number (8)  |
        |  Reason phrase, UTF-8                |
    """

    code: int
    reason: str = ""

    TYPE = AttributeType.ERROR_CODE

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> Self:
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

    def serialize(self, transaction_id: bytes) -> bytes:
        """Write class, number and reason phrase."""
        return Writer().u16(0).u8(self.code // 100).u8(self.code % 100).put(self.reason.encode()).finish()


@dataclass(frozen=True, slots=True)
class UnknownAttributes(Attribute):
    """UNKNOWN-ATTRIBUTES (RFC 8489 §14.9): the types, 16 bits each, that made a request fail with 420."""

    types: tuple[int, ...]

    TYPE = AttributeType.UNKNOWN_ATTRIBUTES

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> Self:
        """Read the list."""
        reader, types = Reader(value), []
        while reader:
            types.append(reader.u16())
        return cls(tuple(types))

    def serialize(self, transaction_id: bytes) -> bytes:
        """Write the list."""
        return b"".join(number.to_bytes(2, "big") for number in self.types)


@dataclass(frozen=True, slots=True)
class Software(_Text):
    """SOFTWARE (RFC 8489 §14.14): who is talking, for humans."""

    TYPE = AttributeType.SOFTWARE


@dataclass(frozen=True, slots=True)
class Realm(_Text):
    """REALM (RFC 8489 §14.10)."""

    TYPE = AttributeType.REALM


@dataclass(frozen=True, slots=True)
class Nonce(_Text):
    """NONCE (RFC 8489 §14.11)."""

    TYPE = AttributeType.NONCE


# --- RFC 8445 §7.1, §16.1 -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Priority(_Number):
    """PRIORITY (RFC 8445 §7.1.1): what a peer-reflexive candidate learned from this check would have."""

    TYPE = AttributeType.PRIORITY


@dataclass(frozen=True, slots=True)
class UseCandidate(_Opaque):
    """USE-CANDIDATE (RFC 8445 §7.1.2): an empty flag by which the controlling agent nominates."""

    value: bytes = b""

    TYPE = AttributeType.USE_CANDIDATE


@dataclass(frozen=True, slots=True)
class IceControlled(_Number):
    """ICE-CONTROLLED (RFC 8445 §7.1.3): the sender believes to be controlled; its tie-breaker, 64 bits."""

    TYPE = AttributeType.ICE_CONTROLLED
    SIZE = 8


@dataclass(frozen=True, slots=True)
class IceControlling(_Number):
    """ICE-CONTROLLING (RFC 8445 §7.1.3): the sender believes to be controlling; its tie-breaker, 64 bits."""

    TYPE = AttributeType.ICE_CONTROLLING
    SIZE = 8


# --- seen from browsers ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GoogNetworkInfo(Attribute):
    """GOOG-NETWORK-INFO of libwebrtc: network identifier (16 bits) and cost (16 bits, 0 to 999)."""

    network_id: int
    network_cost: int

    TYPE = AttributeType.GOOG_NETWORK_INFO

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> Self:
        """Read the two numbers."""
        reader = Reader(value)
        info = cls(reader.u16(), reader.u16())
        reader.expect_end("GOOG-NETWORK-INFO")
        return info

    def serialize(self, transaction_id: bytes) -> bytes:
        """Write the two numbers."""
        return Writer().u16(self.network_id).u16(self.network_cost).finish()


@dataclass(frozen=True, slots=True)
class DtlsInStun(_Opaque):
    """One DTLS datagram inside a check; empty means that the sender supports it (draft-hancke-webrtc-sped)."""

    TYPE = AttributeType.DTLS_IN_STUN


@dataclass(frozen=True, slots=True)
class DtlsInStunAcknowledgement(_Opaque):
    """CRC-32 values of DTLS datagrams that arrived, four bytes each (draft-hancke-webrtc-sped)."""

    TYPE = AttributeType.DTLS_IN_STUN_ACKNOWLEDGEMENT


_CLASSES: dict[int, type[Attribute]] = {
    kind.TYPE: kind
    for kind in (
        MappedAddress,
        XorMappedAddress,
        Username,
        MessageIntegrity,
        MessageIntegritySha256,
        Fingerprint,
        ErrorCode,
        UnknownAttributes,
        Software,
        Realm,
        Nonce,
        Priority,
        UseCandidate,
        IceControlled,
        IceControlling,
        GoogNetworkInfo,
        DtlsInStun,
        DtlsInStunAcknowledgement,
    )
}


def parse_attribute(number: int, value: bytes, transaction_id: bytes) -> Attribute:
    """Make the attribute of type `number` from its value."""
    kind = _CLASSES.get(number)
    return UnknownAttribute(number, value) if kind is None else kind.parse(value, transaction_id)
