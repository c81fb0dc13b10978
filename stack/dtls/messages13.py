"""The handshake messages of 1.3 alone, and the ACK: RFC 8446 §4, RFC 9147 §7, in protocol order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from stack.core.errors import ParseError
from stack.core.wire import Reader, Writer
from stack.dtls.extensions import Extensions, parse_extensions, vector16, write_extensions


@dataclass(frozen=True, slots=True)
class EncryptedExtensions:
    """RFC 8446 §4.3.1.

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                           extensions                          /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """

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
class CertificateRequest13:
    """RFC 8446 §4.3.2; of the extensions signature_algorithms is required.

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+
    |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /           certificate_request_context (0..255 bytes)          /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                           extensions                          /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """

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
class Certificate13:
    """RFC 8446 §4.4.2: behind the length of the list each certificate with its extensions, leaf first.

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+
    |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /           certificate_request_context (0..255 bytes)          /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |               length of the list              |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                     length                    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                       certificate in DER                      /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                 extensions of this certificate                /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
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
class KeyUpdate:
    """RFC 8446 §4.6.3: 1 asks for the peer's update in turn, 0 does not.

    ```
     0 1 2 3 4 5 6 7
    +-+-+-+-+-+-+-+-+
    | request_update|
    +-+-+-+-+-+-+-+-+
    ```
    """

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
    """The content of an ACK record (RFC 9147 §7): behind the length the numbers of records.

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                             epoch                             |
    +                                                               +
    |                                                               |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                        sequence_number                        |
    +                                                               +
    |                                                               |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
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
        return vector16(
            b"".join(epoch.to_bytes(8, "big") + sequence.to_bytes(8, "big") for epoch, sequence in self.numbers)
        )
