"""Certificates as WebRTC uses them: self-signed, known by their fingerprint (RFC 8122, RFC 8827 §6.5).

A `Certificate` is ours and has its key; the peer's is only DER and a public key. No chain, name or date is
checked, and no fault in them matters: the fingerprint came over the signalling channel and is the whole of
the trust. What is checked is that the key can be read and is of a kind that we name, and that a key usage
extension, if there is one, allows signing (RFC 8446 §4.4.2.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from stack.core.certificate_fingerprint import CertificateFingerprint
from stack.core.errors import LocalError
from stack.core.machine import Entropy
from stack.dtls.alerts import AlertDescription, DtlsFailure, HandshakeFailure
from stack.dtls.der import read_certificate
from stack.dtls.signatures import PrivateKey, PublicKey

_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_MIN_RSA_BITS: Final = 1024  # what browsers accept of each other; the fingerprint, not the key, is the trust
_EC_KEY: Final = bytes.fromhex("06072a8648ce3d0201")  # id-ecPublicKey (RFC 5480 §2.1.1)
_RSA_KEY: Final = bytes.fromhex("06092a864886f70d010101")  # rsaEncryption (RFC 8017 §A.1)
_ED25519_KEY: Final = bytes.fromhex("06032b6570")  # RFC 8410 §3
_KEYS: Final = (_EC_KEY, _RSA_KEY, _ED25519_KEY)
_CURVES: Final = (bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06052b81040022"))  # P-256, P-384
DEFAULT_LIFETIME: Final = timedelta(days=30)
_CLOCK_SKEW: Final = timedelta(days=1)


class Certificate:
    """Our certificate: the chain in DER, leaf first, and the key that signs for it.

    Making one costs about 100 µs; it holds no per-connection state, so one serves any number of endpoints.
    """

    __slots__ = ("chain", "private_key")

    def __init__(self, chain: Sequence[bytes], private_key: PrivateKey) -> None:
        if not chain:
            raise LocalError("a certificate chain has at least one certificate")
        self.chain = tuple(chain)
        self.private_key = private_key

    @classmethod
    def generate(
        cls, entropy: Entropy, not_before: datetime, lifetime: timedelta = DEFAULT_LIFETIME, name: str = "WebRTC"
    ) -> Self:
        """Return a new self-signed certificate with an ECDSA P-256 key (RFC 8827 §6.5).

        `not_before` is the wall clock's time of now; a day is taken off it, for peers whose clock is slow.
        """
        seed = int.from_bytes(entropy(40), "big")
        key = ec.derive_private_key(seed % (_P256_ORDER - 1) + 1, ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        start = not_before if not_before.tzinfo else not_before.replace(tzinfo=UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(int.from_bytes(entropy(16), "big") >> 1 | 1)
            .not_valid_before(start - _CLOCK_SKEW)
            .not_valid_after(start + lifetime)
        )
        return cls([builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)], key)

    @classmethod
    def from_pem(cls, chain: bytes, private_key: bytes) -> Self:
        """Return the certificate (or chain, leaf first) and its key from PEM, unencrypted."""
        key = serialization.load_pem_private_key(private_key, password=None)
        if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey, Ed25519PrivateKey)):
            raise LocalError("only ECDSA, RSA and Ed25519 keys are supported")
        certificates = x509.load_pem_x509_certificates(chain)
        return cls([certificate.public_bytes(Encoding.DER) for certificate in certificates], key)

    @property
    def der(self) -> bytes:
        """The leaf in DER."""
        return self.chain[0]

    def fingerprint(self, algorithm: str = "sha-256") -> CertificateFingerprint:
        """Return the leaf's fingerprint for `a=fingerprint`."""
        return CertificateFingerprint.of(self.der, algorithm)

    def __repr__(self) -> str:
        return f"Certificate({self.fingerprint()})"


def peer_public_key(der: bytes) -> PublicKey:
    """Return the key of a peer's certificate; `HandshakeFailure` if it cannot be used for signing."""
    try:
        found = read_certificate(der)
        # RFC 8422 §5.1.1: a certificate's curve is one of those that we name in supported_groups.
        if found.algorithm not in _KEYS or (found.algorithm == _EC_KEY and found.parameters not in _CURVES):
            raise HandshakeFailure(
                AlertDescription.UNSUPPORTED_CERTIFICATE, DtlsFailure.BAD_CERTIFICATE, "kind of key"
            )
        key = serialization.load_der_public_key(found.public_key_info)
    except HandshakeFailure:
        raise
    except Exception as error:  # the parser's exceptions are an open set; whatever it is, the bytes are the peer's
        raise HandshakeFailure(
            AlertDescription.DECODE_ERROR, DtlsFailure.BAD_CERTIFICATE, f"{type(error).__name__}: {error}"
        ) from None
    if not isinstance(key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey, Ed25519PublicKey)):
        raise HandshakeFailure(AlertDescription.UNSUPPORTED_CERTIFICATE, DtlsFailure.BAD_CERTIFICATE)
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        raise HandshakeFailure(AlertDescription.UNSUPPORTED_CERTIFICATE, DtlsFailure.BAD_CERTIFICATE, "weak key")
    if not found.may_sign:
        raise HandshakeFailure(AlertDescription.ILLEGAL_PARAMETER, DtlsFailure.KEY_USAGE)
    return key


def check_fingerprint(der: bytes, expected: Iterable[CertificateFingerprint] | None) -> None:
    """Hold a certificate against the fingerprints from the SDP: one of them must match; None checks nothing."""
    if expected is not None and not any(fingerprint.matches(der) for fingerprint in expected):
        raise HandshakeFailure(AlertDescription.BAD_CERTIFICATE, DtlsFailure.FINGERPRINT_MISMATCH)
