"""USERNAME, REALM and NONCE: what a message is authenticated with (RFC 8489 §14.3, §14.9, §14.10)."""

from __future__ import annotations

from dataclasses import dataclass

from stack.core.stun_framing import USERNAME_TYPE
from stack.stun.attributes.base import TextAttribute, register_attribute

MAX_USERNAME_SIZE = 513
"""Two ICE username fragments of 256 characters and a colon (RFC 8445 §5.3); RFC 8489 §14.3 itself allows 508."""


@register_attribute
@dataclass(frozen=True, slots=True)
class Username(TextAttribute):
    """USERNAME (RFC 8489 §14.3); in ICE "receiver's ufrag:sender's ufrag" (RFC 8445 §7.2.2).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |               USERNAME, UTF-8 (up to 513 bytes)               |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = USERNAME_TYPE
    NAME = "USERNAME"
    MAX_SIZE = MAX_USERNAME_SIZE


@register_attribute
@dataclass(frozen=True, slots=True)
class Realm(TextAttribute):
    """REALM (RFC 8489 §14.9): for long-term credentials.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                 REALM, UTF-8 (up to 763 bytes)                |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x0014
    NAME = "REALM"


@register_attribute
@dataclass(frozen=True, slots=True)
class Nonce(TextAttribute):
    """NONCE (RFC 8489 §14.10): for long-term credentials.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                 NONCE, UTF-8 (up to 763 bytes)                |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x0015
    NAME = "NONCE"
