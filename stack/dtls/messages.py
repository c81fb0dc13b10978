"""Handshake message bodies of both versions: RFC 8446 §4, RFC 9147 §5, RFC 5246 §7.4, RFC 8422 §5, RFC 6347 §4.2.

A body is what stands behind the twelve-byte fragment header (`reassembly.py`). Each `parse` mirrors its
`serialize` and refuses surplus bytes. Messages without fields (ServerHelloDone) have no class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from struct import unpack
from typing import Final, Self

from stack.core.errors import ParseError
from stack.core.wire import Reader, Writer
from stack.dtls.extensions import Extensions, parse_extensions, u16_list16, write_extensions

RANDOM_LENGTH: Final = 32
HELLO_RETRY_REQUEST_RANDOM: Final = bytes.fromhex(
    "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"  # SHA-256 of "HelloRetryRequest"
)
DOWNGRADE_SENTINEL_12: Final = b"DOWNGRD\x01"  # RFC 8446 §4.1.3
DOWNGRADE_SENTINEL_11: Final = b"DOWNGRD\x00"
_NAMED_CURVE: Final = 3  # RFC 8422 §5.4


class HandshakeType(IntEnum):
    """RFC 8446 §B.3, RFC 6347 §4.3.2."""

    HELLO_REQUEST = 0
    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    HELLO_VERIFY_REQUEST = 3
    NEW_SESSION_TICKET = 4
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    SERVER_KEY_EXCHANGE = 12
    CERTIFICATE_REQUEST = 13
    SERVER_HELLO_DONE = 14
    CERTIFICATE_VERIFY = 15
    CLIENT_KEY_EXCHANGE = 16
    FINISHED = 20
    KEY_UPDATE = 24
    MESSAGE_HASH = 254


@dataclass(frozen=True, slots=True)
class ClientHello:
    """RFC 9147 §5.3, RFC 6347 §4.2.1.

    ```
    | legacy_version 2 | random 32 | session_id 0..32 | cookie 0..255 | cipher_suites 2.. |
    | compression_methods 1.. | extensions 0.. |
    ```
    """

    legacy_version: int
    random: bytes
    session_id: bytes
    cookie: bytes
    cipher_suites: tuple[int, ...]
    compression_methods: bytes
    extensions: Extensions

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a ClientHello; the extension block may be missing (RFC 5246 §7.4.1.2)."""
        reader = Reader(data)
        version, random = reader.u16(), reader.take(RANDOM_LENGTH)
        session_id = reader.vector8().rest()
        if len(session_id) > 32:
            raise ParseError("session id too long")
        cookie = reader.vector8().rest()
        suites = reader.vector16().rest()
        if not suites or len(suites) % 2:
            raise ParseError("odd or empty list of cipher suites")
        compression = reader.vector8().rest()
        if not compression:
            raise ParseError("no compression methods")
        extensions = parse_extensions(reader) if reader else {}
        reader.expect_end("ClientHello")
        numbers = unpack(f"!{len(suites) // 2}H", suites)
        return cls(version, random, session_id, cookie, numbers, compression, extensions)

    def serialize(self) -> bytes:
        """Return the body."""
        writer = Writer()
        writer.u16(self.legacy_version).put(self.random)
        writer.u8(len(self.session_id)).put(self.session_id)
        writer.u8(len(self.cookie)).put(self.cookie)
        writer.put(u16_list16(self.cipher_suites))
        writer.u8(len(self.compression_methods)).put(self.compression_methods)
        write_extensions(writer, self.extensions)
        return writer.finish()


