"""Certificates of kinds that we do not make ourselves."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from stack.dtls import Certificate
from stack.dtls.signatures import PrivateKey
from tests.sim.certificates import EPOCH


def self_signed(key: PrivateKey, usage: x509.KeyUsage | None = None) -> Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(EPOCH)
        .not_valid_after(EPOCH + timedelta(days=30))
    )
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    algorithm = None if isinstance(key, Ed25519PrivateKey) else hashes.SHA256()
    return Certificate([builder.sign(key, algorithm).public_bytes(Encoding.DER)], key)


@lru_cache
def rsa_certificate(number: int) -> Certificate:
    return self_signed(rsa.generate_private_key(65537, 2048))


@lru_cache
def p384_certificate() -> Certificate:
    return self_signed(ec.generate_private_key(ec.SECP384R1()))


@lru_cache
def ed25519_certificate() -> Certificate:
    return self_signed(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
