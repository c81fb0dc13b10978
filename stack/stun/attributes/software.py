"""SOFTWARE: the name of the sender's software (RFC 8489 §14.14)."""

from __future__ import annotations

from dataclasses import dataclass

from stack.stun.attributes.base import TextAttribute, register_attribute


@register_attribute
@dataclass(frozen=True, slots=True)
class Software(TextAttribute):
    """SOFTWARE (RFC 8489 §14.14): for people who look at traces.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |               SOFTWARE, UTF-8 (up to 763 bytes)               |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x8022
    NAME = "SOFTWARE"