@dataclass(frozen=True, slots=True)
class ServerHello:
    """RFC 8446 §4.1.3; HelloRetryRequest is the same with a special random (§4.1.4).

    ```
    | legacy_version 2 | random 32 | session_id 0..32 | cipher_suite 2 | compression_method 1 | extensions |
    ```
    """

    legacy_version: int
    random: bytes
    session_id: bytes
    cipher_suite: int
    compression_method: int
    extensions: Extensions

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a ServerHello; the extension block may be missing (RFC 5246 §7.4.1.3)."""
        reader = Reader(data)
        version, random = reader.u16(), reader.take(RANDOM_LENGTH)
        session_id = reader.vector8().rest()
        if len(session_id) > 32:
            raise ParseError("session id too long")
        suite, compression = reader.u16(), reader.u8()
        extensions = parse_extensions(reader) if reader else {}
        reader.expect_end("ServerHello")
        return cls(version, random, session_id, suite, compression, extensions)

    def serialize(self) -> bytes:
        """Return the body; an empty extension block is left out (RFC 5246 §7.4.1.4)."""
        writer = Writer()
        writer.u16(self.legacy_version).put(self.random)
        writer.u8(len(self.session_id)).put(self.session_id)
        writer.u16(self.cipher_suite).u8(self.compression_method)
        if self.extensions:
            write_extensions(writer, self.extensions)
        return writer.finish()

    @property
    def is_hello_retry_request(self) -> bool:
        """True if this is a HelloRetryRequest."""
        return self.random == HELLO_RETRY_REQUEST_RANDOM


@dataclass(frozen=True, slots=True)
class HelloVerifyRequest:
    """RFC 6347 §4.2.1: a 1.2 server's question whether we are where we say.

    ```
    | server_version 2 | cookie 0..255 |
    ```
    """

    server_version: int
    cookie: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the body."""
        reader = Reader(data)
        version, cookie = reader.u16(), reader.vector8().rest()
        reader.expect_end("HelloVerifyRequest")
        return cls(version, cookie)

    def serialize(self) -> bytes:
        """Return the body."""
        return self.server_version.to_bytes(2, "big") + bytes((len(self.cookie),)) + self.cookie


@dataclass(frozen=True, slots=True)
class EncryptedExtensions:
    """RFC 8446 §4.3.1."""

    extensions: Extensions

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the body."""
        reader = Reader(data)
        extensions = parse_extensions(reader)
        reader.expect_end("EncryptedExtensions")
        return cls(extensions)

    def serialize(self) -> bytes:
        """Return the body."""
        writer = Writer()
        write_extensions(writer, self.extensions)
        return writer.finish()


@dataclass(frozen=True, slots=True)
class Certificate12:
    """RFC 5246 §7.4.2: a list of certificates, each behind a three-byte length, leaf first."""

    chain: tuple[bytes, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the body; the list may be empty (a client without a certificate)."""
        reader = Reader(data)
        block = reader.vector24()
        reader.expect_end("Certificate")
        chain: list[bytes] = []
        while block:
            chain.append(block.vector24().rest())
            if not chain[-1]:
                raise ParseError("empty certificate")
        return cls(tuple(chain))

    def serialize(self) -> bytes:
        """Return the body."""
        block = b"".join(len(der).to_bytes(3, "big") + der for der in self.chain)
        return len(block).to_bytes(3, "big") + block


@dataclass(frozen=True, slots=True)
class Certificate13:
    """RFC 8446 §4.4.2.

    ```
    | certificate_request_context 0..255 | length 3 | ( length 3 | certificate | extensions )… |
    ```
    """

    context: bytes
    chain: tuple[bytes, ...]
    leaf_extensions: Extensions = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the body; of the extensions only the leaf's are kept, and we asked for none."""
        reader = Reader(data)
        context = reader.vector8().rest()
        block = reader.vector24()
        reader.expect_end("Certificate")
        chain: list[bytes] = []
        leaf_extensions: Extensions = {}
        while block:
            chain.append(block.vector24().rest())
            if not chain[-1]:
                raise ParseError("empty certificate")
            extensions = parse_extensions(block)
            leaf_extensions = leaf_extensions if len(chain) > 1 else extensions
        return cls(context, tuple(chain), leaf_extensions)

    def serialize(self) -> bytes:
        """Return the body, without extensions."""
        block = b"".join(len(der).to_bytes(3, "big") + der + b"\0\0" for der in self.chain)
        return bytes((len(self.context),)) + self.context + len(block).to_bytes(3, "big") + block


