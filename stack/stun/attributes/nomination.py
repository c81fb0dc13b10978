"""NOMINATION (draft-thatcher-ice-renomination-01 §5): a nomination with a number, so that there may be several."""

from __future__ import annotations

from dataclasses import dataclass

from stack.stun.attributes.base import UnsignedAttribute, register_attribute


@register_attribute
@dataclass(frozen=True, slots=True)
class Nomination(UnsignedAttribute):
    """NOMINATION, beside USE-CANDIDATE: of several nominations the one with the greatest number counts.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                           Nomination                          |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

    The draft has IANA give it a type; libwebrtc uses this one.
    """

    TYPE = 0xC001
    NAME = "NOMINATION"
