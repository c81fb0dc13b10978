"""Association initialization: INIT, INIT ACK, COOKIE ECHO, COOKIE ACK (RFC 9260 §5).

Where both descriptions show an INIT (draft-hancke-tsvwg-snap) none is sent: `establish_from_sdp` takes the peer's.

A COOKIE ACK is repeated until the peer sends what it may send only when it has it (§5.1 C), a few times. RFC 9260
leaves a lost one to the peer's T1-cookie, which is a second or more, where we know the round trip; one too many
means nothing to it (§5.2.5).
"""

from __future__ import annotations

from stack.core.counters import declare
from stack.core.errors import ParseError
from stack.core.machine import Instant
from stack.sctp.chunks import (
    AbortChunk,
    CookieAckChunk,
    CookieEchoChunk,
    ErrorChunk,
    InitAckChunk,
    InitChunk,
    ShutdownAckChunk,
)
from stack.sctp.chunks.causes import (
    ERROR_CAUSES,
    CookieReceivedWhileShuttingDownCause,
    ErrorCause,
    InvalidMandatoryParameterCause,
    MissingMandatoryParameterCause,
    StaleCookieCause,
    UnresolvableAddressCause,
)
from stack.sctp.chunks.init import INIT
from stack.sctp.chunks.init_parameters import HostNameAddressParameter, StateCookieParameter
from stack.sctp.config import INBOUND_STREAMS, OUTBOUND_STREAMS, SctpConfig
from stack.sctp.events import AssociationRestarted
from stack.sctp.procedures.handlers import handles
from stack.sctp.state import SETTING_UP, AssociationInput, AssociationState
from stack.sctp.state_cookie import (
    COOKIE_LIFETIME,
    CookieAction,
    LocalEndpoint,
    PeerEndpoint,
    StateCookie,
    choose_cookie_action,
)
from stack.sctp.tcb import AssociationTimer, TransmissionControlBlock

DROPPED_INIT_INVALID = declare("sctp", "dropped_init_invalid", "INIT chunks that are answered by ABORT")
DROPPED_COOKIE_INVALID = declare("sctp", "dropped_cookie_invalid", "COOKIE ECHO chunks that we did not sign")
DROPPED_COOKIE_MISMATCH = declare(
    "sctp", "dropped_cookie_mismatch", "COOKIE ECHO chunks of another association (RFC 9260 §5.2.4)"
)
ERROR_RECEIVED = {
    code: declare(
        "sctp", f"error_received_{cause.name}", f"Causes in ERROR chunks: {cause.name}", "error_received"
    )
    for code, cause in sorted(ERROR_CAUSES.items())
}
ERROR_RECEIVED_UNKNOWN = declare("sctp", "error_received_unknown", "Causes in ERROR chunks with an unknown code")
ESTABLISHED_FROM_SDP = declare(
    "sctp", "established_from_sdp", "Associations set up by INIT chunks in the SDP, without a handshake"
)
RESTARTED = declare(
    "sctp", "restarted", "Times that the peer has begun the association anew (RFC 9260 §5.2.4.1 A)"
)


COOKIE_ACK_REPEATS = 3
"""How often a COOKIE ACK is sent again to a peer that is silent since: after one RTO, two more, and four more."""
BEFORE_COOKIE_ACK = (InitChunk, InitAckChunk, CookieEchoChunk, CookieAckChunk, ErrorChunk)
"""What a peer may send that has no COOKIE ACK yet, as the first chunk of a packet."""


def build_init(config: SctpConfig, local: LocalEndpoint) -> bytes:
    """Return our INIT."""
    parameters = tuple(config.capabilities.parameters())
    return InitChunk(
        local.tag, config.receive_window, OUTBOUND_STREAMS, INBOUND_STREAMS, local.initial_tsn, parameters
    ).serialize()


def unpadded_init(config: SctpConfig, local: LocalEndpoint) -> bytes:
    """Return our INIT as it stands in an SDP (draft-hancke-tsvwg-snap)."""
    chunk = build_init(config, local)
    return chunk[: int.from_bytes(chunk[2:4], "big")]


def parse_init(data: bytes) -> InitChunk:
    """Read a whole INIT chunk out of an SDP; the padding of its last parameter may be missing."""
    if len(data) < 4 or data[0] != INIT:
        raise ParseError("not an INIT chunk")
    length = int.from_bytes(data[2:4], "big")
    if not length <= len(data) <= length + 3:
        raise ParseError("an INIT chunk of a wrong length")
    return InitChunk.parse(data[1], data[4:length])


