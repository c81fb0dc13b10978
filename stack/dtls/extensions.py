"""Hello extensions: their numbers and the codecs of those we understand.

RFC 8446 §4.2 (versions, key shares, groups, signature algorithms, cookie), RFC 5764 §4.1.1 (use_srtp), RFC 7301
(ALPN), RFC 7627 (extended master secret), RFC 5746 (renegotiation_info), RFC 8422 §5.1.2 (point formats).
Everything else that a peer offers is passed over unread, as RFC 8446 §4.2 wants; GREASE (RFC 8701) is no more
than that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import wraps
from struct import Struct, pack, unpack
from typing import Final, ParamSpec, Self, TypeAlias, TypeVar

from stack.core.errors import ParseError
from stack.core.wire import Reader, Writer

Extensions: TypeAlias = Mapping[int, bytes]
"""Extension bodies by type, in wire order."""


class ExtensionType(IntEnum):
    """The IANA registry of TLS ExtensionType values, as far as we know it."""

    SUPPORTED_GROUPS = 10
    EC_POINT_FORMATS = 11
    SIGNATURE_ALGORITHMS = 13
    USE_SRTP = 14
    APPLICATION_LAYER_PROTOCOL_NEGOTIATION = 16
    EXTENDED_MASTER_SECRET = 23
    SUPPORTED_VERSIONS = 43
    COOKIE = 44
    CERTIFICATE_AUTHORITIES = 47
    SIGNATURE_ALGORITHMS_CERT = 50
    KEY_SHARE = 51
    RENEGOTIATION_INFO = 0xFF01


P = ParamSpec("P")
T = TypeVar("T")


class ExtensionError(ParseError):
    """The body of an extension that we understand is malformed."""


def _body(parse: Callable[P, T]) -> Callable[P, T]:
    """Mark a parser of an extension's body, so that its errors say so."""

    @wraps(parse)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return parse(*args, **kwargs)
        except ParseError as error:
            raise ExtensionError(str(error)) from None

    return wrapped


class DuplicateExtensionError(ParseError):
    """The same extension twice in one block (RFC 8446 §4.2 forbids it)."""


_HEADER: Final = Struct("!HH")  # type, length
EMPTY_RENEGOTIATION_INFO: Final = b"\x00"
UNCOMPRESSED_POINTS: Final = b"\x01\x00"


def parse_extensions(reader: Reader) -> dict[int, bytes]:
    """Read a block of extensions behind its two-byte length (RFC 8446 §4.2).

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |      length of the block      |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |         extension_type        |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                         extension_data                        /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """
    found: dict[int, bytes] = {}
    block = reader.vector16().rest()
    position, end = 0, len(block)
    while position < end:
        if end - position < _HEADER.size:
            raise ParseError("truncated extension header")
        kind, length = _HEADER.unpack_from(block, position)
        position += _HEADER.size + length
        if position > end:
            raise ParseError("truncated extension")
        if kind in found:
            raise DuplicateExtensionError(f"extension {kind} twice")
        found[kind] = block[position - length : position]
    return found


def write_extensions(writer: Writer, extensions: Extensions) -> None:
    """Write a block of extensions behind its two-byte length."""
    with writer.vector16():
        for kind, body in extensions.items():
            writer.u16(kind).u16(len(body)).put(body)


def read_u16_list(reader: Reader, what: str) -> tuple[int, ...]:
    """Read two-byte numbers to the end of `reader`, one at least."""
    data = reader.rest()
    if not data or len(data) % 2:
        raise ParseError(f"odd or empty list of {what}")
    return unpack(f"!{len(data) // 2}H", data)


@_body
def parse_u16_list16(body: bytes, what: str) -> tuple[int, ...]:
    """Read two-byte numbers behind a two-byte length: groups, signature algorithms (RFC 8446 §4.2.3, §4.2.7).

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                     numbers (2 bytes each)                    /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """
    reader = Reader(body)
    items = read_u16_list(reader.vector16(), what)
    reader.expect_end(what)
    return items


def u16_list16(items: Sequence[int]) -> bytes:
    """Return two-byte numbers behind their two-byte length."""
    return pack(f"!{len(items) + 1}H", 2 * len(items), *items)


@_body
def parse_supported_versions(body: bytes) -> tuple[int, ...]:
    """Read a client's versions (RFC 8446 §4.2.1).

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+
    |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                    versions (2 bytes each)                    /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """
    reader = Reader(body)
    items = read_u16_list(reader.vector8(), "versions")
    reader.expect_end("supported_versions")
    return items


def supported_versions(versions: Sequence[int]) -> bytes:
    """Return a client's list of versions."""
    return bytes((2 * len(versions),)) + b"".join(version.to_bytes(2, "big") for version in versions)


