"""The attributes of DTLS in STUN (draft-hancke-webrtc-sped)."""

from __future__ import annotations

from dataclasses import dataclass

from stack.stun.attributes.base import OpaqueAttribute, register_attribute


@register_attribute
@dataclass(frozen=True, slots=True)
class DtlsInStun(OpaqueAttribute):
    """One DTLS datagram inside a check; an empty one means that the sender supports it.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                    DTLS datagram (variable)                   |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0xC070
    NAME = "DTLS-IN-STUN"


@register_attribute
@dataclass(frozen=True, slots=True)
class DtlsInStunAcknowledgement(OpaqueAttribute):
    """The DTLS datagrams that arrived, by their CRC-32.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                     CRC-32 of one datagram                    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                              ...                              |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    TYPE = 0xC071
    NAME = "DTLS-IN-STUN-ACKNOWLEDGEMENT"
