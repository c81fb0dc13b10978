"""An SCTP association in a DTLS tunnel: set-up, data, shutdown (RFC 9260 §4, §5, §8, §9; RFC 8261).

The one file that owns the association's states. Datagrams come in as packets, each chunk has its handler; after
every input and command `_flush` packs what may be sent. Sending is `tx/`, receiving `rx/`, reset `reset.py`.

Longer than most files here, since set-up, data, reset and shutdown are transitions of one machine, and one file
owns them; what each of them needs is elsewhere (`handshake.py`, `heartbeat.py`, `outbox.py`).

Set-up without a handshake (draft-hancke-tsvwg-snap): each side's INIT travels in the SDP; `local_init` gives ours,
`establish` takes the peer's.

Left out: multi-homing and dynamic addresses (RFC 8261 §6: DTLS has one path), path MTU discovery (DTLS's
business), ECN (a tunnel cannot see the marks), authentication (RFC 4895; DTLS does it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, ClassVar

from stack.core.errors import LocalError, ParseError, RemoteError
from stack.core.machine import Entropy, Instant, TerminalEvents
from stack.core.serial import SERIAL32
from stack.core.timers import Timers
from stack.core.trace import Counters
from stack.sctp.chunks import (
    AbortChunk,
    Capabilities,
    Cause,
    Chunk,
    CookieAckChunk,
    CookieEchoChunk,
    DataChunk,
    ErrorCause,
    ErrorChunk,
    ForwardTsnChunk,
    HeartbeatAckChunk,
    HeartbeatChunk,
    IDataChunk,
    IForwardTsnChunk,
    InitAckChunk,
    InitChunk,
    ReconfigChunk,
    SackChunk,
    ShutdownAckChunk,
    ShutdownChunk,
    ShutdownCompleteChunk,
    UnknownChunk,
)
from stack.sctp.chunks.init import STATE_COOKIE
from stack.sctp.chunks.kinds import reports_when_unknown, skips_when_unknown
from stack.sctp.chunks.sack import SACK_OVERHEAD
from stack.sctp.config import SctpConfig
from stack.sctp.events import AssociationClosed, AssociationEvent, AssociationRestarted, AssociationUp
from stack.sctp.handshake import (
    COOKIE_LIFETIME,
    OUTBOUND_STREAMS,
    CookieAction,
    CookieJar,
    LocalSide,
    PeerSide,
    build_init,
    judge_cookie,
    parse_init,
    problem_with,
)
from stack.sctp.heartbeat import Heartbeat
from stack.sctp.outbox import Outbox
from stack.sctp.packet import Packet
from stack.sctp.reset import IncomingReset, OutgoingReset, ResetOutcome, StreamReset
from stack.sctp.rx.receiver import Receiver
from stack.sctp.tx.queue import OutgoingMessage
from stack.sctp.tx.rto import RTO_MAX, RtoEstimator
from stack.sctp.tx.sender import Sender

MAX_BURST = 10
"""Packets with data sent at one go, beyond the two that slow start allows for each that has just been acknowledged
(RFC 9260 §6.1 D)."""
MAX_REPORTED_CHUNK = 64
"""How much of a chunk that we do not know is sent back in an ERROR, in bytes."""


class State(Enum):
    """RFC 9260 §4, and ENDED: this association does not come back."""

    CLOSED = "closed"
    COOKIE_WAIT = "cookie-wait"
    COOKIE_ECHOED = "cookie-echoed"
    ESTABLISHED = "established"
    SHUTDOWN_PENDING = "shutdown-pending"
    SHUTDOWN_SENT = "shutdown-sent"
    SHUTDOWN_RECEIVED = "shutdown-received"
    SHUTDOWN_ACK_SENT = "shutdown-ack-sent"
    ENDED = "ended"


# Tuples: to find an Enum in one takes a comparison of identities, in a set a hash computed in Python.
_SETTING_UP = (State.CLOSED, State.COOKIE_WAIT, State.COOKIE_ECHOED)
_EXISTS = tuple(state for state in State if state not in (State.CLOSED, State.ENDED))
_TAKES_MESSAGES = (State.ESTABLISHED, *_SETTING_UP)
_RECEIVES_DATA = (State.ESTABLISHED, State.SHUTDOWN_PENDING, State.SHUTDOWN_SENT)
_SENDS_DATA = (State.ESTABLISHED, State.SHUTDOWN_PENDING, State.SHUTDOWN_RECEIVED)
_SPECIAL_FIRST = frozenset({InitChunk, CookieEchoChunk, AbortChunk, ShutdownCompleteChunk, ShutdownAckChunk})
"""Chunks with a rule of their own about the verification tag, if they stand first in a packet."""


class AssociationTimer(Enum):
    """Why the association wants to be woken, beside its parts' own reasons."""

    T1 = "t1-init or t1-cookie"
    T2_SHUTDOWN = "t2-shutdown"
    T5_SHUTDOWN_GUARD = "t5-shutdown-guard"


