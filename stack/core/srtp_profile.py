"""The SRTP protection profiles: what the use_srtp extension of DTLS negotiates and SRTP carries out.

RFC 5764 §4.1.2 and RFC 7714 §14.2. The NULL profiles are left out: they protect nothing.
"""

from __future__ import annotations

from enum import IntEnum


class SrtpProfile(IntEnum):
    """A protection profile under the number that the use_srtp extension carries."""

    AES128_CM_HMAC_SHA1_80 = 0x0001
    AES128_CM_HMAC_SHA1_32 = 0x0002
    AEAD_AES_128_GCM = 0x0007
    AEAD_AES_256_GCM = 0x0008

    @property
    def is_aead(self) -> bool:
        """True if one algorithm both encrypts and authenticates (RFC 7714)."""
        return self in (SrtpProfile.AEAD_AES_128_GCM, SrtpProfile.AEAD_AES_256_GCM)

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
    def rtp_tag_length(self) -> int:
        """Bytes that the authentication tag adds to an RTP packet."""
        return 4 if self is SrtpProfile.AES128_CM_HMAC_SHA1_32 else self.rtcp_tag_length

    @property
    def rtcp_tag_length(self) -> int:
        """Bytes that the authentication tag adds to a compound RTCP packet: never 4 (RFC 5764 §4.1.2)."""
        return 16 if self.is_aead else 10
