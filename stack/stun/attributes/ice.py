"""PRIORITY, USE-CANDIDATE, ICE-CONTROLLED and ICE-CONTROLLING: the attributes of ICE (RFC 8445 §7.1, §16.1)."""

from __future__ import annotations

from dataclasses import dataclass

from stack.stun.attributes.base import OpaqueAttribute, UnsignedAttribute, register_attribute


@register_attribute
@dataclass(frozen=True, slots=True)
class Priority(UnsignedAttribute):
    """PRIORITY (RFC 8445 §7.1.1): what a peer-reflexive candidate learned from this check would have.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                            Priority                           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x0024
    NAME = "PRIORITY"


@register_attribute
@dataclass(frozen=True, slots=True)
class UseCandidate(OpaqueAttribute):
    """USE-CANDIDATE (RFC 8445 §7.1.2): a flag by which the controlling agent nominates.

    It has no value, so this is its header:

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |         Type = 0x0025         |           Length = 0          |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

    A value, which no RFC gives it, is kept.
    """

    value: bytes = b""

    TYPE = 0x0025
    NAME = "USE-CANDIDATE"


@register_attribute
@dataclass(frozen=True, slots=True)
class IceControlled(UnsignedAttribute):
    """ICE-CONTROLLED (RFC 8445 §7.1.3): the sender believes to be controlled.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                                                               |
    +                          Tie-breaker                          +
    |                                                               |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x8029
    NAME = "ICE-CONTROLLED"
    SIZE = 8


@register_attribute
@dataclass(frozen=True, slots=True)
class IceControlling(UnsignedAttribute):
    """ICE-CONTROLLING (RFC 8445 §7.1.3): the sender believes to be controlling.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                                                               |
    +                          Tie-breaker                          +
    |                                                               |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0x802A
    NAME = "ICE-CONTROLLING"
    SIZE = 8
