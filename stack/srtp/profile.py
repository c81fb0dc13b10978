"""The SRTP protection profiles that DTLS may choose, and the keys that it exports for them.

RFC 5764 §4.1.2 and §4.2, RFC 7714 §14.2. AES128_CM_HMAC_SHA1_32 is left out: its 32-bit tag saves six bytes,
and every peer that offers it offers a stronger profile too. The NULL profiles are left out: they protect nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from stack.core.errors import LocalError


class SrtpProfile(IntEnum):
    """A protection profile under the number that the use_srtp extension carries."""

    AES128_CM_HMAC_SHA1_80 = 1
    AEAD_AES_128_GCM = 7
    AEAD_AES_256_GCM = 8

    @property
    def is_aead(self) -> bool:
        """True if one algorithm both encrypts and authenticates (RFC 7714)."""
        return self is not SrtpProfile.AES128_CM_HMAC_SHA1_80

    @property
    def key_length(self) -> int:
        """Bytes in the master key, and in the session encryption key."""
        return 32 if self is SrtpProfile.AEAD_AES_256_GCM else 16

    @property
    def salt_length(self) -> int:
        """Bytes in the master salt, and in the session salt."""
        return 12 if self.is_aead else 14

    @property
    def auth_key_length(self) -> int:
        """Bytes in the session authentication key; an AEAD needs none."""
        return 0 if self.is_aead else 20

    @property
    def tag_length(self) -> int:
        """Bytes that the authentication tag adds to a packet."""
        return 16 if self.is_aead else 10


@dataclass(frozen=True, slots=True)
class MasterKey:
    """What one direction's session keys are derived from."""

    key: bytes
    salt: bytes

    def check(self, profile: SrtpProfile) -> None:
        """Raise `LocalError` unless both lengths are what `profile` wants."""
        if (len(self.key), len(self.salt)) != (profile.key_length, profile.salt_length):
            raise LocalError(f"a master key of {len(self.key)}+{len(self.salt)} bytes does not fit {profile.name}")

    def __repr__(self) -> str:
        return f"MasterKey(<{len(self.key)}+{len(self.salt)} secret bytes>)"


def keying_material_length(profile: SrtpProfile) -> int:
    """Return how many bytes to ask of the TLS exporter `EXTRACTOR-dtls_srtp` (RFC 5764 §4.2)."""
    return 2 * (profile.key_length + profile.salt_length)


def split_keying_material(profile: SrtpProfile, material: bytes, is_client: bool) -> tuple[MasterKey, MasterKey]:
    """Return the (local, remote) master keys from the exporter's output; `is_client` is our DTLS role.

    RFC 5764 §4.2: client key, server key, client salt, server salt.
    """
    if len(material) != keying_material_length(profile):
        raise LocalError(f"{profile.name} needs {keying_material_length(profile)} bytes, not {len(material)}")
    key, salt = profile.key_length, profile.salt_length
    client = MasterKey(material[:key], material[2 * key : 2 * key + salt])
    server = MasterKey(material[key : 2 * key], material[2 * key + salt :])
    return (client, server) if is_client else (server, client)
