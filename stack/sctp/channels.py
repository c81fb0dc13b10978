"""Data channels over one association: what a session owns (RFC 8831, RFC 8832).

A channel is a pair of streams with the same identifier. It is opened by a DATA_CHANNEL_OPEN on the stream itself
(or by agreement, `negotiated_id`), and closed by resetting the streams of both sides (RFC 8831 §6.7). It can be
sent on as soon as it is opened; before the association is up, messages wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import ClassVar

from stack.core.counters import Counters, declare
from stack.core.errors import LocalError, ParseError
from stack.core.machine import Entropy, Instant, TerminalEvents
from stack.core.serial import StreamId
from stack.sctp.association import Association
from stack.sctp.config import SctpConfig
from stack.sctp.dcep import (
    DEFAULT_PRIORITY,
    DataChannelAck,
    DataChannelOpen,
    PayloadProtocol,
    decode_message,
    encode_message,
    parse_dcep,
)
from stack.sctp.events import (
    AssociationClosed,
    AssociationRestarted,
    AssociationUp,
    BufferedAmountLow,
    ChannelClosed,
    ChannelId,
    ChannelOpened,
    MessageReceived,
    SctpEvent,
)
from stack.sctp.reset import IncomingReset, OutgoingReset
from stack.sctp.rx.reassembly import UserMessage
from stack.sctp.state import ACCEPTS_MESSAGES, AssociationState

DROPPED_MESSAGE_WITHOUT_CHANNEL = declare(
    "sctp", "dropped_message_without_channel", "Messages on a stream that is no open channel"
)
DROPPED_MESSAGE_UNKNOWN_PROTOCOL = declare(
    "sctp",
    "dropped_message_unknown_protocol",
    "Messages whose payload protocol is unknown, or whose text is no UTF-8",
)
DROPPED_DCEP_MALFORMED = declare(
    "sctp", "dropped_dcep_malformed", "Messages of the channel protocol that could not be parsed (RFC 8832 §5)"
)
DCEP_WRONG_PARITY = declare(
    "sctp", "dcep_wrong_parity", "Channels opened on the half of the streams that is ours (RFC 8832 §6)"
)
DCEP_OPEN_BEFORE_RESET_RESPONSE = declare(
    "sctp", "dcep_open_before_reset_response", "Channels opened again before the answer to our reset came"
)
DROPPED_DCEP_STREAM_IN_USE = declare(
    "sctp", "dropped_dcep_stream_in_use", "Channels opened on a stream in use: the channel is closed (RFC 8832 §6)"
)
DROPPED_DCEP_TOO_MANY_CHANNELS = declare(
    "sctp", "dropped_dcep_too_many_channels", "Channels opened beyond the number that is kept"
)

MAX_CHANNELS = 1024
"""Channels at once, of both sides; a peer's further ones are closed at once."""
MAX_CHANNEL_ID = 65534


class ChannelClosedError(LocalError):
    """The channel is closed, closing, or was never opened."""


class ChannelUnavailableError(LocalError):
    """The channel cannot be opened: its identifier is taken, or there are too many."""


class MessageTooBigError(LocalError):
    """The message is longer than what the peer said it takes."""


class SendBufferFullError(LocalError):
    """Too much waits to be sent already: wait for `BufferedAmountLow`."""


class ChannelState(Enum):
    """The life of a channel."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"


class _Channel:
    """One channel's parameters and how far its opening and closing have come."""

    __slots__ = (
        "acknowledged",
        "by_peer",
        "channel_id",
        "incoming_reset",
        "negotiated",
        "outgoing_reset",
        "parameters",
        "state",
    )

    def __init__(
        self,
        channel_id: ChannelId,
        parameters: DataChannelOpen,
        negotiated: bool,
        acknowledged: bool,
        by_peer: bool,
    ) -> None:
        self.channel_id = channel_id
        self.by_peer = by_peer
        self.parameters = parameters
        self.negotiated = negotiated
        self.acknowledged = acknowledged
        """The peer knows the channel: until then messages go in order, behind the OPEN (RFC 8832 §6)."""
        self.state = ChannelState.CONNECTING
        self.outgoing_reset = False
        self.incoming_reset = False

    def opened(self) -> ChannelOpened:
        """Mark the channel as open and return the event that says so."""
        self.state = ChannelState.OPEN
        parameters = self.parameters
        return ChannelOpened(
            self.channel_id,
            parameters.label,
            parameters.protocol,
            parameters.ordered,
            parameters.max_retransmits,
            parameters.max_lifetime_ms,
            parameters.priority,
            self.negotiated,
            self.by_peer,
        )