class AssociationEndedError(LocalError):
    """The association takes no more messages: it is shutting down or over."""


class Association:
    """A `Tunnel[AssociationEvent]`: one association, in either role, or both at once."""

    terminal_events: ClassVar[TerminalEvents] = (AssociationClosed,)

    def __init__(self, config: SctpConfig, entropy: Entropy) -> None:
        self.state = State.CLOSED
        self.counters = Counters()
        self.capabilities = Capabilities()
        """The extensions in force; none before the peer has told its own."""
        self._config = config
        self._entropy = entropy
        self._ports = (config.remote_port, config.local_port)
        self._cookies = CookieJar(entropy(32), config.receive_window, config.capabilities)
        self._local = LocalSide.random(entropy)
        self._peer: PeerSide | None = None
        self._outbox = Outbox(config.local_port, config.remote_port, config.mtu)
        self._timers: Timers[AssociationTimer] = Timers()
        self._events: list[AssociationEvent] = []
        self._sender = self._new_sender()
        self._receiver: Receiver | None = None
        self._reset: StreamReset | None = None
        self._handshake_chunk = b""
        self._handshake_attempts = 0
        self._handshake_sent_at = 0.0
        self._heartbeat = Heartbeat(config.heartbeat_interval, entropy)
        self._handlers: dict[type, Callable[[Any, Instant], None]] = {
            DataChunk: self._handle_data,
            IDataChunk: self._handle_data,
            SackChunk: self._handle_sack,
            InitAckChunk: self._handle_init_ack,
            CookieAckChunk: self._handle_cookie_ack,
            HeartbeatChunk: self._handle_heartbeat,
            HeartbeatAckChunk: self._handle_heartbeat_ack,
            ForwardTsnChunk: self._handle_forward,
            IForwardTsnChunk: self._handle_forward,
            ReconfigChunk: self._handle_reconfig,
            ErrorChunk: self._handle_error,
            AbortChunk: self._handle_abort,
            ShutdownChunk: self._handle_shutdown,
            ShutdownAckChunk: self._handle_shutdown_ack,
            ShutdownCompleteChunk: self._handle_shutdown_complete,
        }

    # --- commands ------------------------------------------------------------------------------------------

    def start(self, now: Instant) -> None:
        """Send INIT. Both sides may; a side that does not still answers."""
        if self.state is State.CLOSED:
            self.state = State.COOKIE_WAIT
            self._begin_handshake(self._init().serialize(), now)
            self._send_handshake_chunk()

    def local_init(self) -> bytes:
        """Return our INIT chunk for the SDP, without the padding of its last parameter. Starts nothing."""
        chunk = self._init().serialize()
        return chunk[: int.from_bytes(chunk[2:4], "big")]

    def establish(self, peer_init: bytes, now: Instant) -> None:
        """Take the peer's INIT chunk from the SDP, once the tunnel is up; no handshake follows.

        Raises `ParseError` if it is not an INIT that makes an association.
        """
        init = parse_init(peer_init)
        problem = problem_with(init)
        if problem is not None:
            raise ParseError(f"INIT: {problem}")
        if self.state not in _SETTING_UP:
            return
        self._adopt(PeerSide.from_init(init))
        self._establish(now)
        self._flush(now)

    def send(
        self,
        stream_id: int,
        ppid: int,
        data: bytes,
        now: Instant,
        *,
        unordered: bool = False,
        max_retransmits: int | None = None,
        lifetime: float | None = None,
    ) -> None:
        """Send a message of at least one byte; `lifetime` is in seconds. Before set-up it waits."""
        if self.state not in _TAKES_MESSAGES:
            raise AssociationEndedError(f"the association is {self.state.value}")
        expires_at = None if lifetime is None else now + lifetime
        stream = self._sender.queue.stream(stream_id)
        self._sender.queue.push(OutgoingMessage(stream, data, ppid, unordered, max_retransmits, expires_at))
        self._flush(now)

    def set_priority(self, stream_id: int, priority: int) -> None:
        """Give a stream its weight among the others."""
        self._sender.queue.stream(stream_id).priority = max(1, priority)

    def set_low_threshold(self, stream_id: int, threshold: int) -> None:
        """Have `drain_low` tell when a stream's buffered amount falls to `threshold` bytes."""
        self._sender.queue.stream(stream_id).low_threshold = threshold

    def buffered_amount(self, stream_id: int | None = None) -> int:
        """Bytes of a stream, or of all, that were never sent yet."""
        queue = self._sender.queue
        if stream_id is None:
            return queue.buffered
        stream = queue.streams.get(stream_id)
        return stream.buffered if stream is not None else 0

    def set_unread(self, size: int, now: Instant) -> None:
        """Tell how many bytes of delivered messages the program has not read: they narrow the window."""
        if self._receiver is not None:
            self._receiver.set_unread(size, now)
            self._flush(now)

    def discard_queued(self, stream_id: int, now: Instant) -> None:
        """Give up what was never sent on a stream."""
        if stream_id in self._sender.queue.streams:
            self._sender.discard_stream(stream_id, now)

    def reset_stream(self, stream_id: int, now: Instant) -> None:
        """Reset an outgoing stream as soon as all that is queued on it has been sent."""
        if self._reset is None or self.state is State.ENDED:
            return
        self._reset.wanted[stream_id] = None
        self._flush(now)

    def conclude_reset(self, stream_id: int, now: Instant) -> tuple[int, ...]:
        """The peer uses a stream anew that we are resetting; return the streams of ours that are thereby reset.

        A reset that was not requested yet is not requested any more: the stream goes on as it is.
        """
        if self._reset is None:
            return ()
        if stream_id in self._reset.wanted:
            del self._reset.wanted[stream_id]
            self.discard_queued(stream_id, now)
            return (stream_id,)
        done = self._reset.conclude(stream_id)
        for each in done:
            self._sender.queue.streams.pop(each, None)
        return done

    def shutdown(self, now: Instant) -> None:
        """End in good order: everything queued is still delivered (RFC 9260 §9.2)."""
        if self.state in _SETTING_UP:
            self._end("shut down before it was established", by_peer=False)
        elif self.state is State.ESTABLISHED:
            self.state = State.SHUTDOWN_PENDING
            self._timers.set(AssociationTimer.T5_SHUTDOWN_GUARD, now + 5 * RTO_MAX)
            self._flush(now)

    def abort(self, now: Instant, reason: str = "") -> None:
        """End at once (§9.1)."""
        self._abort(ErrorCause(Cause.USER_INITIATED_ABORT, reason.encode()), reason or "aborted", by_peer=False)

    # --- the tunnel's contract -----------------------------------------------------------------------------

    def handle_datagram(self, data: bytes, now: Instant) -> None:
        """Take one packet."""
        self.handle_datagrams((data,), now)

    def handle_datagrams(self, batch: Iterable[bytes], now: Instant) -> None:
        """Take packets that arrived together, and answer them together: one SACK for all."""
        for data in batch:
            self._take(data, now)
        self._flush(now)

    def _take(self, data: bytes, now: Instant) -> None:
        try:
            packet = Packet.parse(data, accept_zero_checksum=self._config.zero_checksum)
        except ParseError:
            self.counters.add("packet_malformed")
            return
        if packet[:2] != self._ports:
            self.counters.add("packet_wrong_port")
            return
        try:
            self._handle_packet(packet, now)
        except RemoteError as error:
            self._abort(ErrorCause.protocol_violation(str(error)), str(error), by_peer=True)

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        due = self.poll_timeout()
        if due is None or now < due:
            return  # a flush here would let a burst that is held back (MAX_BURST) go early
        for timer in self._timers.pop_due(now):
            self._handle_timer(timer, now)
        if self.state is not State.ENDED:
            self._sender.handle_timeout(now)
            self._beat(now)
            if self._reset is not None:
                self._follow_reset(self._reset.handle_timeout(now, now + self._sender.rto.current))
            if self._sender.timeouts > self._config.max_retransmissions:
                self.abort(now, "too many retransmissions")
        self._flush(now)

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called next."""
        earliest = self._timers.next
        for at in (
            self._sender.timers.next,
            self._heartbeat.at,
            self._receiver.sack_at if self._receiver is not None else None,
            self._reset.retry_at if self._reset is not None else None,
        ):
            if at is not None and (earliest is None or at < earliest):
                earliest = at
        return earliest

    def drain_transmits(self) -> Sequence[bytes]:
        """Every packet to be sent."""
        return self._outbox.drain()

    def drain_events(self) -> Sequence[AssociationEvent]:
        """Everything that happened, in order."""
        events = self._events
        if events:
            self._events = []
        return events

    def drain_low(self) -> list[int]:
        """Streams whose buffered amount has fallen to their threshold."""
        low = self._sender.queue.low
        if low:
            self._sender.queue.low = []
        return low

    # --- packets -------------------------------------------------------------------------------------------

    def _handle_packet(self, packet: Packet, now: Instant) -> None:
        _, _, tag, chunks = packet
        first = chunks[0]
        # RFC 9260 §8.5: our tag, except in the chunks that §8.5.1 names.
        if tag != self._local.tag or type(first) in _SPECIAL_FIRST or self.state not in _EXISTS:
            if not self._admit(first, packet, now):
                return
            if isinstance(first, CookieEchoChunk):
                chunks = chunks[1:]
        for chunk in chunks:
            handler = self._handlers.get(type(chunk))
            if handler is not None:
                handler(chunk, now)
            elif not self._handle_stray(chunk):
                break
            if self.state is State.ENDED:
                return
        if self._receiver is not None and self._receiver.has_news:
            self._receiver.packet_done()

    def _admit(self, first: Chunk, packet: Packet, now: Instant) -> bool:
        """RFC 9260 §8.5.1: packets whose tag is not simply ours. True: their chunks may be handled."""
        tag = packet.verification_tag
        if self.state is State.ENDED:
            self._answer_after_end(first, tag)
            return False
        if type(first) is InitChunk:
            # §8.5.1 A, §3: an INIT comes with tag 0, and alone.
            if tag or len(packet.chunks) > 1:
                self.counters.add("init_malformed")
            else:
                self._handle_init(first, now)
            return False
        if isinstance(first, CookieEchoChunk):
            return self._handle_cookie_echo(first, tag, now)
        if isinstance(first, ShutdownAckChunk) and self.state in _SETTING_UP:
            # §8.5.1 E: an association that we know nothing of is to be ended.
            self._outbox.alone(ShutdownCompleteChunk(reflected=True).serialize(), tag)
            return False
        right = tag == self._local.tag and self.state is not State.CLOSED
        if isinstance(first, AbortChunk | ShutdownCompleteChunk) and first.reflected:
            right = self._peer is not None and tag == self._peer.tag
        if not right:
            self.counters.add("packet_wrong_tag")
        return right

    def _answer_after_end(self, first: Chunk, tag: int) -> None:
        """RFC 9260 §8.4: a packet for an association that is no more."""
        self.counters.add("packet_after_end")
        if isinstance(first, ShutdownAckChunk):
            self._outbox.alone(ShutdownCompleteChunk(reflected=True).serialize(), tag)
        elif isinstance(first, DataChunk | IDataChunk | HeartbeatChunk):
            self._outbox.alone(AbortChunk(reflected=True).serialize(), tag)

    def _handle_stray(self, chunk: Chunk) -> bool:
        """An unknown chunk, or a known one out of place. False: the rest of the packet is not looked at."""
        if not isinstance(chunk, UnknownChunk):
            self.counters.add("chunk_out_of_place")
            return False
        self.counters.add("chunk_unknown")
        if reports_when_unknown(chunk.kind) and self.state not in _SETTING_UP:
            report = chunk.serialize()[:MAX_REPORTED_CHUNK]
            self._queue_error(ErrorCause(Cause.UNRECOGNIZED_CHUNK_TYPE, report))
        return skips_when_unknown(chunk.kind)

    # --- set-up --------------------------------------------------------------------------------------------

    def _init(self) -> InitChunk:
        return build_init(self._local, self._config.receive_window, self._config.capabilities)

    def _new_sender(self) -> Sender:
        rto = RtoEstimator(self._config.rtt_hint)
        return Sender(self._local.initial_tsn, self._outbox.pmdcs, rto)

    def _begin_handshake(self, chunk: bytes, now: Instant) -> None:
        self._handshake_chunk = chunk
        self._handshake_attempts = 1
        self._handshake_sent_at = now
        self._timers.set(AssociationTimer.T1, now + self._sender.rto.current)

    def _measure_handshake(self, now: Instant) -> None:
        """RFC 9260 §6.3.1: the first samples, so that the first data need not wait RTO.Initial when it is lost."""
        if self._handshake_attempts == 1:  # C5
            self._sender.rto.measured(now - self._handshake_sent_at)

    def _send_handshake_chunk(self) -> None:
        if self.state is State.COOKIE_WAIT:
            self._outbox.alone(self._handshake_chunk, 0)
        else:
            self._outbox.queue(self._handshake_chunk)

    def _handle_init(self, init: InitChunk, now: Instant) -> None:
        problem = problem_with(init)
        if problem is not None:
            self.counters.add("init_invalid")
            self._outbox.alone(AbortChunk((problem,)).serialize(), init.initiate_tag)
        elif self.state is State.SHUTDOWN_ACK_SENT:
            self._outbox.queue(ShutdownAckChunk().serialize())  # RFC 9260 §9.2
        else:
            # §5.2.1: while we set up ourselves, the tag of our own INIT; §5.2.2: afterwards a new one.
            local = self._local if self.state in _SETTING_UP else LocalSide.random(self._entropy)
            ties = (self._local.tag, self._peer.tag) if self._peer is not None else (0, 0)
            self._outbox.alone(self._cookies.answer(init, local, ties, now).serialize(), init.initiate_tag)

    def _handle_init_ack(self, ack: InitAckChunk, now: Instant) -> None:
        if self.state is not State.COOKIE_WAIT:
            return  # §5.2.3
        cookie = ack.find(STATE_COOKIE)
        problem = problem_with(ack)
        if problem is None and cookie is None:
            problem = ErrorCause.missing_parameter(STATE_COOKIE)
        if problem is not None or cookie is None:
            self._outbox.tag = ack.initiate_tag
            self._abort(problem or ErrorCause(Cause.PROTOCOL_VIOLATION), f"INIT ACK: {problem}", by_peer=True)
            return
        self._adopt(PeerSide.from_init(ack))
        self._measure_handshake(now)
        self.state = State.COOKIE_ECHOED
        self._begin_handshake(CookieEchoChunk(cookie).serialize(), now)
        self._send_handshake_chunk()

    def _handle_cookie_echo(self, echo: CookieEchoChunk, tag: int, now: Instant) -> bool:
        """RFC 9260 §5.1.5 and §5.2.4. False: the packet is dropped."""
        try:
            cookie = self._cookies.open(echo.cookie)
        except ParseError:
            self.counters.add("cookie_invalid")
            return False
        action = judge_cookie(cookie, self._local, self._peer)
        staleness = now - cookie.created_at - COOKIE_LIFETIME
        if tag != cookie.local.tag or action is CookieAction.DISCARD:
            self.counters.add("cookie_mismatch")
            return False
        if staleness > 0 and action is not CookieAction.DUPLICATE:
            self._outbox.alone(ErrorChunk((ErrorCause.stale_cookie(staleness),)).serialize(), cookie.peer.tag)
            return False
        if action is CookieAction.RESTART and self.state is State.SHUTDOWN_ACK_SENT:
            self._outbox.queue(ShutdownAckChunk().serialize())
            self._queue_error(ErrorCause(Cause.COOKIE_RECEIVED_WHILE_SHUTTING_DOWN))
            return False
        if action is CookieAction.RESTART:
            self._restart(cookie.local, cookie.peer, now)
        elif self.state in _SETTING_UP:
            if action is CookieAction.COLLISION:
                self._adopt(cookie.peer)
            self._establish(now)
        elif action is CookieAction.COLLISION:
            self._peer = cookie.peer
            self._outbox.tag = cookie.peer.tag
        self._outbox.queue(CookieAckChunk().serialize())
        return True

    def _handle_cookie_ack(self, chunk: CookieAckChunk, now: Instant) -> None:
        if self.state is State.COOKIE_ECHOED:
            self._measure_handshake(now)
            self._establish(now)

    def _adopt(self, peer: PeerSide) -> None:
        """The peer's side of the association is known."""
        self._peer = peer
        self.capabilities = self._config.capabilities.common(peer.capabilities)
        self._outbox.tag = peer.tag
        self._sender.partial_reliability = self.capabilities.partial_reliability
        self._sender.queue.interleaving = self.capabilities.interleaving
        self._sender.peer_rwnd = peer.a_rwnd
        self._receiver = Receiver(
            peer.initial_tsn,
            self._config.receive_window,
            self._config.max_message_size,
            self.capabilities.interleaving,
            self.counters,
        )
        self._reset = StreamReset(self._local.initial_tsn, peer.initial_tsn)

    def _establish(self, now: Instant) -> None:
        assert self._peer is not None
        self.state = State.ESTABLISHED
        self._timers.clear(AssociationTimer.T1)
        self._outbox.zero_checksum = self.capabilities.zero_checksum
        self._heartbeat.rest(now)
        self._events.append(
            AssociationUp(min(OUTBOUND_STREAMS, self._peer.inbound_streams, self._peer.outbound_streams))
        )

    def _restart(self, local: LocalSide, peer: PeerSide, now: Instant) -> None:
        """The peer has begun anew (RFC 9260 §5.2.4.1 A)."""
        self.counters.add("restarted")
        self._local = local
        self._sender = self._new_sender()
        self._timers.clear_all()
        if self._receiver is not None:
            self._events += self._receiver.drain()
        self._adopt(peer)
        self._events.append(AssociationRestarted())
        self._establish(now)

    # --- data ----------------------------------------------------------------------------------------------

    def _handle_data(self, chunk: DataChunk | IDataChunk, now: Instant) -> None:
        if self.state not in _RECEIVES_DATA or self._receiver is None:
            self.counters.add("data_out_of_place")
            return
        if isinstance(chunk, IDataChunk) is not self.capabilities.interleaving:
            # RFC 8260 §2.2.1: one kind or the other, as negotiated.
            raise RemoteError("DATA and I-DATA mixed up")
        if not chunk.payload:
            cause = ErrorCause.no_user_data(chunk.tsn)  # RFC 9260 §6.2
            self._abort(cause, str(cause), by_peer=True)
            return
        self._receiver.handle_data(chunk)

    def _handle_forward(self, chunk: ForwardTsnChunk | IForwardTsnChunk, now: Instant) -> None:
        if self.state not in _RECEIVES_DATA or self._receiver is None or not self.capabilities.partial_reliability:
            self.counters.add("forward_out_of_place")
        elif isinstance(chunk, IForwardTsnChunk) is not self.capabilities.interleaving:
            raise RemoteError("FORWARD-TSN and I-FORWARD-TSN mixed up")
        else:
            self._receiver.handle_forward(chunk)

    def _finish_receiving(self, receiver: Receiver, now: Instant) -> None:
        """All packets that arrived together have been taken."""
        self._events += receiver.drain()
        if self._reset is not None and self._reset.deferred:
            self._follow_reset(self._reset.advance(receiver.tsns.cumulative))
        receiver.settle(now)
        if self.state is State.SHUTDOWN_SENT:
            receiver.sack_at = now  # RFC 9260 §9.2: packets with data are answered by SACK and SHUTDOWN.
            self._send_shutdown(now)
        while receiver.invalid_streams:
            self._queue_error(ErrorCause.invalid_stream(receiver.invalid_streams.pop()))

    def _handle_sack(self, chunk: SackChunk, now: Instant) -> None:
        if self.state not in _SENDS_DATA or not self._sender.handle_sack(chunk, now):
            self.counters.add("sack_refused")

    def _handle_reconfig(self, chunk: ReconfigChunk, now: Instant) -> None:
        if self._reset is None or self._receiver is None or self.state not in _RECEIVES_DATA:
            self.counters.add("reconfig_out_of_place")
            return
        # What came before in this packet is delivered before the reset takes its streams away.
        self._events += self._receiver.drain()
        self._follow_reset(self._reset.handle_chunk(chunk, self._receiver.tsns.cumulative))

    def _follow_reset(self, outcome: ResetOutcome) -> None:
        for reply in outcome.replies:
            self._outbox.queue(reply)
        for done in outcome.done:
            if isinstance(done, IncomingReset) and self._receiver is not None:
                self._receiver.restart_streams(done.stream_ids)
            elif isinstance(done, OutgoingReset):
                for stream_id in done.stream_ids:
                    self._sender.queue.streams.pop(stream_id, None)
            self._events.append(done)

    # --- life and death ------------------------------------------------------------------------------------

    def _handle_heartbeat(self, chunk: HeartbeatChunk, now: Instant) -> None:
        if self.state not in _SETTING_UP:
            self._outbox.queue(HeartbeatAckChunk(chunk.info).serialize())

    def _handle_heartbeat_ack(self, chunk: HeartbeatAckChunk, now: Instant) -> None:
        rtt = self._heartbeat.answered(chunk, now)
        if rtt is not None:
            self._sender.rto.measured(rtt)
            self._sender.timeouts = 0

    def _beat(self, now: Instant) -> None:
        heartbeat = self._heartbeat
        if heartbeat.at is None or heartbeat.at > now:
            return
        if self._sender.outstanding_count or self.state is not State.ESTABLISHED:
            heartbeat.rest(now)
            return
        if heartbeat.awaited:
            self._sender.timeouts += 1
            self._sender.rto.back_off()
        self._outbox.queue(heartbeat.ask(now, self._sender.rto.current))

    def _handle_error(self, chunk: ErrorChunk, now: Instant) -> None:
        for cause in chunk.causes:
            self.counters.add(f"error_received_{cause.name}")
        if self.state is State.COOKIE_ECHOED and any(cause.code == Cause.STALE_COOKIE for cause in chunk.causes):
            # RFC 9260 §5.2.6: begin again.
            self.state = State.COOKIE_WAIT
            self._begin_handshake(self._init().serialize(), now)
            self._send_handshake_chunk()

    def _handle_abort(self, chunk: AbortChunk, now: Instant) -> None:
        self._end("aborted: " + (", ".join(map(str, chunk.causes)) or "no reason given"), by_peer=True)

    def _handle_shutdown(self, chunk: ShutdownChunk, now: Instant) -> None:
        if self.state in _SETTING_UP:
            return
        self._sender.handle_cumulative_ack(chunk.cumulative_tsn_ack, now)
        if self.state in (State.ESTABLISHED, State.SHUTDOWN_PENDING):
            self.state = State.SHUTDOWN_RECEIVED
        elif self.state in (State.SHUTDOWN_SENT, State.SHUTDOWN_ACK_SENT):
            self._send_shutdown_ack(now)

    def _handle_shutdown_ack(self, chunk: ShutdownAckChunk, now: Instant) -> None:
        if self.state in (State.SHUTDOWN_SENT, State.SHUTDOWN_ACK_SENT):
            self._outbox.alone(ShutdownCompleteChunk().serialize(), self._outbox.tag)
            self._end("", by_peer=False)

    def _handle_shutdown_complete(self, chunk: ShutdownCompleteChunk, now: Instant) -> None:
        if self.state is State.SHUTDOWN_ACK_SENT:
            self._end("", by_peer=True)

    def _send_shutdown(self, now: Instant) -> None:
        assert self._receiver is not None
        self.state = State.SHUTDOWN_SENT
        self._outbox.queue(ShutdownChunk(SERIAL32.add(self._receiver.tsns.cumulative, 0)).serialize())
        self._timers.set(AssociationTimer.T2_SHUTDOWN, now + self._sender.rto.current)

    def _send_shutdown_ack(self, now: Instant) -> None:
        self.state = State.SHUTDOWN_ACK_SENT
        self._outbox.queue(ShutdownAckChunk().serialize())
        self._timers.set(AssociationTimer.T2_SHUTDOWN, now + self._sender.rto.current)
        self._timers.set_default(AssociationTimer.T5_SHUTDOWN_GUARD, now + 5 * RTO_MAX)

    def _handle_timer(self, timer: AssociationTimer, now: Instant) -> None:
        if timer is AssociationTimer.T1:
            if self._handshake_attempts > self._config.max_init_retransmissions:
                self._end("the peer does not answer", by_peer=False)
                return
            self._handshake_attempts += 1
            self._sender.rto.back_off()
            self._timers.set(AssociationTimer.T1, now + self._sender.rto.current)
            self._send_handshake_chunk()
        elif timer is AssociationTimer.T5_SHUTDOWN_GUARD:
            self.abort(now, "shutdown takes too long")
        else:
            self._sender.rto.back_off()
            if self.state is State.SHUTDOWN_SENT:
                self._send_shutdown(now)
            elif self.state is State.SHUTDOWN_ACK_SENT:
                self._send_shutdown_ack(now)

    def _queue_error(self, cause: ErrorCause) -> None:
        self._outbox.queue(ErrorChunk((cause,)).serialize())

    def _abort(self, cause: ErrorCause, reason: str, *, by_peer: bool) -> None:
        if self.state is State.ENDED:
            return
        if self._outbox.tag:
            self._outbox.alone(AbortChunk((cause,)).serialize(), self._outbox.tag)
        self._end(reason, by_peer=by_peer)

    def _end(self, reason: str, *, by_peer: bool) -> None:
        """It is over: nothing is sent or awaited any more, and what waited is let go."""
        self.state = State.ENDED
        self._timers.clear_all()
        self._sender = self._new_sender()
        if self._receiver is not None:
            self._events += self._receiver.drain()  # what came whole before the end is good
        self._receiver = self._reset = None
        self._heartbeat.at = None
        self._outbox.control.clear()
        self._events.append(AssociationClosed(reason, by_peer))

    # --- what may be sent now ------------------------------------------------------------------------------

    def _flush(self, now: Instant) -> None:
        """Pack everything that may be sent: replies, SACK, FORWARD-TSN, data, in this order."""
        receiver = self._receiver
        if receiver is not None and receiver.has_taken:
            self._finish_receiving(receiver, now)
        state, outbox, sender = self.state, self._outbox, self._sender
        if state is State.ENDED:
            return
        if state is State.SHUTDOWN_PENDING or state is State.SHUTDOWN_RECEIVED:
            self._shut_down_when_idle(now)
        elif self._reset is not None and self._reset.wanted:
            self._begin_reset(self._reset, now)
        if outbox.control:
            outbox.add_control()
        if receiver is not None and receiver.sack_at is not None and receiver.sack_at <= now:
            outbox.add(receiver.sack(outbox.pmdcs).serialize())
        # RFC 9260 §5.1 C: data may ride with COOKIE ECHO, and nothing else may follow before COOKIE ACK.
        rides = state is State.COOKIE_ECHOED and outbox.started
        if rides or state in _SENDS_DATA:
            if sender.forward_due:
                forward = sender.forward_tsn(outbox.pmdcs)
                if forward is not None:
                    outbox.add(forward)
            if sender.has_work:
                self._send_data(sender, 1 if rides else MAX_BURST + 2 * sender.newly_arrived, now)
        sender.newly_arrived = 0
        if outbox.started:
            outbox.close_packet()
        if sender.timers_due:
            sender.arm(now)

    def _send_data(self, sender: Sender, most: int, now: Instant) -> None:
        outbox, receiver = self._outbox, self._receiver
        while most and sender.has_work:
            if not outbox.started and (run := sender.take_run(most, now)):
                outbox.send_each(run)
                most -= len(run)
                continue
            most -= 1
            # A SACK that would be sent soon rides along (§6.2); one that is not due yet reports no gaps.
            pending = receiver is not None and receiver.sack_at is not None
            wires = sender.take(outbox.room - SACK_OVERHEAD if pending else outbox.room, now)
            if not wires:
                if most and outbox.started:
                    outbox.close_packet()
                    continue
                break
            if pending and receiver is not None:
                outbox.add(receiver.sack(outbox.room).serialize())
            outbox.close_packet(wires)

    def _shut_down_when_idle(self, now: Instant) -> None:
        if not self._sender.has_unacknowledged:
            if self.state is State.SHUTDOWN_PENDING:
                self._send_shutdown(now)
            else:
                self._send_shutdown_ack(now)

    def _begin_reset(self, reset: StreamReset, now: Instant) -> None:
        queue = self._sender.queue
        idle = [stream_id for stream_id in reset.wanted if queue.is_idle(stream_id)]
        if not self.capabilities.reconfiguration:
            # Nothing can be said to such a peer: the stream is over on both sides, as far as we are concerned.
            if idle:
                reset.wanted.clear()
                self._follow_reset(ResetOutcome(done=[OutgoingReset(tuple(idle)), IncomingReset(tuple(idle))]))
            return
        chunk = reset.begin(idle, self._sender.next_tsn - 1, now + self._sender.rto.current)
        if chunk is not None:
            self._outbox.queue(chunk)