def find_init_error(init: InitChunk) -> ErrorCause | None:
    """RFC 9260 §3.3.2: what keeps an INIT or INIT ACK from making an association."""
    if not init.initiate_tag or not init.outbound_streams or not init.inbound_streams:
        return InvalidMandatoryParameterCause()
    if init.find(HostNameAddressParameter) is not None:
        return UnresolvableAddressCause()
    return None


def start(tcb: TransmissionControlBlock, now: Instant) -> None:
    """Send INIT (§5.1 A)."""
    if tcb.accepts(AssociationInput.ASSOCIATE):
        tcb.advance(AssociationInput.ASSOCIATE)
        _begin(tcb, build_init(tcb.config, tcb.local), now)


def establish_from_sdp(tcb: TransmissionControlBlock, peer_init: bytes, now: Instant) -> None:
    """Take the peer's INIT out of the SDP. Raises `ParseError` for a wrong one."""
    init = parse_init(peer_init)
    error = find_init_error(init)
    if error is not None:
        raise ParseError(f"INIT: {error}")
    if tcb.accepts(AssociationInput.PEER_INIT_IN_SDP):
        tcb.set_peer(PeerEndpoint.from_init(init))
        tcb.establish(AssociationInput.PEER_INIT_IN_SDP, now)
        tcb.counters.add(ESTABLISHED_FROM_SDP)


def _begin(tcb: TransmissionControlBlock, chunk: bytes, now: Instant) -> None:
    """Send an INIT or COOKIE ECHO that T1 repeats until it is answered."""
    tcb.handshake_chunk = chunk
    tcb.handshake_attempts = 1
    tcb.handshake_sent_at = now
    tcb.timers.set(AssociationTimer.T1, now + tcb.sender.rto.current)
    _send(tcb)


def _send(tcb: TransmissionControlBlock) -> None:
    if tcb.state is AssociationState.COOKIE_WAIT:
        tcb.bundler.send_unbundled(tcb.handshake_chunk, 0)
    else:
        tcb.bundler.queue_control(tcb.handshake_chunk)


def handle_t1(tcb: TransmissionControlBlock, now: Instant) -> None:
    """T1-init or T1-cookie expired (§5.1.6)."""
    if tcb.handshake_attempts > tcb.config.max_init_retransmissions:
        tcb.end(AssociationInput.ABORT, "the peer does not answer", by_peer=False)
        return
    tcb.handshake_attempts += 1
    tcb.sender.rto.back_off()
    tcb.timers.set(AssociationTimer.T1, now + tcb.sender.rto.current)
    _send(tcb)


def _measure(tcb: TransmissionControlBlock, now: Instant) -> None:
    """RFC 9260 §6.3.1: the first samples, so that the first data need not wait RTO.Initial when it is lost."""
    if tcb.handshake_attempts == 1:  # C5
        tcb.sender.rto.measured(now - tcb.handshake_sent_at)
    else:
        tcb.sender.rto.answered()


def handle_init(tcb: TransmissionControlBlock, init: InitChunk, now: Instant) -> None:
    """Answer an INIT, which stands alone in its packet, with an INIT ACK or ABORT."""
    bundler = tcb.bundler
    error = find_init_error(init)
    if error is not None:
        tcb.counters.add(DROPPED_INIT_INVALID)
        bundler.send_unbundled(AbortChunk((error,)).serialize(), init.initiate_tag)
    elif tcb.state is AssociationState.SHUTDOWN_ACK_SENT:
        bundler.queue_control(ShutdownAckChunk().serialize())  # RFC 9260 §9.2
    else:
        # §5.2.1: while we set up ourselves, the tag of our own INIT; §5.2.2: afterwards a new one.
        local = tcb.local if tcb.state in SETTING_UP else LocalEndpoint.random(tcb.entropy)
        tie_tags = (tcb.local.tag, tcb.peer.tag) if tcb.peer is not None else (0, 0)
        ack = tcb.cookies.build_init_ack(init, local, tie_tags, now)
        bundler.send_unbundled(ack.serialize(), init.initiate_tag)


@handles(InitAckChunk)
def handle_init_ack(tcb: TransmissionControlBlock, ack: InitAckChunk, now: Instant) -> None:
    """Send the cookie back (§5.1 C)."""
    if not tcb.accepts(AssociationInput.INIT_ACK):
        return  # §5.2.3
    parameter = ack.find(StateCookieParameter)
    error = find_init_error(ack)
    if error is None and parameter is None:
        error = MissingMandatoryParameterCause.of(StateCookieParameter.parameter_type)
    if error is not None or parameter is None:
        assert error is not None
        tcb.bundler.verification_tag = ack.initiate_tag
        tcb.abort(error, f"INIT ACK: {error}", by_peer=True)
        return
    tcb.set_peer(PeerEndpoint.from_init(ack))
    _measure(tcb, now)
    tcb.advance(AssociationInput.INIT_ACK)
    _begin(tcb, CookieEchoChunk(parameter.cookie).serialize(), now)


