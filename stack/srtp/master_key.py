"""The master keys that DTLS exports for SRTP (RFC 5764 §4.2)."""

from __future__ import annotations

from dataclasses import dataclass

from stack.core.errors import LocalError
from stack.core.srtp_profile import SrtpProfile


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
