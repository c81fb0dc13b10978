"""The key schedule of 1.2: PRF, master secret, key block, Finished, exporter.

RFC 5246 §5, §6.3, §7.4.9, §8.1; RFC 7627 §4 (extended master secret); RFC 5705 §4 (exporter).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from stack.dtls.record import Protection12
from stack.dtls.suites import NONCE_LENGTH, SuiteParameters

MASTER_SECRET_LENGTH: Final = 48
VERIFY_DATA_LENGTH: Final = 12
_GCM_SALT_LENGTH: Final = 4  # RFC 5288 §3


def prf(hash_name: str, secret: bytes, label: bytes, seed: bytes, length: int) -> bytes:
    """Return `length` bytes of P_hash(secret, label + seed) (RFC 5246 §5)."""
    seed = label + seed
    step, output = seed, b""
    while len(output) < length:
        step = hmac.digest(secret, step, hash_name)
        output += hmac.digest(secret, step + seed, hash_name)
    return output[:length]


@dataclass(frozen=True, slots=True)
class Keys12:
    """What both sides derive once they share a premaster secret."""

    suite: SuiteParameters
    master_secret: bytes
    client_random: bytes
    server_random: bytes

    @classmethod
    def derive(
        cls,
        suite: SuiteParameters,
        premaster_secret: bytes,
        client_random: bytes,
        server_random: bytes,
        session_transcript: bytes | None,
    ) -> Keys12:
        """Return the keys; `session_transcript` is the handshake through ClientKeyExchange if the extended master
        secret was negotiated (RFC 7627 §4), None if not."""
        if session_transcript is None:
            label, seed = b"master secret", client_random + server_random
        else:
            label = b"extended master secret"
            seed = hashlib.new(suite.hash_name, session_transcript).digest()
        master = prf(suite.hash_name, premaster_secret, label, seed, MASTER_SECRET_LENGTH)
        return cls(suite, master, client_random, server_random)

    def protections(self) -> tuple[Protection12, Protection12]:
        """Return the protection of what the client writes and of what the server writes (RFC 5246 §6.3)."""
        suite = self.suite
        iv_length = NONCE_LENGTH if suite.is_chacha else _GCM_SALT_LENGTH
        key_length = suite.key_length
        block = prf(
            suite.hash_name,
            self.master_secret,
            b"key expansion",
            self.server_random + self.client_random,
            2 * (key_length + iv_length),
        )
        keys, ivs = block[: 2 * key_length], block[2 * key_length :]
        return (
            Protection12(suite, keys[:key_length], ivs[:iv_length]),
            Protection12(suite, keys[key_length:], ivs[iv_length:]),
        )

    def verify_data(self, label: bytes, transcript: bytes) -> bytes:
        """Return the content of a Finished (RFC 5246 §7.4.9)."""
        digest = hashlib.new(self.suite.hash_name, transcript).digest()
        return prf(self.suite.hash_name, self.master_secret, label, digest, VERIFY_DATA_LENGTH)

    def export(self, label: bytes, context: bytes | None, length: int) -> bytes:
        """Return exported keying material (RFC 5705 §4); no context and an empty one differ."""
        seed = self.client_random + self.server_random
        if context is not None:
            seed += len(context).to_bytes(2, "big") + context
        return prf(self.suite.hash_name, self.master_secret, label, seed, length)
