"""An SCTP association in a DTLS tunnel (RFC 9260, RFC 8261): its commands, packets and timers.

What it knows is in `tcb.py`, its states in `state.py`, what it does with each chunk and timer in `procedures/`,
one module to a section of RFC 9260; sending is `tx/`, receiving `rx/`. After every input and command `flush`
packs what may be sent.

Left out: multi-homing and dynamic addresses (RFC 8261 §6: DTLS has one path), path MTU discovery (DTLS's
business), ECN (a tunnel cannot see the marks), authentication (RFC 4895; DTLS does it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from stack.core.counters import declare
from stack.core.errors import LocalError, ParseError, RemoteError
from stack.core.machine import Entropy, Instant, TerminalEvents
from stack.core.serial import StreamId
from stack.sctp.chunks import Capabilities, CookieEchoChunk
from stack.sctp.chunks.causes import ProtocolViolationCause
from stack.sctp.config import SctpConfig
from stack.sctp.events import AssociationClosed, AssociationEvent
from stack.sctp.packet import Packet
from stack.sctp.procedures import HANDLERS, fault_management, handshake, stream_reset, termination
from stack.sctp.procedures.user_data import flush
from stack.sctp.state import ACCEPTS_MESSAGES, EXISTS, AssociationState
from stack.sctp.state_cookie import LocalEndpoint
from stack.sctp.tcb import AssociationTimer, TransmissionControlBlock
from stack.sctp.tx.queue import QueuedMessage
from stack.sctp.tx.sender import SenderTimer

DROPPED_PACKET_MALFORMED = declare(
    "sctp", "dropped_packet_malformed", "Packets that could not be parsed, or with a wrong checksum"
)
DROPPED_PACKET_WRONG_PORT = declare("sctp", "dropped_packet_wrong_port", "Packets for or from another port")

_TIMER_HANDLERS: dict[AssociationTimer, Callable[[TransmissionControlBlock, Instant], None]] = {
    AssociationTimer.T1: handshake.handle_t1,
    AssociationTimer.COOKIE_ACK: handshake.handle_cookie_ack_timer,
    AssociationTimer.T2_SHUTDOWN: termination.handle_t2,
    AssociationTimer.T5_SHUTDOWN_GUARD: termination.handle_t5,
}


def make_local_init(config: SctpConfig, entropy: Entropy) -> bytes:
    """Return an INIT chunk for our SDP (draft-hancke-tsvwg-snap); `SctpConfig.local_init` takes it again."""
    return handshake.unpadded_init(config, LocalEndpoint.random(entropy))


class AssociationEndedError(LocalError):
    """The association takes no more messages: it is shutting down or over."""


class Association:
    """A `Tunnel[AssociationEvent]`: one association, in either role, or both at once.

    Raises `ParseError` if the configured `local_init` is no INIT chunk.
    """

    terminal_events: ClassVar[TerminalEvents] = (AssociationClosed,)

    def __init__(self, config: SctpConfig, entropy: Entropy) -> None:
        local = None
        if config.local_init is not None:
            local = LocalEndpoint.from_init(handshake.parse_init(config.local_init))
        self._tcb = TransmissionControlBlock(config, entropy, local)
        self._ports = (config.remote_port, config.local_port)
        self.counters = self._tcb.counters

    @property
    def state(self) -> AssociationState:
        """Where the association is in its life."""
        return self._tcb.state

    @property
    def capabilities(self) -> Capabilities:
        """The extensions in force; none before the peer has announced its own."""
        return self._tcb.capabilities

    # --- commands ------------------------------------------------------------------------------------------

    def start(self, now: Instant) -> None:
        """Send INIT. Both sides may; a side that does not still answers."""
        handshake.start(self._tcb, now)

    def local_init(self) -> bytes:
        """Return our INIT chunk for the SDP, without its padding (draft-hancke-tsvwg-snap). Starts nothing."""
        return handshake.unpadded_init(self._tcb.config, self._tcb.local)

    def establish(self, peer_init: bytes, now: Instant) -> None:
        """Take the peer's INIT chunk from the SDP, once the tunnel is up (draft-hancke-tsvwg-snap).

        No handshake follows. Raises `ParseError` if it is not an INIT that makes an association.
        """
        handshake.establish_from_sdp(self._tcb, peer_init, now)
        flush(self._tcb, now)

    def send(
        self,
        stream_id: StreamId,
        ppid: int,
        data: bytes,
        now: Instant,
        *,
        unordered: bool = False,
        max_retransmits: int | None = None,
        lifetime: float | None = None,
    ) -> None:
        """Send a message of at least one byte; `lifetime` is in seconds. Before set-up it waits."""
        tcb = self._tcb
        if tcb.state not in ACCEPTS_MESSAGES:
            raise AssociationEndedError(f"the association is {tcb.state.value}")
        expires_at = None if lifetime is None else now + lifetime
        queue = tcb.sender.queue
        queue.push(QueuedMessage(queue.stream(stream_id), data, ppid, unordered, max_retransmits, expires_at))
        flush(tcb, now)

    def set_rtt_hint(self, rtt: float, now: Instant) -> None:
        """Take a round trip in seconds that another protocol has measured on this path; running timers move."""
        tcb, timers = self._tcb, self._tcb.sender.timers
        tcb.sender.rto.take_hint(rtt)
        timeout = tcb.sender.rto.current
        if tcb.timers.is_set(AssociationTimer.T1):
            tcb.timers.set(AssociationTimer.T1, tcb.handshake_sent_at + timeout)
        if timers.is_set(SenderTimer.T3_RTX):
            timers.bring_forward(SenderTimer.T3_RTX, now + timeout)

    def set_priority(self, stream_id: StreamId, priority: int) -> None:
        """Give a stream its weight among the others."""
        self._tcb.sender.queue.stream(stream_id).priority = max(1, priority)

    def set_low_threshold(self, stream_id: StreamId, threshold: int) -> None:
        """Have `drain_low` name a stream when its buffered amount falls to `threshold` bytes."""
        self._tcb.sender.queue.stream(stream_id).low_threshold = threshold

    def buffered_amount(self, stream_id: StreamId | None = None) -> int:
        """Bytes of a stream, or of all, that were never sent yet."""
        queue = self._tcb.sender.queue
        if stream_id is None:
            return queue.buffered
        stream = queue.streams.get(stream_id)
        return stream.buffered if stream is not None else 0

    def set_unread(self, size: int, now: Instant) -> None:
        """Take how many bytes of delivered messages the program has not read: they narrow the window."""
        if self._tcb.receiver is not None:
            self._tcb.receiver.set_unread(size, now)
            flush(self._tcb, now)

    def discard_queued(self, stream_id: StreamId, now: Instant) -> None:
        """Abandon what was never sent on a stream."""
        if stream_id in self._tcb.sender.queue.streams:
            self._tcb.sender.discard_stream(stream_id, now)

    def reset_stream(self, stream_id: StreamId, now: Instant) -> None:
        """Reset an outgoing stream as soon as all that is queued on it has been sent."""
        stream_reset.reset_stream(self._tcb, stream_id)
        flush(self._tcb, now)

    def conclude_reset(self, stream_id: StreamId, now: Instant) -> tuple[StreamId, ...]:
        """The peer uses a stream anew that we are resetting; return the streams of ours that are thereby reset."""
        return stream_reset.conclude_reset(self._tcb, stream_id, now)

    def shutdown(self, now: Instant) -> None:
        """End in good order: everything queued is still delivered (RFC 9260 §9.2)."""
        termination.shut_down(self._tcb, now)
        flush(self._tcb, now)

    def abort(self, now: Instant, reason: str = "") -> None:
        """End at once (§9.1)."""
        termination.abort_by_user(self._tcb, reason)

    # --- the tunnel's contract -----------------------------------------------------------------------------

    def handle_datagram(self, data: bytes, now: Instant) -> None:
        """Take one packet."""
        self.handle_datagrams((data,), now)

    def handle_datagrams(self, batch: Iterable[bytes], now: Instant) -> None:
        """Take packets that arrived together, and answer them together: one SACK for all."""
        for data in batch:
            self._handle_packet(data, now)
        flush(self._tcb, now)

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        due = self.poll_timeout()
        if due is None or now < due:
            return  # a flush here would let a burst that is held back (MAX_BURST) go early
        tcb = self._tcb
        tcb.timers.fire(now, lambda timer, now: _TIMER_HANDLERS[timer](tcb, now))
        if tcb.state is not AssociationState.ENDED:
            tcb.sender.handle_timeout(now)
            fault_management.handle_heartbeat_timer(tcb, now)
            if tcb.reset is not None:
                outcome = tcb.reset.handle_timeout(now, now + tcb.sender.rto.current)
                stream_reset.apply_reset(tcb, outcome)
            if tcb.sender.timeouts > tcb.config.max_retransmissions:
                termination.abort_by_user(tcb, "too many retransmissions")
        flush(tcb, now)

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called next."""
        tcb = self._tcb
        earliest = tcb.timers.next
        for at in (
            tcb.sender.timers.next,
            tcb.heartbeat.due_at,
            tcb.receiver.sack_at if tcb.receiver is not None else None,
            tcb.reset.retry_at if tcb.reset is not None else None,
        ):
            if at is not None and (earliest is None or at < earliest):
                earliest = at
        return earliest

    def drain_transmits(self) -> Sequence[bytes]:
        """Every packet to be sent."""
        return self._tcb.bundler.drain()

    def drain_events(self) -> Sequence[AssociationEvent]:
        """Everything that happened, in order."""
        events = self._tcb.events
        if events:
            self._tcb.events = []
        return events

    def drain_low(self) -> list[StreamId]:
        """Streams whose buffered amount has fallen to their threshold."""
        queue = self._tcb.sender.queue
        low = queue.low
        if low:
            queue.low = []
        return low

    # --- packets -------------------------------------------------------------------------------------------

    def _handle_packet(self, data: bytes, now: Instant) -> None:
        tcb = self._tcb
        try:
            packet = Packet.parse(data, accept_zero_checksum=tcb.config.zero_checksum)
        except ParseError:
            tcb.counters.add(DROPPED_PACKET_MALFORMED)
            return
        if packet[:2] != self._ports:
            tcb.counters.add(DROPPED_PACKET_WRONG_PORT)
            return
        try:
            self._handle_chunks(packet, now)
        except RemoteError as error:
            tcb.abort(ProtocolViolationCause(str(error).encode()), str(error), by_peer=True)

    def _handle_chunks(self, packet: Packet, now: Instant) -> None:
        tcb = self._tcb
        _, _, tag, chunks = packet
        first = chunks[0]
        # RFC 9260 §8.5: our tag, except in the chunks that §8.5.1 names.
        if tag != tcb.local.tag or type(first) in fault_management.OWN_TAG_RULE or tcb.state not in EXISTS:
            if not fault_management.verify_tag(tcb, first, packet, now):
                return
            if isinstance(first, CookieEchoChunk):
                chunks = chunks[1:]
        if tcb.cookie_acks_left and not isinstance(first, handshake.BEFORE_COOKIE_ACK):
            handshake.note_established_by_peer(tcb)
        for chunk in chunks:
            handler = HANDLERS.get(type(chunk))
            if handler is not None:
                handler(tcb, chunk, now)
            elif not fault_management.handle_without_handler(tcb, chunk):
                break
            if tcb.state is AssociationState.ENDED:
                return
        if tcb.receiver is not None and tcb.receiver.packet_has_data:
            tcb.receiver.finish_packet()