def handle_cookie_echo(tcb: TransmissionControlBlock, echo: CookieEchoChunk, tag: int, now: Instant) -> bool:
    """RFC 9260 §5.1.5 and §5.2.4; the chunk stands first in a packet with this tag. False: drop the packet."""
    try:
        cookie = tcb.cookies.authenticate(echo.cookie)
    except ParseError:
        tcb.counters.add(DROPPED_COOKIE_INVALID)
        return False
    action = choose_cookie_action(cookie, tcb.local, tcb.peer)
    staleness = now - cookie.created_at - COOKIE_LIFETIME
    if tag != cookie.local.tag or action is CookieAction.DISCARD:
        tcb.counters.add(DROPPED_COOKIE_MISMATCH)
        return False
    if staleness > 0 and action is not CookieAction.DUPLICATE:
        error = ErrorChunk((StaleCookieCause.of(staleness),))
        tcb.bundler.send_unbundled(error.serialize(), cookie.peer.tag)
        return False
    if action is CookieAction.RESTART:
        if not tcb.accepts(AssociationInput.RESTART):  # §5.2.4.1: SHUTDOWN-ACK-SENT
            tcb.bundler.queue_control(ShutdownAckChunk().serialize())
            tcb.queue_error(CookieReceivedWhileShuttingDownCause())
            return False
        _restart(tcb, cookie, now)
    elif tcb.accepts(AssociationInput.COOKIE_ECHO):
        if action is CookieAction.COLLISION:
            tcb.set_peer(cookie.peer)
        tcb.establish(AssociationInput.COOKIE_ECHO, now)
    elif action is CookieAction.COLLISION:
        tcb.peer = cookie.peer
        tcb.bundler.verification_tag = cookie.peer.tag
    tcb.bundler.queue_control(CookieAckChunk().serialize())
    tcb.cookie_acks_left = COOKIE_ACK_REPEATS
    tcb.timers.set(AssociationTimer.COOKIE_ACK, now + tcb.sender.rto.current)
    return True


def handle_cookie_ack_timer(tcb: TransmissionControlBlock, now: Instant) -> None:
    """Nothing has come since our COOKIE ACK: it is sent again."""
    tcb.bundler.queue_control(CookieAckChunk().serialize())
    tcb.cookie_acks_left -= 1
    if tcb.cookie_acks_left:
        wait = tcb.sender.rto.current * 2 ** (COOKIE_ACK_REPEATS - tcb.cookie_acks_left)
        tcb.timers.set(AssociationTimer.COOKIE_ACK, now + wait)


def note_established_by_peer(tcb: TransmissionControlBlock) -> None:
    """Take what the peer sends only when it has our COOKIE ACK."""
    tcb.cookie_acks_left = 0
    tcb.timers.clear(AssociationTimer.COOKIE_ACK)


def _restart(tcb: TransmissionControlBlock, cookie: StateCookie, now: Instant) -> None:
    """The peer has begun anew (RFC 9260 §5.2.4.1 A)."""
    tcb.counters.add(RESTARTED)
    tcb.local = cookie.local
    tcb.sender = tcb.new_sender()
    tcb.timers.clear_all()
    if tcb.receiver is not None:
        tcb.events += tcb.receiver.drain()
    tcb.set_peer(cookie.peer)
    tcb.events.append(AssociationRestarted())
    tcb.establish(AssociationInput.RESTART, now)


@handles(CookieAckChunk)
def handle_cookie_ack(tcb: TransmissionControlBlock, chunk: CookieAckChunk, now: Instant) -> None:
    """The association is established (§5.1 E); in other states a COOKIE ACK means nothing (§5.2.5)."""
    if tcb.accepts(AssociationInput.COOKIE_ACK):
        _measure(tcb, now)
        tcb.establish(AssociationInput.COOKIE_ACK, now)


@handles(ErrorChunk)
def handle_error(tcb: TransmissionControlBlock, chunk: ErrorChunk, now: Instant) -> None:
    """Count the causes of an ERROR; a stale cookie begins the handshake again (§5.2.6)."""
    for cause in chunk.causes:
        tcb.counters.add(ERROR_RECEIVED.get(cause.code, ERROR_RECEIVED_UNKNOWN))
    is_stale = any(isinstance(cause, StaleCookieCause) for cause in chunk.causes)
    if is_stale and tcb.accepts(AssociationInput.STALE_COOKIE):
        tcb.advance(AssociationInput.STALE_COOKIE)
        _begin(tcb, build_init(tcb.config, tcb.local), now)
