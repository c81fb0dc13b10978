"""Termination of an association: ABORT and the three shutdown chunks (RFC 9260 §9)."""

from __future__ import annotations

from stack.core.machine import Instant
from stack.sctp.chunks import AbortChunk, ShutdownAckChunk, ShutdownChunk, ShutdownCompleteChunk
from stack.sctp.chunks.causes import UserInitiatedAbortCause
from stack.sctp.procedures.handlers import handles
from stack.sctp.state import SETTING_UP, AssociationInput, AssociationState
from stack.sctp.tcb import AssociationTimer, TransmissionControlBlock
from stack.sctp.tsn import wrap_tsn
from stack.sctp.tx.rto import RTO_MAX

T5_DURATION = 5 * RTO_MAX
"""T5-shutdown-guard (§9.2)."""


def shut_down(tcb: TransmissionControlBlock, now: Instant) -> None:
    """Begin the end in good order; SHUTDOWN follows when all is acknowledged."""
    if not tcb.accepts(AssociationInput.SHUTDOWN_COMMAND):
        return
    if tcb.state in SETTING_UP:
        reason = "shut down before it was established"
        tcb.end(AssociationInput.SHUTDOWN_COMMAND, reason, by_peer=False)
    else:
        tcb.advance(AssociationInput.SHUTDOWN_COMMAND)
        tcb.timers.set(AssociationTimer.T5_SHUTDOWN_GUARD, now + T5_DURATION)


def abort_by_user(tcb: TransmissionControlBlock, reason: str) -> None:
    """End at once (§9.1)."""
    tcb.abort(UserInitiatedAbortCause(reason.encode()), reason or "aborted", by_peer=False)


def shut_down_when_acknowledged(tcb: TransmissionControlBlock, now: Instant) -> None:
    """In SHUTDOWN-PENDING and SHUTDOWN-RECEIVED: go on if nothing is queued or outstanding (§9.2)."""
    if tcb.sender.has_unacknowledged or not tcb.accepts(AssociationInput.ALL_ACKNOWLEDGED):
        return
    tcb.advance(AssociationInput.ALL_ACKNOWLEDGED)
    if tcb.state is AssociationState.SHUTDOWN_SENT:
        send_shutdown(tcb, now)
    else:
        _send_shutdown_ack(tcb, now)


def send_shutdown(tcb: TransmissionControlBlock, now: Instant) -> None:
    """Send SHUTDOWN, or send it again with what has arrived since."""
    assert tcb.receiver is not None
    cumulative = wrap_tsn(tcb.receiver.tsn_map.cumulative)
    tcb.bundler.queue_control(ShutdownChunk(cumulative).serialize())
    tcb.timers.set(AssociationTimer.T2_SHUTDOWN, now + tcb.sender.rto.current)


def _send_shutdown_ack(tcb: TransmissionControlBlock, now: Instant) -> None:
    tcb.bundler.queue_control(ShutdownAckChunk().serialize())
    tcb.timers.set(AssociationTimer.T2_SHUTDOWN, now + tcb.sender.rto.current)
    tcb.timers.set_default(AssociationTimer.T5_SHUTDOWN_GUARD, now + T5_DURATION)


@handles(AbortChunk)
def handle_abort(tcb: TransmissionControlBlock, chunk: AbortChunk, now: Instant) -> None:
    """The peer ended the association."""
    reason = "aborted: " + (", ".join(map(str, chunk.causes)) or "no reason given")
    tcb.end(AssociationInput.ABORT, reason, by_peer=True)


@handles(ShutdownChunk)
def handle_shutdown(tcb: TransmissionControlBlock, chunk: ShutdownChunk, now: Instant) -> None:
    """The peer has nothing more to send (§9.2)."""
    if tcb.state in SETTING_UP:
        return
    tcb.sender.handle_cumulative_ack(chunk.cumulative_tsn_ack, now)
    if not tcb.accepts(AssociationInput.SHUTDOWN):
        return
    tcb.advance(AssociationInput.SHUTDOWN)
    if tcb.state is AssociationState.SHUTDOWN_ACK_SENT:
        _send_shutdown_ack(tcb, now)


@handles(ShutdownAckChunk)
def handle_shutdown_ack(tcb: TransmissionControlBlock, chunk: ShutdownAckChunk, now: Instant) -> None:
    """The peer has everything, and so have we."""
    if tcb.accepts(AssociationInput.SHUTDOWN_ACK):
        tcb.bundler.send_unbundled(ShutdownCompleteChunk().serialize(), tcb.bundler.verification_tag)
        tcb.end(AssociationInput.SHUTDOWN_ACK, "", by_peer=False)


@handles(ShutdownCompleteChunk)
def handle_shutdown_complete(tcb: TransmissionControlBlock, chunk: ShutdownCompleteChunk, now: Instant) -> None:
    """The peer has ended too."""
    if tcb.accepts(AssociationInput.SHUTDOWN_COMPLETE):
        tcb.end(AssociationInput.SHUTDOWN_COMPLETE, "", by_peer=True)


def handle_t2(tcb: TransmissionControlBlock, now: Instant) -> None:
    """T2-shutdown expired: send SHUTDOWN or SHUTDOWN ACK again (§9.2)."""
    tcb.sender.rto.back_off()
    if tcb.state is AssociationState.SHUTDOWN_SENT:
        send_shutdown(tcb, now)
    elif tcb.state is AssociationState.SHUTDOWN_ACK_SENT:
        _send_shutdown_ack(tcb, now)


def handle_t5(tcb: TransmissionControlBlock, now: Instant) -> None:
    """T5-shutdown-guard expired: the peer does not let the shutdown end (§9.2)."""
    abort_by_user(tcb, "shutdown takes too long")
