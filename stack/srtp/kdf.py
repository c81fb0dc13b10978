"""Session keys from a master key (RFC 3711 §4.3, with AES-256 RFC 6188 §3, with a 96-bit salt RFC 7714 §11).

The key derivation rate is always zero, as RFC 5764 §4.1.2 demands: keys are derived once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from stack.core.srtp_profile import SrtpProfile
from stack.srtp.master_key import MasterKey

_KDF_SALT_LENGTH = 14
_LABEL_OFFSET = 7  # label || index DIV rate is 7 bytes, aligned with the end of the 14-byte salt


class Label(IntEnum):
    """What a derived key is for (RFC 3711 §4.3.1 and §4.3.2)."""

    RTP_ENCRYPTION = 0
    RTP_AUTHENTICATION = 1
    RTP_SALT = 2
    RTCP_ENCRYPTION = 3
    RTCP_AUTHENTICATION = 4
    RTCP_SALT = 5


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """The keys of one direction, for RTP or for RTCP."""

    encryption: bytes
    authentication: bytes
    salt: bytes


def aes_counter_mode(key: bytes, initial_counter: bytes, data: bytes) -> bytes:
    """Return `data` under the AES key stream that starts at the 16-byte `initial_counter` (RFC 3711 §4.1.1)."""
    encryptor = Cipher(AES(key), CTR(initial_counter)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def derive(master: MasterKey, label: Label, length: int) -> bytes:
    """Return `length` bytes of key for `label` (RFC 3711 §4.3.3)."""
    # RFC 7714 §11: a shorter salt is followed by zeros; the last two bytes count blocks.
    counter = bytearray(master.salt.ljust(_KDF_SALT_LENGTH, b"\0") + b"\0\0")
    counter[_LABEL_OFFSET] ^= label
    return aes_counter_mode(master.key, bytes(counter), bytes(length))


def derive_rtp_keys(profile: SrtpProfile, master: MasterKey) -> SessionKeys:
    """Return the keys that protect RTP."""
    return SessionKeys(
        derive(master, Label.RTP_ENCRYPTION, profile.key_length),
        derive(master, Label.RTP_AUTHENTICATION, profile.auth_key_length),
        derive(master, Label.RTP_SALT, profile.salt_length),
    )


def derive_rtcp_keys(profile: SrtpProfile, master: MasterKey) -> SessionKeys:
    """Return the keys that protect RTCP."""
    return SessionKeys(
        derive(master, Label.RTCP_ENCRYPTION, profile.key_length),
        derive(master, Label.RTCP_AUTHENTICATION, profile.auth_key_length),
        derive(master, Label.RTCP_SALT, profile.salt_length),
    )
