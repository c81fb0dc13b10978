"""MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT over serialised messages (RFC 8489 §9, §14.5-14.7).

Each of the three covers the message up to itself, with the header's length field saying that the message ends
right behind it. Verification works on the bytes as received, never on a re-serialised message: padding and
unknown attributes are covered too. Secrets are compared in constant time.

Left out: SASLprep/OpaqueString preparation of passwords (RFC 8265). ICE passwords are ASCII, for which it is
the identity; a long-term password is expected to be prepared already.
"""

from __future__ import annotations

from hashlib import md5
from hmac import compare_digest
from hmac import digest as hmac_digest
from zlib import crc32

from stack.core.errors import ParseError
from stack.core.stun_framing import HEADER_SIZE, AttributeSpan, is_stun, walk_attributes
from stack.stun.attributes.integrity import Fingerprint, MessageIntegrity, MessageIntegritySha256

_FINGERPRINT_XOR = 0x5354554E
_SHA1_SIZE = 20


def short_term_key(password: str) -> bytes:
    """Return the HMAC key of a short-term credential (RFC 8489 §9.1.1)."""
    return password.encode()


def long_term_key(username: str, realm: str, password: str) -> bytes:
    """Return the MD5 key of a long-term credential, as TURN uses it (RFC 8489 §9.2.2)."""
    return md5(f"{username}:{realm}:{password}".encode(), usedforsecurity=False).digest()


def _covered(data: bytes, end: int, attribute_size: int) -> bytes:
    """Return the first `end` bytes, their length field counting an attribute of `attribute_size` behind them."""
    length = end - HEADER_SIZE + attribute_size
    return data[:2] + length.to_bytes(2, "big") + data[4:end]


def _find(data: bytes, wanted: int) -> AttributeSpan | None:
    if not is_stun(data):
        return None
    try:
        return next((span for span in walk_attributes(data) if span.type == wanted), None)
    except ParseError:
        return None


def _append(data: bytes, attribute_type: int, value: bytes) -> bytes:
    covered = _covered(data, len(data), 4 + len(value))
    return covered + attribute_type.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value


def add_integrity(data: bytes, key: bytes) -> bytes:
    """Return the serialised message with MESSAGE-INTEGRITY (HMAC-SHA1) appended (RFC 8489 §14.5)."""
    covered = _covered(data, len(data), 4 + _SHA1_SIZE)
    return _append(data, MessageIntegrity.TYPE, hmac_digest(key, covered, "sha1"))


def add_integrity_sha256(data: bytes, key: bytes) -> bytes:
    """Return the serialised message with an untruncated MESSAGE-INTEGRITY-SHA256 appended (RFC 8489 §14.6)."""
    covered = _covered(data, len(data), 4 + 32)
    return _append(data, MessageIntegritySha256.TYPE, hmac_digest(key, covered, "sha256"))


def add_fingerprint(data: bytes) -> bytes:
    """Return the serialised message with FINGERPRINT appended; nothing may follow it (RFC 8489 §14.7)."""
    checksum = crc32(_covered(data, len(data), 8)) ^ _FINGERPRINT_XOR
    return _append(data, Fingerprint.TYPE, checksum.to_bytes(4, "big"))


def verify_integrity(data: bytes, key: bytes) -> bool:
    """Return True if the message carries a MESSAGE-INTEGRITY made with `key`."""
    span = _find(data, MessageIntegrity.TYPE)
    if span is None or span.length != _SHA1_SIZE:
        return False
    expected = hmac_digest(key, _covered(data, span.start, 4 + _SHA1_SIZE), "sha1")
    return compare_digest(expected, data[span.value_start : span.value_end])


def verify_integrity_sha256(data: bytes, key: bytes) -> bool:
    """Return True if the message carries a MESSAGE-INTEGRITY-SHA256, perhaps truncated, made with `key`."""
    span = _find(data, MessageIntegritySha256.TYPE)
    if span is None or span.length not in MessageIntegritySha256.SIZES:
        return False
    expected = hmac_digest(key, _covered(data, span.start, 4 + span.length), "sha256")
    return compare_digest(expected[: span.length], data[span.value_start : span.value_end])


def verify_fingerprint(data: bytes) -> bool:
    """Return True if the message ends with a FINGERPRINT that fits."""
    span = _find(data, Fingerprint.TYPE)
    return span is not None and fingerprint_fits(data, span)


def fingerprint_fits(data: bytes, span: AttributeSpan) -> bool:
    """Return True if the FINGERPRINT at `span` ends the message and its checksum is right."""
    if span.length != 4 or span.value_end != len(data):
        return False
    checksum = crc32(_covered(data, span.start, 8)) ^ _FINGERPRINT_XOR
    return checksum.to_bytes(4, "big") == data[span.value_start :]
