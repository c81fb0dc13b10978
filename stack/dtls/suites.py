"""Cipher suites: the AEADs and hashes that the two versions share (RFC 8446 §B.4, RFC 5289, RFC 7905).

Only AEAD suites with ephemeral key exchange: every WebRTC peer has them, and CBC, static RSA and plain DHE are
left out because each has a history of padding or parameter attacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final, Protocol, TypeAlias

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

TAG_LENGTH: Final = 16
NONCE_LENGTH: Final = 12


class Version(IntEnum):
    """Protocol versions as they stand on the wire: one's complement, so a smaller number is newer."""

    DTLS_1_0 = 0xFEFF
    DTLS_1_2 = 0xFEFD
    DTLS_1_3 = 0xFEFC

    @property
    def label(self) -> str:
        """The name that people use."""
        return {0xFEFF: "DTLS 1.0", 0xFEFD: "DTLS 1.2", 0xFEFC: "DTLS 1.3"}[self.value]


class Aead(Protocol):
    """What the record layer needs of an AEAD."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes:
        """Return the ciphertext and its tag."""
        ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes:
        """Return the plaintext or raise `InvalidTag`."""
        ...


AeadFactory: TypeAlias = Callable[[bytes], Aead]


class Authentication(Enum):
    """What kind of certificate a 1.2 suite asks of the server; 1.3 suites do not say."""

    ANY = "any"
    ECDSA = "ecdsa"
    RSA = "rsa"


class CipherSuite(IntEnum):
    """The suites that this stack speaks, by their IANA numbers."""

    TLS_AES_128_GCM_SHA256 = 0x1301
    TLS_AES_256_GCM_SHA384 = 0x1302
    TLS_CHACHA20_POLY1305_SHA256 = 0x1303
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 = 0xC02B
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 = 0xC02C
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 = 0xC02F
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 = 0xC030
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 = 0xCCA8
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 = 0xCCA9


@dataclass(frozen=True, slots=True)
class SuiteParameters:
    """What a suite's number stands for."""

    version: Version
    authentication: Authentication
    hash_name: str
    key_length: int
    is_chacha: bool

    @property
    def aead(self) -> AeadFactory:
        """Make the AEAD for a key."""
        return ChaCha20Poly1305 if self.is_chacha else AESGCM

    @property
    def hash_length(self) -> int:
        """Size of the suite's hash in bytes."""
        return 48 if self.hash_name == "sha384" else 32


def _parameters(suite: CipherSuite) -> SuiteParameters:
    name = suite.name
    version = Version.DTLS_1_2 if "_WITH_" in name else Version.DTLS_1_3
    if version is Version.DTLS_1_3:
        authentication = Authentication.ANY
    else:
        authentication = Authentication.ECDSA if "_ECDSA_" in name else Authentication.RSA
    return SuiteParameters(
        version=version,
        authentication=authentication,
        hash_name="sha384" if name.endswith("SHA384") else "sha256",
        key_length=16 if "AES_128" in name else 32,
        is_chacha="CHACHA20" in name,
    )


SUITES: Final = {suite: _parameters(suite) for suite in CipherSuite}

DEFAULT_CIPHER_SUITES: Final = (
    CipherSuite.TLS_AES_128_GCM_SHA256,
    CipherSuite.TLS_AES_256_GCM_SHA384,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
)
"""Our order of preference; AES-128-GCM first because every machine of interest has AES instructions."""
