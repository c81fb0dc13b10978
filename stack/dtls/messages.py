"""The handshake messages that both versions have: RFC 8446 §4, RFC 9147 §5, RFC 5246 §7.4, RFC 6347 §4.2.

A body is what stands behind the twelve-byte fragment header (`reassembly.py`). Each `parse` mirrors its
`serialize` and refuses surplus bytes. Messages without fields (ServerHelloDone, a Finished is `verify_data` alone)
have no class. The messages of one version: `messages12.py`, `messages13.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from stack.core.errors import ParseError
from stack.core.wire import Reader, Writer
from stack.dtls.extensions import (
    Extensions,
    parse_extensions,
    read_u16_list,
    u16_list16,
    vector16,
    write_extensions,
)

RANDOM_LENGTH: Final = 32
HELLO_RETRY_REQUEST_RANDOM: Final = bytes.fromhex(
    "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"  # SHA-256 of "HelloRetryRequest"
)
DOWNGRADE_SENTINEL_12: Final = b"DOWNGRD\x01"  # RFC 8446 §4.1.3
DOWNGRADE_SENTINEL_11: Final = b"DOWNGRD\x00"


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


def _read_session_id(reader: Reader) -> bytes:
    session_id = reader.vector8().rest()
    if len(session_id) > 32:
        raise ParseError("session id too long")
    return session_id


@dataclass(frozen=True, slots=True)
class ClientHello:
    """RFC 9147 §5.3, RFC 6347 §4.2.1; each `length` counts the bytes of the field after it.

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |         legacy_version        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                       random (32 bytes)                       /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                legacy_session_id (0..32 bytes)                /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                  legacy_cookie (0..255 bytes)                 /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                  cipher_suites (2 bytes each)                 /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /            legacy_compression_methods (1 byte each)           /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /         extensions (may be missing with their length)         /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
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
        session_id = _read_session_id(reader)
        cookie = reader.vector8().rest()
        suites = read_u16_list(reader.vector16(), "cipher suites")
        compression = reader.vector8().rest()
        if not compression:
            raise ParseError("no compression methods")
        extensions = parse_extensions(reader) if reader else {}
        reader.expect_end("ClientHello")
        return cls(version, random, session_id, cookie, suites, compression, extensions)

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
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |         legacy_version        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                       random (32 bytes)                       /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /              legacy_session_id_echo (0..32 bytes)             /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |          cipher_suite         |  compression  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /         extensions (may be missing with their length)         /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
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
        session_id = _read_session_id(reader)
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
class CertificateVerify:
    """The proof of possession, the same in both versions (RFC 8446 §4.4.3, RFC 5246 §7.4.8).

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |           algorithm           |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                           signature                           /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
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
        return self.algorithm.to_bytes(2, "big") + vector16(self.signature)
