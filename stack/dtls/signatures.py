"""Signature schemes: which fit a key and a version, how to sign and how to verify (RFC 8446 §4.2.3).

ECDSA is deterministic (RFC 6979) where the library can do it: a handshake can then be replayed from its seed,
and a weak random number generator cannot leak the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from stack.dtls.alerts import AlertDescription, DtlsFailure, HandshakeFailure, illegal_parameter
from stack.dtls.suites import Authentication, Version

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | Ed25519PublicKey


class SignatureScheme(IntEnum):
    """RFC 8446 §4.2.3. In DTLS 1.2 the ECDSA names stand for a hash only, not for a curve."""

    RSA_PKCS1_SHA256 = 0x0401
    RSA_PKCS1_SHA384 = 0x0501
    RSA_PKCS1_SHA512 = 0x0601
    ECDSA_SECP256R1_SHA256 = 0x0403
    ECDSA_SECP384R1_SHA384 = 0x0503
    RSA_PSS_RSAE_SHA256 = 0x0804
    RSA_PSS_RSAE_SHA384 = 0x0805
    RSA_PSS_RSAE_SHA512 = 0x0806
    ED25519 = 0x0807


DEFAULT_SIGNATURE_SCHEMES: Final = (
    SignatureScheme.ECDSA_SECP256R1_SHA256,
    SignatureScheme.RSA_PSS_RSAE_SHA256,
    SignatureScheme.RSA_PKCS1_SHA256,
    SignatureScheme.ECDSA_SECP384R1_SHA384,
    SignatureScheme.ED25519,
    SignatureScheme.RSA_PSS_RSAE_SHA384,
    SignatureScheme.RSA_PKCS1_SHA384,
    SignatureScheme.RSA_PSS_RSAE_SHA512,
    SignatureScheme.RSA_PKCS1_SHA512,
)

_S: Final = SignatureScheme
_ECDSA: Final = {_S.ECDSA_SECP256R1_SHA256: hashes.SHA256(), _S.ECDSA_SECP384R1_SHA384: hashes.SHA384()}
_PKCS1: Final = {
    _S.RSA_PKCS1_SHA256: hashes.SHA256(),
    _S.RSA_PKCS1_SHA384: hashes.SHA384(),
    _S.RSA_PKCS1_SHA512: hashes.SHA512(),
}
_PSS: Final = {
    _S.RSA_PSS_RSAE_SHA256: hashes.SHA256(),
    _S.RSA_PSS_RSAE_SHA384: hashes.SHA384(),
    _S.RSA_PSS_RSAE_SHA512: hashes.SHA512(),
}
_CURVE_OF: Final[dict[int, str]] = {_S.ECDSA_SECP256R1_SHA256: "secp256r1", _S.ECDSA_SECP384R1_SHA384: "secp384r1"}


def _deterministic_available() -> bool:
    """Deterministic ECDSA needs OpenSSL 3.2 or newer below `cryptography`."""
    try:
        probe = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
        ec.derive_private_key(1, ec.SECP256R1()).sign(b"", probe)
    except UnsupportedAlgorithm:
        return False
    return True


_DETERMINISTIC: Final = _deterministic_available()
_ECDSA_SIGN: Final = {scheme: ec.ECDSA(h, deterministic_signing=_DETERMINISTIC) for scheme, h in _ECDSA.items()}
_ECDSA_VERIFY: Final = {scheme: ec.ECDSA(h) for scheme, h in _ECDSA.items()}


def fits(scheme: int, key: PrivateKey | PublicKey, version: Version) -> bool:
    """Return True if `scheme` may be used with `key` in `version`."""
    if isinstance(key, (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)):
        curve = _CURVE_OF.get(scheme)
        # RFC 8446 §4.2.3: from 1.3 on the scheme names the curve as well.
        return curve is not None and (version is not Version.DTLS_1_3 or curve == key.curve.name)
    if isinstance(key, (rsa.RSAPrivateKey, rsa.RSAPublicKey)):
        if scheme in _PSS:
            # RFC 8017 §9.1.1: the modulus must hold two hashes and two bytes.
            return key.key_size // 8 >= 2 * _PSS[SignatureScheme(scheme)].digest_size + 2
        # RFC 8446 §4.2.3: PKCS#1 v1.5 is for certificates only in 1.3.
        return scheme in _PKCS1 and version is not Version.DTLS_1_3
    return scheme == SignatureScheme.ED25519


def authentication_of(key: PrivateKey | PublicKey) -> Authentication:
    """Return which 1.2 suites the key serves; Ed25519 counts as ECDSA (RFC 8422 §5.10)."""
    return Authentication.RSA if isinstance(key, (rsa.RSAPrivateKey, rsa.RSAPublicKey)) else Authentication.ECDSA


def choose_scheme(
    ours: Sequence[SignatureScheme], theirs: Sequence[int], key: PrivateKey, version: Version
) -> SignatureScheme:
    """Return the scheme to sign with: the first of ours that the peer accepts and the key can do."""
    for scheme in ours:
        if scheme in theirs and fits(scheme, key, version):
            return scheme
    raise HandshakeFailure(AlertDescription.HANDSHAKE_FAILURE, DtlsFailure.NO_COMMON_SIGNATURE_ALGORITHM)


def sign(scheme: SignatureScheme, key: PrivateKey, data: bytes) -> bytes:
    """Return the signature of `data`."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, _ECDSA_SIGN[scheme])
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(data)
    if scheme in _PSS:
        algorithm = _PSS[scheme]
        return key.sign(data, padding.PSS(padding.MGF1(algorithm), algorithm.digest_size), algorithm)
    return key.sign(data, padding.PKCS1v15(), _PKCS1[scheme])


def verify(
    scheme: int,
    key: PublicKey,
    signature: bytes,
    data: bytes,
    version: Version,
    offered: Sequence[SignatureScheme] = DEFAULT_SIGNATURE_SCHEMES,
) -> None:
    """Check the peer's signature; `HandshakeFailure` if it was not offered, does not fit or does not verify."""
    if scheme not in offered or not fits(scheme, key, version):
        raise illegal_parameter(DtlsFailure.WRONG_SIGNATURE_ALGORITHM, f"{scheme:#06x}")
    known = SignatureScheme(scheme)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, _ECDSA_VERIFY[known])
        elif isinstance(key, Ed25519PublicKey):
            key.verify(signature, data)
        elif known in _PSS:
            algorithm = _PSS[known]
            key.verify(signature, data, padding.PSS(padding.MGF1(algorithm), algorithm.digest_size), algorithm)
        else:
            key.verify(signature, data, padding.PKCS1v15(), _PKCS1[known])
    except InvalidSignature:
        raise HandshakeFailure(AlertDescription.DECRYPT_ERROR, DtlsFailure.BAD_SIGNATURE) from None
