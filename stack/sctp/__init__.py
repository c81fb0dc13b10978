"""SCTP and data channels, from scratch (RFC 9260, 3758, 6525, 8260, 8831, 8832, 9653).

`DataChannels` is what a session owns: a tunnel over DTLS application data with commands to open, send and close,
and events for what arrives. `Association` is the layer below, for a program that wants streams without data
channels. How a message travels through the files: `docs/sctp.md`.
"""

from stack.sctp.association import Association, AssociationEndedError, make_local_init
from stack.sctp.channels import (
    MAX_CHANNELS,
    ChannelClosedError,
    ChannelState,
    ChannelUnavailableError,
    DataChannels,
    MessageTooBigError,
    SendBufferFullError,
)
from stack.sctp.config import DEFAULT_MAX_MESSAGE_SIZE, DEFAULT_PORT, UNSTATED_MAX_MESSAGE_SIZE, SctpConfig
from stack.sctp.dcep import DEFAULT_PRIORITY
from stack.sctp.events import (
    AssociationClosed,
    AssociationEvent,
    AssociationRestarted,
    AssociationUp,
    BufferedAmountLow,
    ChannelClosed,
    ChannelId,
    ChannelOpened,
    MessageReceived,
    SctpEvent,
)
from stack.sctp.packet import Packet, build_packet
from stack.sctp.reset import IncomingReset, OutgoingReset
from stack.sctp.rx.reassembly import UserMessage
from stack.sctp.state import AssociationState

__all__ = [
    "DEFAULT_MAX_MESSAGE_SIZE",
    "DEFAULT_PORT",
    "DEFAULT_PRIORITY",
    "MAX_CHANNELS",
    "UNSTATED_MAX_MESSAGE_SIZE",
    "Association",
    "AssociationClosed",
    "AssociationEndedError",
    "AssociationEvent",
    "AssociationRestarted",
    "AssociationState",
    "AssociationUp",
    "BufferedAmountLow",
    "ChannelClosed",
    "ChannelClosedError",
    "ChannelId",
    "ChannelOpened",
    "ChannelState",
    "ChannelUnavailableError",
    "DataChannels",
    "IncomingReset",
    "MessageReceived",
    "MessageTooBigError",
    "OutgoingReset",
    "Packet",
    "SctpConfig",
    "SctpEvent",
    "SendBufferFullError",
    "UserMessage",
    "build_packet",
    "make_local_init",
]