@_body
def parse_u16(body: bytes, what: str) -> int:
    """Read an extension that is one two-byte number: a selected version or group.

    ```
     0                   1
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             number            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """
    if len(body) != 2:
        raise ParseError(f"{what} is two bytes")
    return int.from_bytes(body, "big")


@dataclass(frozen=True, slots=True)
class KeyShareEntry:
    """One group and one side's share of it (RFC 8446 §4.2.8).

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             group             |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                          key_exchange                         /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """

    group: int
    key_exchange: bytes

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one entry of a list."""
        entry = cls(reader.u16(), reader.vector16().rest())
        if not entry.key_exchange:
            raise ParseError("empty key share")
        return entry

    @classmethod
    @_body
    def parse(cls, data: bytes) -> Self:
        """Read the single entry of a ServerHello."""
        reader = Reader(data)
        entry = cls.read(reader)
        reader.expect_end("key_share")
        return entry

    def serialize(self) -> bytes:
        """Return the entry."""
        return self.group.to_bytes(2, "big") + vector16(self.key_exchange)


@_body
def parse_client_key_shares(body: bytes) -> tuple[KeyShareEntry, ...]:
    """Read a client's shares; the list may be empty (it asks for a HelloRetryRequest).

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /              client_shares (each a KeyShareEntry)             /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """
    reader = Reader(body)
    block = reader.vector16()
    reader.expect_end("key_share")
    shares: list[KeyShareEntry] = []
    while block:
        shares.append(KeyShareEntry.read(block))
    return tuple(shares)


def client_key_shares(shares: Sequence[KeyShareEntry]) -> bytes:
    """Return a client's list of shares."""
    return vector16(b"".join(share.serialize() for share in shares))


@dataclass(frozen=True, slots=True)
class UseSrtp:
    """The SRTP profiles offered or chosen, and the master key identifier (RFC 5764 §4.1.1).

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /             SRTPProtectionProfiles (2 bytes each)             /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                    srtp_mki (0..255 bytes)                    /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """

    profiles: tuple[int, ...]
    mki: bytes = b""

    @classmethod
    @_body
    def parse(cls, data: bytes) -> Self:
        """Read the extension."""
        reader = Reader(data)
        profiles = read_u16_list(reader.vector16(), "SRTP profiles")
        mki = reader.vector8().rest()
        reader.expect_end("use_srtp")
        return cls(profiles, mki)

    def serialize(self) -> bytes:
        """Return the extension."""
        return u16_list16(self.profiles) + bytes((len(self.mki),)) + self.mki


@_body
def parse_alpn(body: bytes) -> tuple[bytes, ...]:
    """Read protocol names (RFC 7301 §3.1); `protocol_name` and its length are repeated.

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |       length of the list      |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                         protocol_name                         /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """
    reader = Reader(body)
    block = reader.vector16()
    reader.expect_end("ALPN")
    names: list[bytes] = []
    while block:
        name = block.vector8().rest()
        if not name:
            raise ParseError("empty protocol name")
        names.append(name)
    if not names:
        raise ParseError("empty list of protocol names")
    return tuple(names)


def alpn(names: Sequence[bytes]) -> bytes:
    """Return protocol names."""
    return vector16(b"".join(bytes((len(name),)) + name for name in names))


@_body
def check_certificate_authorities(extensions: Extensions) -> None:
    """Names of authorities mean nothing here, but have to be well formed (RFC 8446 §4.2.4).

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |       length of the list      |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                   distinguished_name in DER                   /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """
    body = extensions.get(ExtensionType.CERTIFICATE_AUTHORITIES)
    if body is None:
        return
    reader = Reader(body)
    names = reader.vector16()
    reader.expect_end("certificate_authorities")
    if not names:
        raise ParseError("empty list of authorities")
    while names:
        if not names.vector16():
            raise ParseError("empty name of an authority")


@_body
def parse_vector16(body: bytes, what: str) -> bytes:
    """Read an extension that is one non-empty vector behind a two-byte length: the cookie (RFC 8446 §4.2.2).

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                             cookie                            /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """
    reader = Reader(body)
    content = reader.vector16().rest()
    reader.expect_end(what)
    if not content:
        raise ParseError(f"empty {what}")
    return content


def vector16(content: bytes) -> bytes:
    """Return `content` behind its two-byte length."""
    return len(content).to_bytes(2, "big") + content


@_body
def parse_point_formats(body: bytes) -> bytes:
    """Read the point formats (RFC 8422 §5.1.2).

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+
    |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /               ec_point_format_list (1 byte each)              /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """
    reader = Reader(body)
    formats = reader.vector8().rest()
    reader.expect_end("ec_point_formats")
    if not formats:
        raise ParseError("empty list of point formats")
    return formats
