"""The transmission control block: everything that an association knows (RFC 9260 §14).

The procedures in `procedures/` work on it, one module to a section of RFC 9260; none keeps anything of its own.
"""

from __future__ import annotations

from stack.core.counters import Counters
from stack.core.machine import Entropy, Instant
from stack.core.timers import TimerName, Timers
from stack.sctp.bundling import ChunkBundler
from stack.sctp.chunks import AbortChunk, Capabilities, ErrorChunk
from stack.sctp.chunks.causes import ErrorCause
from stack.sctp.config import OUTBOUND_STREAMS, SctpConfig
from stack.sctp.events import AssociationClosed, AssociationEvent, AssociationUp
from stack.sctp.heartbeat import Heartbeat
from stack.sctp.reset import StreamReset
from stack.sctp.rx.receiver import Receiver
from stack.sctp.state import TRANSITIONS, AssociationInput, AssociationState
from stack.sctp.state_cookie import LocalEndpoint, PeerEndpoint, StateCookieIssuer
from stack.sctp.tx.rto import RtoEstimator
from stack.sctp.tx.sender import Sender


class AssociationTimer(TimerName):
    """Why the association wants to be woken, beside its parts' own reasons (timers of RFC 9260 §5.1 and §9.2)."""

    T1 = "t1-init or t1-cookie"
    COOKIE_ACK = "cookie-ack"
    """It may have been lost."""
    T2_SHUTDOWN = "t2-shutdown"
    T5_SHUTDOWN_GUARD = "t5-shutdown-guard"


class TransmissionControlBlock:
    """The state of one association, and the changes of state that several procedures make."""

    __slots__ = (
        "bundler",
        "capabilities",
        "config",
        "cookie_acks_left",
        "cookies",
        "counters",
        "entropy",
        "events",
        "handshake_attempts",
        "handshake_chunk",
        "handshake_sent_at",
        "heartbeat",
        "local",
        "peer",
        "receiver",
        "reset",
        "sender",
        "state",
        "timers",
    )

    def __init__(self, config: SctpConfig, entropy: Entropy, local: LocalEndpoint | None = None) -> None:
        self.config = config
        self.entropy = entropy
        self.state = AssociationState.CLOSED
        self.counters = Counters()
        self.events: list[AssociationEvent] = []
        self.timers: Timers[AssociationTimer] = Timers()
        self.cookies = StateCookieIssuer(entropy(32), config.receive_window, config.capabilities)
        self.local = local or LocalEndpoint.random(entropy)
        self.peer: PeerEndpoint | None = None
        self.capabilities = Capabilities()
        """The extensions in force; none before the peer has announced its own."""
        self.bundler = ChunkBundler(config.local_port, config.remote_port, config.mtu)
        self.sender = self.new_sender()
        self.receiver: Receiver | None = None
        self.reset: StreamReset | None = None
        self.heartbeat = Heartbeat(config.heartbeat_interval, entropy)
        self.handshake_chunk = b""
        """The INIT or COOKIE ECHO that T1 repeats."""
        self.handshake_attempts = 0
        self.handshake_sent_at: Instant = 0.0
        self.cookie_acks_left = 0
        """How often a COOKIE ACK is still repeated; 0: what the peer sends shows that it has it, or no more."""

    def accepts(self, what: AssociationInput) -> bool:
        """True if an input means something in this state."""
        return what in TRANSITIONS[self.state]

    def advance(self, what: AssociationInput) -> None:
        """Go to the state to which an accepted input leads."""
        self.state = TRANSITIONS[self.state][what]

    def new_sender(self) -> Sender:
        """Return a sending half that has sent nothing yet."""
        return Sender(self.local.initial_tsn, self.bundler.pmdcs, RtoEstimator(self.config.rtt_hint))

    def set_peer(self, peer: PeerEndpoint) -> None:
        """The peer's side of the association is known: make what depends on it."""
        self.peer = peer
        self.capabilities = self.config.capabilities.common(peer.capabilities)
        self.bundler.verification_tag = peer.tag
        self.sender.partial_reliability = self.capabilities.partial_reliability
        self.sender.queue.interleaving = self.capabilities.interleaving
        self.sender.peer_rwnd = peer.a_rwnd
        self.receiver = Receiver(
            peer.initial_tsn,
            self.config.receive_window,
            self.config.max_message_size,
            self.capabilities.interleaving,
            self.counters,
        )
        self.reset = StreamReset(self.local.initial_tsn, peer.initial_tsn)

    def establish(self, what: AssociationInput, now: Instant) -> None:
        """Take the last step of the set-up; the peer is known."""
        assert self.peer is not None
        self.advance(what)
        self.timers.clear(AssociationTimer.T1)
        self.bundler.zero_checksum = self.capabilities.zero_checksum
        self.heartbeat.restart(now)
        streams = min(OUTBOUND_STREAMS, self.peer.inbound_streams, self.peer.outbound_streams)
        self.events.append(AssociationUp(streams))

    def queue_error(self, cause: ErrorCause) -> None:
        """Have an ERROR sent with the next packet."""
        self.bundler.queue_control(ErrorChunk((cause,)).serialize())

    def abort(self, cause: ErrorCause, reason: str, *, by_peer: bool) -> None:
        """Send ABORT and end; `by_peer`: because of what the peer did."""
        if not self.accepts(AssociationInput.ABORT):
            return
        if self.bundler.verification_tag:
            self.bundler.send_unbundled(AbortChunk((cause,)).serialize(), self.bundler.verification_tag)
        self.end(AssociationInput.ABORT, reason, by_peer=by_peer)

    def end(self, what: AssociationInput, reason: str, *, by_peer: bool) -> None:
        """It is over: nothing is sent or awaited any more, and what waited is discarded."""
        self.advance(what)
        self.timers.clear_all()
        self.sender = self.new_sender()
        if self.receiver is not None:
            self.events += self.receiver.drain()  # what came whole before the end is good
        self.receiver = self.reset = None
        self.heartbeat.due_at = None
        self.bundler.control_chunks.clear()
        self.events.append(AssociationClosed(reason, by_peer))
