"""User data transfer: DATA, I-DATA, SACK, FORWARD-TSN, and what may be sent (RFC 9260 §6, RFC 3758, RFC 8260)."""

from __future__ import annotations

from stack.core.counters import declare
from stack.core.errors import RemoteError
from stack.core.machine import Instant
from stack.sctp.chunks import DataChunk, ForwardTsnChunk, IDataChunk, IForwardTsnChunk, SackChunk
from stack.sctp.chunks.causes import InvalidStreamIdentifierCause, NoUserDataCause
from stack.sctp.chunks.sack import SACK_OVERHEAD
from stack.sctp.procedures.handlers import handles
from stack.sctp.procedures.stream_reset import apply_reset, request_reset
from stack.sctp.procedures.termination import send_shutdown, shut_down_when_acknowledged
from stack.sctp.rx.receiver import Receiver
from stack.sctp.state import RECEIVES_DATA, SENDS_DATA, AssociationState
from stack.sctp.tcb import TransmissionControlBlock
from stack.sctp.tx.sender import Sender

DROPPED_DATA_OUT_OF_PLACE = declare("sctp", "dropped_data_out_of_place", "DATA chunks in a state that takes none")
DROPPED_FORWARD_OUT_OF_PLACE = declare(
    "sctp",
    "dropped_forward_out_of_place",
    "FORWARD-TSN chunks in a state that takes none, or that were not agreed on",
)
DROPPED_SACK_REFUSED = declare(
    "sctp", "dropped_sack_refused", "SACK chunks in a state that takes none, old, or of what was never sent"
)

MAX_BURST = 10
"""Packets with data sent at one go, beyond the two that slow start allows for each that has just been acknowledged
(RFC 9260 §6.1 D)."""


@handles(DataChunk, IDataChunk)
def handle_data(tcb: TransmissionControlBlock, chunk: DataChunk | IDataChunk, now: Instant) -> None:
    """Take one DATA or I-DATA chunk (§6.2)."""
    receiver = tcb.receiver
    if tcb.state not in RECEIVES_DATA or receiver is None:
        tcb.counters.add(DROPPED_DATA_OUT_OF_PLACE)
        return
    if isinstance(chunk, IDataChunk) is not tcb.capabilities.interleaving:
        # RFC 8260 §2.2.1: one kind or the other, as negotiated.
        raise RemoteError("DATA and I-DATA mixed up")
    if not chunk.payload:
        cause = NoUserDataCause.of(chunk.tsn)  # RFC 9260 §6.2
        tcb.abort(cause, str(cause), by_peer=True)
        return
    receiver.handle_data(chunk)


@handles(ForwardTsnChunk, IForwardTsnChunk)
def handle_forward_tsn(
    tcb: TransmissionControlBlock, chunk: ForwardTsnChunk | IForwardTsnChunk, now: Instant
) -> None:
    """Move past what the peer abandoned (RFC 3758 §3.6, RFC 8260 §2.3.1)."""
    receiver, capabilities = tcb.receiver, tcb.capabilities
    if tcb.state not in RECEIVES_DATA or receiver is None or not capabilities.partial_reliability:
        tcb.counters.add(DROPPED_FORWARD_OUT_OF_PLACE)
    elif isinstance(chunk, IForwardTsnChunk) is not capabilities.interleaving:
        raise RemoteError("FORWARD-TSN and I-FORWARD-TSN mixed up")
    else:
        receiver.handle_forward_tsn(chunk)


@handles(SackChunk)
def handle_sack(tcb: TransmissionControlBlock, chunk: SackChunk, now: Instant) -> None:
    """Take an acknowledgement (§6.2.1)."""
    if tcb.state not in SENDS_DATA or not tcb.sender.handle_sack(chunk, now):
        tcb.counters.add(DROPPED_SACK_REFUSED)


def _finish_receiving(tcb: TransmissionControlBlock, receiver: Receiver, now: Instant) -> None:
    """All packets that arrived together have been taken."""
    tcb.events += receiver.drain()
    if tcb.reset is not None and tcb.reset.deferred is not None:
        apply_reset(tcb, tcb.reset.advance(receiver.tsn_map.cumulative))
    receiver.schedule_sack(now)
    if tcb.state is AssociationState.SHUTDOWN_SENT:
        receiver.sack_at = now  # RFC 9260 §9.2: packets with data are answered by SACK and SHUTDOWN.
        send_shutdown(tcb, now)
    while receiver.invalid_streams:
        tcb.queue_error(InvalidStreamIdentifierCause.of(receiver.invalid_streams.pop()))


def flush(tcb: TransmissionControlBlock, now: Instant) -> None:
    """Pack everything that may be sent: replies, SACK, FORWARD-TSN, data, in this order."""
    receiver = tcb.receiver
    if receiver is not None and receiver.has_unsettled_packets:
        _finish_receiving(tcb, receiver, now)
    state, bundler, sender = tcb.state, tcb.bundler, tcb.sender
    if state is AssociationState.ENDED:
        return
    if state is AssociationState.SHUTDOWN_PENDING or state is AssociationState.SHUTDOWN_RECEIVED:
        shut_down_when_acknowledged(tcb, now)
    elif tcb.reset is not None and tcb.reset.pending:
        request_reset(tcb, tcb.reset, now)
    if bundler.control_chunks:
        bundler.add_control()
    if receiver is not None and receiver.sack_at is not None and receiver.sack_at <= now:
        bundler.add(receiver.build_sack(bundler.pmdcs).serialize())
    # RFC 9260 §5.1 C: data may be bundled with COOKIE ECHO, and nothing else may follow before COOKIE ACK.
    with_cookie_echo = state is AssociationState.COOKIE_ECHOED and bundler.has_chunks
    if with_cookie_echo or state in SENDS_DATA:
        if sender.forward_tsn_due:
            forward_tsn = sender.build_forward_tsn(bundler.pmdcs)
            if forward_tsn is not None:
                bundler.add(forward_tsn)
        if sender.has_work:
            _send_data(tcb, sender, 1 if with_cookie_echo else MAX_BURST + 2 * sender.newly_acknowledged, now)
    sender.newly_acknowledged = 0
    if bundler.has_chunks:
        bundler.finish_packet()
    if sender.timers_due:
        sender.arm_timers(now)


def _send_data(tcb: TransmissionControlBlock, sender: Sender, most: int, now: Instant) -> None:
    bundler, receiver = tcb.bundler, tcb.receiver
    while most and sender.has_work:
        if not bundler.has_chunks and (fragments := sender.build_fragments(most, now)):
            bundler.send_each(fragments)
            most -= len(fragments)
            continue
        most -= 1
        # A SACK that would be sent soon is bundled (§6.2); one that is not due yet reports no gaps.
        sack_pending = receiver is not None and receiver.sack_at is not None
        wires = sender.build_chunks(bundler.room - SACK_OVERHEAD if sack_pending else bundler.room, now)
        if not wires:
            if most and bundler.has_chunks:
                bundler.finish_packet()
                continue
            break
        if sack_pending and receiver is not None:
            bundler.add(receiver.build_sack(bundler.room).serialize())
        bundler.finish_packet(wires)
