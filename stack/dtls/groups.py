"""Key exchange groups: X25519, P-256, P-384 and the hybrid X25519MLKEM768.

RFC 8446 §4.2.8 and §7.4, RFC 8422 §5.11, and for the hybrid draft-ietf-tls-ecdhe-mlkem: the ML-KEM part comes
first in both shares and in the secret. Finite fields, P-521 and X448 are left out: no WebRTC peer needs them.

Private keys are made from the machine's entropy so that a handshake can be replayed; the one exception is
ML-KEM encapsulation, for which the library takes no seed.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, mlkem
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stack.core.machine import Entropy
from stack.dtls.alerts import DtlsFailure, illegal_parameter


class NamedGroup(IntEnum):
    """RFC 8446 §4.2.7; the IANA registry of supported groups."""

    SECP256R1 = 0x0017
    SECP384R1 = 0x0018
    X25519 = 0x001D
    X25519MLKEM768 = 0x11EC


DEFAULT_GROUPS: Final = (
    NamedGroup.X25519MLKEM768,
    NamedGroup.X25519,
    NamedGroup.SECP256R1,
    NamedGroup.SECP384R1,
)
"""The hybrid first: what is recorded today must not be readable by a quantum computer later."""

CLASSICAL_GROUPS: Final = (NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.SECP384R1)
"""Without the hybrid, whose 1216-byte share splits a ClientHello over two datagrams; all that 1.2 can use."""

_MLKEM_PUBLIC_KEY_LENGTH: Final = 1184
_MLKEM_CIPHERTEXT_LENGTH: Final = 1088
_X25519_LENGTH: Final = 32
_CURVES: Final = {
    NamedGroup.SECP256R1: (ec.SECP256R1(), 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551),
    NamedGroup.SECP384R1: (
        ec.SECP384R1(),
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    ),
}
_SURPLUS_BYTES: Final = 8  # so that reduction modulo the group's order is unbiased (FIPS 186-5 §A.4.1)


class KeyExchange(Protocol):
    """Our half of a key exchange: a share to send, and the secret once the peer's share is here."""

    @property
    def public(self) -> bytes:
        """Our key share."""
        ...

    def shared_secret(self, peer: bytes) -> bytes:
        """Return the secret; `HandshakeFailure` if the peer's share is not valid."""
        ...


def _bad_share(detail: str) -> Exception:
    return illegal_parameter(DtlsFailure.BAD_KEY_SHARE, detail)


class X25519Exchange:
    """RFC 7748, as used by RFC 8446 §7.4.2."""

    __slots__ = ("_private", "public")

    def __init__(self, entropy: Entropy) -> None:
        self._private = X25519PrivateKey.from_private_bytes(entropy(32))
        self.public = self._private.public_key().public_bytes_raw()

    def shared_secret(self, peer: bytes) -> bytes:
        """Return the secret. An all-zero result, which `cryptography` refuses, is illegal (RFC 8446 §7.4.2)."""
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError as error:
            raise _bad_share(str(error)) from None


class EllipticCurveExchange:
    """P-256 and P-384 with uncompressed points (RFC 8446 §4.2.8.2)."""

    __slots__ = ("_curve", "_private", "public")

    def __init__(self, group: NamedGroup, entropy: Entropy) -> None:
        self._curve, order = _CURVES[group]
        seed = int.from_bytes(entropy((order.bit_length() + 7) // 8 + _SURPLUS_BYTES), "big")
        self._private = ec.derive_private_key(seed % (order - 1) + 1, self._curve)
        self.public = self._private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def shared_secret(self, peer: bytes) -> bytes:
        """Return the x coordinate of the shared point; a point off the curve is refused."""
        if peer[:1] != b"\x04":
            raise _bad_share("only uncompressed points are allowed")
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(self._curve, peer)
            return self._private.exchange(ec.ECDH(), point)
        except ValueError as error:
            raise _bad_share(str(error)) from None


class HybridClientExchange:
    """The client's half of X25519MLKEM768: an encapsulation key and an X25519 share."""

    __slots__ = ("_decapsulation_key", "_x25519", "public")

    def __init__(self, entropy: Entropy, x25519: X25519Exchange | None = None) -> None:
        self._decapsulation_key = mlkem.MLKEM768PrivateKey.from_seed_bytes(entropy(64))
        self._x25519 = x25519 or X25519Exchange(entropy)
        self.public = self._decapsulation_key.public_key().public_bytes_raw() + self._x25519.public

    def shared_secret(self, peer: bytes) -> bytes:
        """Return the ML-KEM secret followed by the X25519 secret."""
        if len(peer) != _MLKEM_CIPHERTEXT_LENGTH + _X25519_LENGTH:
            raise _bad_share("wrong length of a hybrid share")
        try:
            secret = self._decapsulation_key.decapsulate(peer[:_MLKEM_CIPHERTEXT_LENGTH])
        except ValueError as error:
            raise _bad_share(str(error)) from None
        return secret + self._x25519.shared_secret(peer[_MLKEM_CIPHERTEXT_LENGTH:])


def start_exchange(group: NamedGroup, entropy: Entropy) -> KeyExchange:
    """Return our half as the side that sends its share first."""
    if group is NamedGroup.X25519MLKEM768:
        return HybridClientExchange(entropy)
    if group is NamedGroup.X25519:
        return X25519Exchange(entropy)
    return EllipticCurveExchange(group, entropy)


def answer_exchange(group: NamedGroup, peer: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
    """Return our share and the secret, as the side that has the peer's share already."""
    if group is not NamedGroup.X25519MLKEM768:
        exchange = start_exchange(group, entropy)
        return exchange.public, exchange.shared_secret(peer)
    if len(peer) != _MLKEM_PUBLIC_KEY_LENGTH + _X25519_LENGTH:
        raise _bad_share("wrong length of a hybrid share")
    x25519 = X25519Exchange(entropy)
    try:
        key = mlkem.MLKEM768PublicKey.from_public_bytes(peer[:_MLKEM_PUBLIC_KEY_LENGTH])
        secret, ciphertext = key.encapsulate()
    except ValueError as error:
        raise _bad_share(str(error)) from None
    return ciphertext + x25519.public, secret + x25519.shared_secret(peer[_MLKEM_PUBLIC_KEY_LENGTH:])


def _hybrid_available() -> bool:
    """ML-KEM depends on the OpenSSL (or other library) that `cryptography` was built with."""
    try:
        mlkem.MLKEM768PrivateKey.from_seed_bytes(bytes(64))
    except UnsupportedAlgorithm:
        return False
    return True


AVAILABLE_GROUPS: Final = DEFAULT_GROUPS if _hybrid_available() else CLASSICAL_GROUPS
"""Our order of preference on this machine."""