class DataChannels:
    """A `Tunnel[SctpEvent]`: data channels over one association.

    `start` sends INIT; both sides may call it.
    """

    terminal_events: ClassVar[TerminalEvents] = (AssociationClosed,)

    def __init__(self, config: SctpConfig, entropy: Entropy) -> None:
        self._config = config
        self._association = Association(config, entropy)
        self._channels: dict[StreamId, _Channel] = {}
        self._events: list[SctpEvent] = []
        self._up = False
        self._next_id = 0 if config.is_dtls_client else 1

    # --- commands ------------------------------------------------------------------------------------------

    @property
    def counters(self) -> Counters:
        """What was dropped, and why."""
        return self._association.counters

    @property
    def state(self) -> AssociationState:
        """The state of the association."""
        return self._association.state

    def start(self, now: Instant) -> None:
        """Set the association up; harmless if the peer does it too, or has done it."""
        self._association.start(now)
        self._collect(now)

    def local_init(self) -> bytes:
        """Return our INIT chunk for `a=sctp-init` (draft-hancke-tsvwg-snap). Starts nothing."""
        return self._association.local_init()

    def establish(self, peer_init: bytes, now: Instant) -> None:
        """Take the peer's INIT chunk from `a=sctp-init`, once DTLS is up: no handshake follows.

        Raises `ParseError` for a wrong one.
        """
        self._association.establish(peer_init, now)
        self._collect(now)

    def set_rtt_hint(self, rtt: float, now: Instant) -> None:
        """Take a round trip in seconds that another protocol has measured, until there is one of our own."""
        self._association.set_rtt_hint(rtt, now)

    def open(
        self,
        label: str,
        now: Instant,
        *,
        protocol: str = "",
        ordered: bool = True,
        max_retransmits: int | None = None,
        max_lifetime_ms: int | None = None,
        negotiated_id: int | None = None,
        priority: int = DEFAULT_PRIORITY,
        by_peer: bool = False,
    ) -> ChannelId:
        """Open a channel; it can be sent on at once. With `negotiated_id`, the peer opens the same by itself,
        and it may be the one that wanted it (`by_peer`).

        Raises `ChannelUnavailableError`, and `LocalError` for parameters that contradict each other.
        """
        if max_retransmits is not None and max_lifetime_ms is not None:
            raise LocalError("either max_retransmits or max_lifetime_ms, not both")
        if self.state not in ACCEPTS_MESSAGES:
            raise ChannelUnavailableError(f"the association is {self.state.value}")
        parameters = DataChannelOpen(label, protocol, ordered, max_retransmits, max_lifetime_ms, priority)
        opening = parameters.serialize()
        channel_id = self._choose_id(negotiated_id)
        is_agreed = negotiated_id is not None
        channel = _Channel(channel_id, parameters, is_agreed, acknowledged=is_agreed, by_peer=by_peer)
        self._add(channel)
        if negotiated_id is None:
            self._association.send(channel_id, PayloadProtocol.DCEP, opening, now)
        if self._up:
            self._events.append(channel.opened())
        self._collect(now)
        return channel_id

    def find_agreed(self, label: str) -> ChannelId | None:
        """Return the channel under this label that the descriptions agreed on, if it is not being closed."""
        for channel in self._channels.values():
            is_agreed = channel.negotiated and channel.state is not ChannelState.CLOSING
            if is_agreed and channel.parameters.label == label:
                return channel.channel_id
        return None

    def send(self, channel: ChannelId, data: str | bytes, now: Instant) -> None:
        """Send text or bytes.

        Raises `ChannelClosedError`, `MessageTooBigError` (nothing was sent) or `SendBufferFullError` (try later).
        """
        known = self._channels.get(channel)
        if known is None or known.state is ChannelState.CLOSING:
            raise ChannelClosedError(f"channel {channel} is not open")
        ppid, payload = encode_message(data)
        limit = self._config.peer_max_message_size
        if limit and len(payload) > limit:
            raise MessageTooBigError(f"{len(payload)} bytes; the peer takes {limit}")
        if self._association.buffered_amount() + len(payload) > self._config.send_buffer:
            raise SendBufferFullError(f"{self._association.buffered_amount()} bytes are waiting")
        parameters = known.parameters
        self._association.send(
            channel,
            ppid,
            payload,
            now,
            unordered=not parameters.ordered and known.acknowledged,
            max_retransmits=parameters.max_retransmits,
            lifetime=None if parameters.max_lifetime_ms is None else parameters.max_lifetime_ms / 1000,
        )
        self._collect(now)

    def buffered_amount(self, channel: ChannelId) -> int:
        """Bytes given to `send` on a channel that were never on the wire yet."""
        return self._association.buffered_amount(channel)

    def set_low_threshold(self, channel: ChannelId, threshold: int) -> None:
        """Have `BufferedAmountLow` reported when what waits on a channel falls to `threshold` bytes."""
        if channel not in self._channels:
            raise ChannelClosedError(f"channel {channel} is not open")
        self._association.set_low_threshold(channel, threshold)

    def set_unread(self, size: int, now: Instant) -> None:
        """Tell how many bytes of received messages the program has not taken yet, over all channels.

        They narrow the receive window, so that a peer cannot fill the memory of a program that does not read.
        """
        self._association.set_unread(size, now)
        self._collect(now)

    def close_channel(self, channel: ChannelId, now: Instant) -> None:
        """Close a channel when all that was sent on it has left; `ChannelClosed` follows when the peer agrees."""
        known = self._channels.get(channel)
        if known is not None and known.state is not ChannelState.CLOSING:
            self._begin_closing(known, now)
            self._collect(now)

    def shutdown(self, now: Instant) -> None:
        """End the association when everything that was sent has arrived."""
        self._association.shutdown(now)
        self._collect(now)

    def abort(self, now: Instant, reason: str = "") -> None:
        """End the association at once."""
        self._association.abort(now, reason)
        self._collect(now)

    # --- the tunnel's contract -----------------------------------------------------------------------------

    def handle_datagram(self, data: bytes, now: Instant) -> None:
        """Take one packet out of the tunnel."""
        self.handle_datagrams((data,), now)

    def handle_datagrams(self, batch: Iterable[bytes], now: Instant) -> None:
        """Take packets that arrived together; they are answered together, which is cheaper for both sides."""
        self._association.handle_datagrams(batch, now)
        self._collect(now)

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        self._association.handle_timeout(now)
        self._collect(now)

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called next."""
        return self._association.poll_timeout()

    def drain_transmits(self) -> Sequence[bytes]:
        """Every packet to be put into the tunnel."""
        return self._association.drain_transmits()

    def drain_events(self) -> Sequence[SctpEvent]:
        """Everything that happened, in order."""
        self._collect_low()  # packets may have left since the last input
        events, self._events = self._events, []
        return events

    # --- identifiers ---------------------------------------------------------------------------------------

    def _choose_id(self, negotiated_id: int | None) -> ChannelId:
        if len(self._channels) >= MAX_CHANNELS:
            raise ChannelUnavailableError(f"{MAX_CHANNELS} channels are open")
        if negotiated_id is not None:
            if not 0 <= negotiated_id <= MAX_CHANNEL_ID or negotiated_id in self._channels:
                raise ChannelUnavailableError(f"channel {negotiated_id} is taken, or out of range")
            return ChannelId(StreamId(negotiated_id))
        # RFC 8832 §6: the DTLS client takes even identifiers, the server odd ones.
        chosen = self._next_id
        while chosen in self._channels:
            chosen += 2
        if chosen > MAX_CHANNEL_ID:
            raise ChannelUnavailableError("no identifier is free")
        return ChannelId(StreamId(chosen))

    def _add(self, channel: _Channel) -> None:
        self._channels[channel.channel_id] = channel
        self._association.set_priority(channel.channel_id, channel.parameters.priority)

    # --- what the association reports ----------------------------------------------------------------------

    def _collect(self, now: Instant) -> None:
        """Translate the association's events; each may make the association report more."""
        while events := self._association.drain_events():
            for event in events:
                if isinstance(event, UserMessage):
                    self._handle_message(event, now)
                elif isinstance(event, IncomingReset):
                    self._handle_incoming_reset(event, now)
                elif isinstance(event, OutgoingReset):
                    for stream_id in event.stream_ids:
                        self._note_reset(stream_id, outgoing=True)
                elif isinstance(event, AssociationUp):
                    self._handle_up(event)
                elif isinstance(event, AssociationRestarted):
                    self._drop_all()
                else:
                    self._handle_closed(event)
        self._collect_low()

    def _collect_low(self) -> None:
        for stream_id in self._association.drain_low():
            if stream_id in self._channels:
                self._events.append(BufferedAmountLow(ChannelId(stream_id)))

    def _handle_up(self, event: AssociationUp) -> None:
        self._up = True
        self._events.append(event)
        for channel in self._channels.values():
            if channel.state is ChannelState.CONNECTING:
                self._events.append(channel.opened())

    def _handle_closed(self, event: AssociationClosed) -> None:
        self._drop_all()
        self._events.append(event)

    def _drop_all(self) -> None:
        self._up = False
        self._events += [ChannelClosed(channel.channel_id) for channel in self._channels.values()]
        self._channels.clear()

    def _handle_message(self, message: UserMessage, now: Instant) -> None:
        channel = self._channels.get(message.stream_id)
        if message.ppid == PayloadProtocol.DCEP:
            self._handle_dcep(message, channel, now)
            return
        if channel is None or channel.incoming_reset:
            self.counters.add(DROPPED_MESSAGE_WITHOUT_CHANNEL)
            return
        # Data can only follow the peer's having seen the OPEN, so it is as good as the ACK.
        channel.acknowledged = True
        try:
            data = decode_message(message.ppid, message.data)
        except ParseError:
            self.counters.add(DROPPED_MESSAGE_UNKNOWN_PROTOCOL)
            return
        self._events.append(MessageReceived(channel.channel_id, data))

    def _handle_dcep(self, message: UserMessage, channel: _Channel | None, now: Instant) -> None:
        try:
            parsed = parse_dcep(message.data)
        except ParseError:
            self.counters.add(DROPPED_DCEP_MALFORMED)
            return
        if isinstance(parsed, DataChannelOpen):
            self._handle_open(ChannelId(message.stream_id), parsed, channel, now)
        elif channel is not None:
            channel.acknowledged = True

    def _handle_open(
        self, channel_id: ChannelId, parameters: DataChannelOpen, channel: _Channel | None, now: Instant
    ) -> None:
        if channel_id % 2 == self._next_id % 2:
            # RFC 8832 §6 gives the peer the other half of the identifiers. werift chooses by its part in ICE
            # instead of DTLS; so as not to meet it on the same stream, we leave it the half that it takes.
            self._next_id ^= 1
            self.counters.add(DCEP_WRONG_PARITY)
        if channel is not None and channel.state is ChannelState.CLOSING and channel.incoming_reset:
            # RFC 8831 §6.7: an identifier is used again when both streams are reset. So this OPEN says what the
            # peer's answer to our reset, lost or overtaken, would have said.
            self.counters.add(DCEP_OPEN_BEFORE_RESET_RESPONSE)
            for stream_id in self._association.conclude_reset(channel_id, now):
                self._note_reset(stream_id, outgoing=True)
            channel = self._channels.get(channel_id)
            if channel is not None:  # the answer came together with the OPEN, and is still to be translated
                self._note_reset(channel_id, outgoing=True)
                channel = None
        if channel is not None:
            # RFC 8832 §6: an OPEN for a stream in use is an error, and ends the channel.
            self.counters.add(DROPPED_DCEP_STREAM_IN_USE)
            if channel.state is not ChannelState.CLOSING:
                self._begin_closing(channel, now)
            return
        if len(self._channels) >= MAX_CHANNELS or channel_id > MAX_CHANNEL_ID:
            self.counters.add(DROPPED_DCEP_TOO_MANY_CHANNELS)
            self._association.reset_stream(channel_id, now)
            return
        channel = _Channel(channel_id, parameters, negotiated=False, acknowledged=True, by_peer=True)
        self._add(channel)
        self._events.append(channel.opened())
        if self.state is AssociationState.ESTABLISHED:
            self._association.send(channel_id, PayloadProtocol.DCEP, DataChannelAck().serialize(), now)

    # --- closing -------------------------------------------------------------------------------------------

    def _begin_closing(self, channel: _Channel, now: Instant) -> None:
        channel.state = ChannelState.CLOSING
        self._association.reset_stream(channel.channel_id, now)

    def _handle_incoming_reset(self, event: IncomingReset, now: Instant) -> None:
        for stream_id in event.stream_ids or tuple(self._channels):
            channel = self._channels.get(stream_id)
            if channel is None:
                continue
            if channel.state is not ChannelState.CLOSING:
                # RFC 8831 §6.7: the answer to the peer's reset is our own. What still waits has no reader left.
                self._association.discard_queued(stream_id, now)
                self._begin_closing(channel, now)
            self._note_reset(stream_id, outgoing=False)

    def _note_reset(self, stream_id: StreamId, *, outgoing: bool) -> None:
        channel = self._channels.get(stream_id)
        if channel is None:
            return
        if outgoing:
            if channel.state is not ChannelState.CLOSING:
                return  # of the channel that had this identifier before
            channel.outgoing_reset = True
        else:
            channel.incoming_reset = True
        if channel.outgoing_reset and channel.incoming_reset:
            del self._channels[stream_id]
            self._events.append(ChannelClosed(channel.channel_id))
