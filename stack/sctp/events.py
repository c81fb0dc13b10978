"""What an association reports to the data channels, and the data channels to their owner."""

from __future__ import annotations

from typing import NamedTuple, NewType, TypeAlias

from stack.core.serial import StreamId
from stack.core.values import TextOrBytes, Value
from stack.sctp.reset import IncomingReset, OutgoingReset
from stack.sctp.rx.reassembly import UserMessage

ChannelId = NewType("ChannelId", StreamId)
"""A data channel: its stream identifier, 0 to 65534."""


class AssociationUp(Value, frozen=True):
    """The association is established; `max_channels` is how many streams both sides have."""

    max_channels: int


class AssociationClosed(Value, frozen=True):
    """It is over. `reason` is empty after an orderly shutdown; `by_peer` says who ended it."""

    reason: str
    by_peer: bool


class AssociationRestarted(NamedTuple):
    """The peer began anew: everything under way is lost, every stream starts from zero (RFC 9260 §5.2.4.1)."""


AssociationEvent: TypeAlias = (
    AssociationUp | AssociationClosed | AssociationRestarted | UserMessage | IncomingReset | OutgoingReset
)


class ChannelOpened(Value, frozen=True):
    """A data channel can be used. `priority` is the peer's wish if `by_peer`."""

    channel: ChannelId
    label: str
    protocol: str
    ordered: bool
    max_retransmits: int | None
    max_lifetime_ms: int | None
    priority: int
    negotiated: bool
    by_peer: bool


class MessageReceived(Value, frozen=True):
    """A message: text or bytes, as the peer sent it."""

    channel: ChannelId
    data: TextOrBytes


class ChannelClosed(Value, frozen=True):
    """A data channel is gone; its identifier may be used again."""

    channel: ChannelId


class BufferedAmountLow(Value, frozen=True):
    """What waits on a channel has fallen to its threshold."""

    channel: ChannelId


SctpEvent: TypeAlias = (
    AssociationUp | AssociationClosed | ChannelOpened | MessageReceived | ChannelClosed | BufferedAmountLow
)
