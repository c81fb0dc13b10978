"""MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489 §14.5 to §14.7), as they lie in a message.

They are made and verified in `stack.stun.integrity`, over the bytes of the whole message.
"""

from __future__ import annotations

from dataclasses import dataclass

from stack.stun.attributes.base import OpaqueAttribute, UnsignedAttribute, register_attribute


@register_attribute
@dataclass(frozen=True, slots=True)
class MessageIntegrity(OpaqueAttribute):
    """MESSAGE-INTEGRITY (RFC 8489 §14.5).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                      HMAC-SHA1 (160 bits)                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x0008
    NAME = "MESSAGE-INTEGRITY"
    SIZES = range(20, 21)


@register_attribute
@dataclass(frozen=True, slots=True)
class MessageIntegritySha256(OpaqueAttribute):
    """MESSAGE-INTEGRITY-SHA256 (RFC 8489 §14.6), truncated to no less than 16 bytes, by whole words.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                 HMAC-SHA256 (128 to 256 bits)                 |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x001C
    NAME = "MESSAGE-INTEGRITY-SHA256"
    SIZES = range(16, 33, 4)


@register_attribute
@dataclass(frozen=True, slots=True)
class Fingerprint(UnsignedAttribute):
    """FINGERPRINT (RFC 8489 §14.7).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                     CRC-32 XOR 0x5354554E                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x8028
    NAME = "FINGERPRINT"
