"""The key schedule of 1.3: RFC 8446 §7 with the label prefix of RFC 9147 §5.9.

HKDF-Expand is written out with HMAC: every output here is one hash long or less, but for the exporter.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import Final

from stack.core.wire import Writer
from stack.dtls.record import Protection13
from stack.dtls.suites import NONCE_LENGTH, SuiteParameters

_LABEL_PREFIX: Final = b"dtls13"
_SIGNATURE_PADDING: Final = b" " * 64
SERVER_SIGNATURE_CONTEXT: Final = b"TLS 1.3, server CertificateVerify\0"
CLIENT_SIGNATURE_CONTEXT: Final = b"TLS 1.3, client CertificateVerify\0"


def hkdf_expand(hash_name: str, secret: bytes, info: bytes, length: int) -> bytes:
    """Return `length` bytes of HKDF-Expand (RFC 5869 §2.3)."""
    block, output, counter = b"", b"", 0
    while len(output) < length:
        counter += 1
        block = hmac.digest(secret, block + info + bytes((counter,)), hash_name)
        output += block
    return output[:length]


@lru_cache(maxsize=64)
def _label_info(label: bytes, context_length: int, length: int, prefix: bytes) -> bytes:
    writer = Writer().u16(length)
    full = prefix + label
    return writer.u8(len(full)).put(full).u8(context_length).finish()


def expand_label(
    hash_name: str, secret: bytes, label: bytes, context: bytes, length: int, prefix: bytes = _LABEL_PREFIX
) -> bytes:
    """Return HKDF-Expand-Label (RFC 8446 §7.1); DTLS has its own prefix (RFC 9147 §5.9).

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             length            |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                label (the prefix, then `label`)               /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     length    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                            context                            /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """
    return hkdf_expand(hash_name, secret, _label_info(label, len(context), length, prefix) + context, length)


class Transcript:
    """The running hash over the handshake messages (RFC 8446 §4.4.1)."""

    __slots__ = ("_hash", "_hash_name")

    def __init__(self, hash_name: str) -> None:
        self._hash_name = hash_name
        self._hash = hashlib.new(hash_name)

    def add(self, message: bytes) -> None:
        """Add a message with its four-byte TLS header."""
        self._hash.update(message)

    def digest(self) -> bytes:
        """Return the hash of what was added so far."""
        return self._hash.digest()

    def replace_by_message_hash(self) -> None:
        """Put the synthetic message_hash in the place of the first ClientHello (RFC 8446 §4.4.1)."""
        digest = self._hash.digest()
        self._hash = hashlib.new(self._hash_name, b"\xfe\x00\x00" + bytes((len(digest),)) + digest)


class Keys13:
    """The secrets of one connection, derived step by step as the handshake goes on."""

    __slots__ = (
        "_empty_hash",
        "_handshake_secret",
        "_length",
        "_master_secret",
        "client_application",
        "client_handshake",
        "exporter",
        "hash_name",
        "server_application",
        "server_handshake",
        "suite",
    )

    def __init__(self, suite: SuiteParameters, shared_secret: bytes, hello_hash: bytes) -> None:
        """`hello_hash`: the transcript through ServerHello."""
        self.suite = suite
        self.hash_name = name = suite.hash_name
        self._length = suite.hash_length
        self._empty_hash = hashlib.new(name).digest()
        early_secret = hmac.digest(bytes(self._length), bytes(self._length), name)
        salt = self._derive(early_secret, b"derived", self._empty_hash)
        self._handshake_secret = hmac.digest(salt, shared_secret, name)
        self.client_handshake = self._derive(self._handshake_secret, b"c hs traffic", hello_hash)
        self.server_handshake = self._derive(self._handshake_secret, b"s hs traffic", hello_hash)
        salt = self._derive(self._handshake_secret, b"derived", self._empty_hash)
        self._master_secret = hmac.digest(salt, bytes(self._length), name)
        self.client_application = b""
        self.server_application = b""
        self.exporter: bytes | None = None

    def _derive(self, secret: bytes, label: bytes, context: bytes) -> bytes:
        return expand_label(self.hash_name, secret, label, context, self._length)

    def derive_application(self, finished_hash: bytes) -> None:
        """Derive the application secrets; `finished_hash`: the transcript through the server's Finished."""
        self.client_application = self._derive(self._master_secret, b"c ap traffic", finished_hash)
        self.server_application = self._derive(self._master_secret, b"s ap traffic", finished_hash)
        self.exporter = self._derive(self._master_secret, b"exp master", finished_hash)

    def protection(self, traffic_secret: bytes) -> Protection13:
        """Return the protection under a traffic secret (RFC 8446 §7.3, RFC 9147 §4.2.3)."""
        name, key_length = self.hash_name, self.suite.key_length
        return Protection13(
            self.suite,
            expand_label(name, traffic_secret, b"key", b"", key_length),
            expand_label(name, traffic_secret, b"iv", b"", NONCE_LENGTH),
            expand_label(name, traffic_secret, b"sn", b"", key_length),
        )

    def next_generation(self, traffic_secret: bytes) -> bytes:
        """Return the traffic secret after a KeyUpdate (RFC 8446 §7.2)."""
        return self._derive(traffic_secret, b"traffic upd", b"")

    def verify_data(self, traffic_secret: bytes, transcript_hash: bytes) -> bytes:
        """Return the content of a Finished (RFC 8446 §4.4.4)."""
        key = self._derive(traffic_secret, b"finished", b"")
        return hmac.digest(key, transcript_hash, self.hash_name)

    def export(self, label: bytes, context: bytes | None, length: int) -> bytes:
        """Return exported keying material (RFC 8446 §7.5); no context and an empty one are the same."""
        if self.exporter is None:
            raise ValueError("the exporter secret is not derived yet")
        secret = self._derive(self.exporter, label, self._empty_hash)
        digest = hashlib.new(self.hash_name, context or b"").digest()
        return expand_label(self.hash_name, secret, b"exporter", digest, length)


def signed_content(context: bytes, transcript_hash: bytes) -> bytes:
    """Return what a CertificateVerify signs (RFC 8446 §4.4.3)."""
    return _SIGNATURE_PADDING + context + transcript_hash
