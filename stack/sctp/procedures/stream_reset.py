"""Stream reset: RE-CONFIG, and the requests of ours (RFC 6525 §5); the requests themselves are in `reset.py`."""

from __future__ import annotations

from stack.core.counters import declare
from stack.core.machine import Instant
from stack.core.serial import StreamId
from stack.sctp.chunks import ReconfigChunk
from stack.sctp.procedures.handlers import handles
from stack.sctp.reset import IncomingReset, OutgoingReset, ResetOutcome, StreamReset
from stack.sctp.state import RECEIVES_DATA, AssociationState
from stack.sctp.tcb import TransmissionControlBlock

DROPPED_RECONFIG_OUT_OF_PLACE = declare(
    "sctp",
    "dropped_reconfig_out_of_place",
    "RE-CONFIG chunks in a state that takes none, or that were not agreed on",
)


def reset_stream(tcb: TransmissionControlBlock, stream_id: StreamId) -> None:
    """Reset an outgoing stream as soon as all that is queued on it has been sent."""
    if tcb.reset is not None and tcb.state is not AssociationState.ENDED:
        tcb.reset.pending[stream_id] = None


def conclude_reset(tcb: TransmissionControlBlock, stream_id: StreamId, now: Instant) -> tuple[StreamId, ...]:
    """The peer uses a stream anew that we are resetting; return the streams of ours that are thereby reset.

    A reset that was not requested yet is not requested any more: the stream goes on as it is.
    """
    if tcb.reset is None:
        return ()
    if stream_id in tcb.reset.pending:
        del tcb.reset.pending[stream_id]
        if stream_id in tcb.sender.queue.streams:
            tcb.sender.discard_stream(stream_id, now)
        return (stream_id,)
    done = tcb.reset.conclude(stream_id)
    for each in done:
        tcb.sender.queue.streams.pop(each, None)
    return done


@handles(ReconfigChunk)
def handle_reconfig(tcb: TransmissionControlBlock, chunk: ReconfigChunk, now: Instant) -> None:
    """Take requests and responses."""
    reset, receiver = tcb.reset, tcb.receiver
    if reset is None or receiver is None or tcb.state not in RECEIVES_DATA:
        tcb.counters.add(DROPPED_RECONFIG_OUT_OF_PLACE)
        return
    # What came before in this packet is delivered before the reset takes its streams away.
    tcb.events += receiver.drain()
    apply_reset(tcb, reset.handle_chunk(chunk, receiver.tsn_map.cumulative))


def apply_reset(tcb: TransmissionControlBlock, outcome: ResetOutcome) -> None:
    """Send what is to be said, and start the streams anew that are reset."""
    for reply in outcome.replies:
        tcb.bundler.queue_control(reply)
    for done in outcome.done:
        if isinstance(done, IncomingReset) and tcb.receiver is not None:
            tcb.receiver.restart_streams(done.stream_ids)
        elif isinstance(done, OutgoingReset):
            for stream_id in done.stream_ids:
                tcb.sender.queue.streams.pop(stream_id, None)
        tcb.events.append(done)


def request_reset(tcb: TransmissionControlBlock, reset: StreamReset, now: Instant) -> None:
    """Request the reset of those pending streams on which nothing is queued any more."""
    sender = tcb.sender
    idle = [stream_id for stream_id in reset.pending if sender.queue.is_idle(stream_id)]
    if not tcb.capabilities.reconfiguration:
        # Nothing can be said to such a peer: the stream is over on both sides, as far as we are concerned.
        if idle:
            reset.pending.clear()
            apply_reset(tcb, ResetOutcome(done=[OutgoingReset(tuple(idle)), IncomingReset(tuple(idle))]))
        return
    chunk = reset.build_request(idle, sender.next_tsn - 1, now + sender.rto.current)
    if chunk is not None:
        tcb.bundler.queue_control(chunk)