@dataclass(frozen=True, slots=True)
class CertificateRequest12:
    """RFC 5246 §7.4.4.

    ```
    | certificate_types 1.. | signature_algorithms 2.. | certificate_authorities 0.. |
    ```
    """

    certificate_types: bytes
    signature_algorithms: tuple[int, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the body; the names of authorities are passed over, ours has none."""
        reader = Reader(data)
        types = reader.vector8().rest()
        block = reader.vector16()
        algorithms: list[int] = []
        while block:
            algorithms.append(block.u16())
        authorities = reader.vector16()
        while authorities:
            authorities.vector16()
        reader.expect_end("CertificateRequest")
        if not types or not algorithms:
            raise ParseError("empty list in CertificateRequest")
        return cls(types, tuple(algorithms))

    def serialize(self) -> bytes:
        """Return the body, with no authorities."""
        writer = Writer()
        writer.u8(len(self.certificate_types)).put(self.certificate_types)
        writer.put(u16_list16(self.signature_algorithms))
        return writer.u16(0).finish()


@dataclass(frozen=True, slots=True)
class CertificateRequest13:
    """RFC 8446 §4.3.2: a context and extensions, of which signature_algorithms is required."""

    context: bytes
    extensions: Extensions

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the body."""
        reader = Reader(data)
        context = reader.vector8().rest()
        extensions = parse_extensions(reader)
        reader.expect_end("CertificateRequest")
        return cls(context, extensions)

    def serialize(self) -> bytes:
        """Return the body."""
        writer = Writer()
        writer.u8(len(self.context)).put(self.context)
        write_extensions(writer, self.extensions)
        return writer.finish()


@dataclass(frozen=True, slots=True)
class ServerKeyExchange:
    """ECDHE parameters and their signature (RFC 8422 §5.4).

    ```
    | curve_type 1 = named_curve | group 2 | length 1 | point | signature algorithm 2 | length 2 | signature |
    ```
    """

    group: int
    public: bytes
    algorithm: int
    signature: bytes

    @staticmethod
    def parameters(group: int, public: bytes) -> bytes:
        """Return the part that is signed."""
        return bytes((_NAMED_CURVE,)) + group.to_bytes(2, "big") + bytes((len(public),)) + public

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the body."""
        reader = Reader(data)
        if reader.u8() != _NAMED_CURVE:
            raise ParseError("only named curves are understood")
        message = cls(reader.u16(), reader.vector8().rest(), reader.u16(), reader.vector16().rest())
        reader.expect_end("ServerKeyExchange")
        return message

    def serialize(self) -> bytes:
        """Return the body."""
        signature = self.algorithm.to_bytes(2, "big") + len(self.signature).to_bytes(2, "big") + self.signature
        return self.parameters(self.group, self.public) + signature


@dataclass(frozen=True, slots=True)
class ClientKeyExchange:
    """The client's ECDHE share (RFC 8422 §5.7): `| length 1 | point |`."""

    public: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the body."""
        reader = Reader(data)
        message = cls(reader.vector8().rest())
        reader.expect_end("ClientKeyExchange")
        return message

    def serialize(self) -> bytes:
        """Return the body."""
        return bytes((len(self.public),)) + self.public


@dataclass(frozen=True, slots=True)
class CertificateVerify:
    """The proof of possession, the same in both versions (RFC 8446 §4.4.3, RFC 5246 §7.4.8).

    ```
    | signature algorithm 2 | length 2 | signature |
    ```
    """

    algorithm: int
    signature: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the body."""
        reader = Reader(data)
        message = cls(reader.u16(), reader.vector16().rest())
        reader.expect_end("CertificateVerify")
        return message

    def serialize(self) -> bytes:
        """Return the body."""
        return self.algorithm.to_bytes(2, "big") + len(self.signature).to_bytes(2, "big") + self.signature


@dataclass(frozen=True, slots=True)
class KeyUpdate:
    """RFC 8446 §4.6.3: one byte, which asks for the peer's update in turn or does not."""

    update_requested: bool

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the body; other values than 0 and 1 are the caller's `illegal_parameter`."""
        if len(data) != 1:
            raise ParseError("a KeyUpdate is one byte")
        if data[0] > 1:
            raise ParseError("a KeyUpdate is 0 or 1")
        return cls(data[0] == 1)

    def serialize(self) -> bytes:
        """Return the body."""
        return bytes((self.update_requested,))


@dataclass(frozen=True, slots=True)
class Ack:
    """The content of an ACK record (RFC 9147 §7): pairs of epoch and sequence number.

    ```
    | length 2 | ( epoch 8 | sequence number 8 )… |
    ```
    """

    numbers: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the record's content."""
        reader = Reader(data)
        block = reader.vector16()
        reader.expect_end("ACK")
        numbers: list[tuple[int, int]] = []
        while block:
            numbers.append((block.u64(), block.u64()))
        return cls(tuple(numbers))

    def serialize(self) -> bytes:
        """Return the record's content."""
        block = b"".join(
            epoch.to_bytes(8, "big") + sequence.to_bytes(8, "big") for epoch, sequence in self.numbers
        )
        return len(block).to_bytes(2, "big") + block
