"""As much of DER as it takes to find the key in a certificate: X.690 §8.1, RFC 5280 §4.1.

A peer's certificate is trusted by its fingerprint (RFC 8827 §6.5), so its names, dates, serial number and
signature mean nothing, and a fault in one of them is no reason to refuse it: devices make their own. They are
stepped over by their lengths. What is read is the SubjectPublicKeyInfo and the key usage.

Left out: BER's indefinite lengths and tags above 30, which occur in no certificate.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from stack.core.errors import ParseError

_BOOLEAN: Final = 0x01
_INTEGER: Final = 0x02
_BIT_STRING: Final = 0x03
_OCTET_STRING: Final = 0x04
_OBJECT_IDENTIFIER: Final = 0x06
_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_KEY_USAGE: Final = bytes.fromhex("0603551d0f")  # the object identifier 2.5.29.15, header included
_DIGITAL_SIGNATURE: Final = 0x80


class DerElement(NamedTuple):
    """One value: its tag, its content, and both with the length between them."""

    tag: int
    content: bytes
    raw: bytes


class _DerReader:
    """Steps through the elements of a constructed value."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def is_at_end(self) -> bool:
        return self._position >= len(self._data)

    def peek(self) -> int:
        """Return the tag of the next element; -1 at the end."""
        return -1 if self.is_at_end else self._data[self._position]

    def take(self, tag: int | None = None) -> DerElement:
        """Return the next element, which must have `tag` if that is given."""
        data, start = self._data, self._position
        if len(data) - start < 2:
            raise ParseError("truncated DER")
        found, length, position = data[start], data[start + 1], start + 2
        if tag is not None and found != tag:
            raise ParseError(f"DER tag {found:#04x} instead of {tag:#04x}")
        if length >= 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4 or len(data) - position < size:
                raise ParseError("unsupported DER length")
            length = int.from_bytes(data[position : position + size], "big")
            position += size
        end = position + length
        if end > len(data):
            raise ParseError("truncated DER")
        self._position = end
        return DerElement(found, data[position:end], data[start:end])


class CertificateKey(NamedTuple):
    """What a peer's certificate is read for."""

    public_key_info: bytes
    """The SubjectPublicKeyInfo in DER."""
    algorithm: bytes
    """The object identifier of the key's algorithm, header included."""
    parameters: bytes
    """What follows it: for an elliptic curve key the object identifier of the curve."""
    may_sign: bool
    """False only if there is a key usage that says so (RFC 8446 §4.4.2.2)."""


def read_certificate(der: bytes) -> CertificateKey:
    """Return the key of a certificate; `ParseError` if it cannot be found.

    ```
    Certificate     ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue }
    TBSCertificate  ::= SEQUENCE { [0] version, serialNumber, signature, issuer, validity, subject,
                                   subjectPublicKeyInfo, [1] issuerUniqueID, [2] subjectUniqueID, [3] extensions }
    ```
    """
    body = _DerReader(_DerReader(_DerReader(der).take(_SEQUENCE).content).take(_SEQUENCE).content)
    if body.peek() == _VERSION:
        body.take()
    body.take(_INTEGER)
    for _ in ("signature", "issuer", "validity", "subject"):
        body.take(_SEQUENCE)
    info = body.take(_SEQUENCE)
    identifier = _DerReader(_DerReader(info.content).take(_SEQUENCE).content)
    algorithm = identifier.take(_OBJECT_IDENTIFIER).raw
    parameters = b"" if identifier.is_at_end else identifier.take().raw
    try:
        may_sign = _may_sign(body)
    except ParseError:
        may_sign = True  # an unreadable extension restricts nothing
    return CertificateKey(info.raw, algorithm, parameters, may_sign)


def _may_sign(body: _DerReader) -> bool:
    while not body.is_at_end:
        element = body.take()
        if element.tag != _EXTENSIONS:
            continue
        extensions = _DerReader(_DerReader(element.content).take(_SEQUENCE).content)
        while not extensions.is_at_end:
            extension = _DerReader(extensions.take(_SEQUENCE).content)
            if extension.take().raw != _KEY_USAGE:
                continue
            if extension.peek() == _BOOLEAN:  # critical
                extension.take()
            bits = _DerReader(extension.take(_OCTET_STRING).content).take(_BIT_STRING).content
            # The first byte counts the unused bits at the end; no bits at all is a usage for nothing.
            return len(bits) > 1 and bool(bits[1] & _DIGITAL_SIGNATURE)
    return True
