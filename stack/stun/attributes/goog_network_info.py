"""GOOG-NETWORK-INFO, which libwebrtc sends in every check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from stack.core.stun_framing import TransactionId
from stack.core.wire import Reader, Writer
from stack.stun.attributes.base import Attribute, register_attribute


@register_attribute
@dataclass(frozen=True, slots=True)
class GoogNetworkInfo(Attribute):
    """The sender's network interface, and what it costs, 0 to 999.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |           Network ID          |          Network Cost         |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    network_id: int
    network_cost: int

    TYPE = 0xC057
    NAME = "GOOG-NETWORK-INFO"

    @classmethod
    def parse(cls, value: bytes, transaction_id: TransactionId) -> Self:
        """Read the two numbers."""
        reader = Reader(value)
        info = cls(reader.u16(), reader.u16())
        reader.expect_end(cls.NAME)
        return info

    def serialize(self, transaction_id: TransactionId) -> bytes:
        """Write the two numbers."""
        return Writer().u16(self.network_id).u16(self.network_cost).finish()
