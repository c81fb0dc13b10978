"""The handshake messages of 1.2 alone: RFC 5246 §7.4, RFC 8422 §5, RFC 6347 §4.2, in protocol order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from stack.core.errors import ParseError
from stack.core.wire import Reader, Writer
from stack.dtls.extensions import read_u16_list, u16_list16, vector16

_NAMED_CURVE: Final = 3  # RFC 8422 §5.4


@dataclass(frozen=True, slots=True)
class HelloVerifyRequest:
    """RFC 6347 §4.2.1: a 1.2 server asks for a cookie, which proves that the client is where it says.

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |         server_version        |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                     cookie (0..255 bytes)                     /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
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
class Certificate12:
    """RFC 5246 §7.4.2: the length of the list, then each certificate behind its length, leaf first.

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |               length of the list              |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                     length                    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                       certificate in DER                      /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """

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
class ServerKeyExchange:
    """ECDHE parameters and their signature (RFC 8422 §5.4); `curve_type` is 3, named_curve.

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |   curve_type  |          named_curve          |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                       public (the point)                      /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |           algorithm           |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                           signature                           /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
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
        signature = self.algorithm.to_bytes(2, "big") + vector16(self.signature)
        return self.parameters(self.group, self.public) + signature


@dataclass(frozen=True, slots=True)
class CertificateRequest12:
    """RFC 5246 §7.4.4.

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+
    |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                certificate_types (1 byte each)                /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /         supported_signature_algorithms (2 bytes each)         /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                    certificate_authorities                    /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """

    certificate_types: bytes
    signature_algorithms: tuple[int, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the body; the names of authorities are passed over, ours has none."""
        reader = Reader(data)
        types = reader.vector8().rest()
        algorithms = read_u16_list(reader.vector16(), "signature algorithms")
        authorities = reader.vector16()
        while authorities:
            authorities.vector16()
        reader.expect_end("CertificateRequest")
        if not types:
            raise ParseError("no certificate types")
        return cls(types, algorithms)

    def serialize(self) -> bytes:
        """Return the body, with no authorities."""
        writer = Writer()
        writer.u8(len(self.certificate_types)).put(self.certificate_types)
        writer.put(u16_list16(self.signature_algorithms))
        return writer.u16(0).finish()


@dataclass(frozen=True, slots=True)
class ClientKeyExchange:
    """The client's ECDHE share (RFC 8422 §5.7).

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+
    |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                       public (the point)                      /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """

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
