"""A certificate's fingerprint: what SDP carries and DTLS holds the peer's certificate against (RFC 8122 §5).

Hash functions that are unknown here are read as well: a description may have several fingerprints, and the caller
can say which one it was that proves nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final, Self

from stack.core.errors import ParseError

TRUSTED_HASHES: Final = ("sha-256", "sha-384", "sha-512")
"""Hash functions of which a certificate can be told by; any other one proves nothing (RFC 8122 §5)."""
_DIGEST_SIZES: Final = {
    "md2": 16,
    "md5": 16,
    "sha-1": 20,
    "sha-224": 28,
    "sha-256": 32,
    "sha-384": 48,
    "sha-512": 64,
}
_TOKEN: Final = re.compile(r"[!#-'*+\-.0-9A-Z^-~]+")  # RFC 8866 §9, token
_HEX_DIGEST: Final = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2})*")


def _hash(algorithm: str, der: bytes) -> bytes:
    return hashlib.new(algorithm.replace("-", ""), der).digest()


@dataclass(frozen=True, slots=True)
class CertificateFingerprint:
    """The hash of a certificate in DER, as in `a=fingerprint:sha-256 AB:CD:…`."""

    algorithm: str
    """The hash function's name in lower case: `sha-256`."""
    digest: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the value of `a=fingerprint`; letter case does not matter."""
        algorithm, _, value = text.strip().partition(" ")
        algorithm, value = algorithm.lower(), value.strip().upper()
        if _TOKEN.fullmatch(algorithm) is None:
            raise ParseError(f"not a hash function: {algorithm[:40]!r}")
        if _HEX_DIGEST.fullmatch(value) is None:
            raise ParseError("a fingerprint is not colon-separated hex")
        digest = bytes.fromhex(value.replace(":", ""))
        if len(digest) != _DIGEST_SIZES.get(algorithm, len(digest)):
            raise ParseError(f"a fingerprint of the wrong length for {algorithm}")
        return cls(algorithm, digest)

    @classmethod
    def of(cls, der: bytes, algorithm: str = "sha-256") -> Self:
        """Return the fingerprint of a certificate in DER; `algorithm` is one of `TRUSTED_HASHES`."""
        return cls(algorithm, _hash(algorithm, der))

    def serialize(self) -> str:
        """Return the value of `a=fingerprint`: upper-case hex with colons (RFC 8122 §5)."""
        return f"{self.algorithm} {self.value}"

    __str__ = serialize

    @property
    def value(self) -> str:
        """The digest as SDP writes it: `AB:CD:…`."""
        return self.digest.hex(":").upper()

    @property
    def strength(self) -> int:
        """Size of the hash in bytes; 0 for a function that no certificate is told by (see `TRUSTED_HASHES`)."""
        return _DIGEST_SIZES[self.algorithm] if self.algorithm in TRUSTED_HASHES else 0

    def matches(self, der: bytes) -> bool:
        """Return True if the certificate has this fingerprint, by a hash that is trusted (RFC 8122 §5)."""
        return self.strength > 0 and hmac.compare_digest(self.digest, _hash(self.algorithm, der))
