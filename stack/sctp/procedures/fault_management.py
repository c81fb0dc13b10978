"""Fault management: verification tags, packets out of the blue, HEARTBEAT (RFC 9260 §8), unknown chunks (§3.2)."""

from __future__ import annotations

from stack.core.machine import Instant
from stack.sctp.chunks import (
    AbortChunk,
    Chunk,
    CookieEchoChunk,
    DataChunk,
    HeartbeatAckChunk,
    HeartbeatChunk,
    IDataChunk,
    InitChunk,
    ShutdownAckChunk,
    ShutdownCompleteChunk,
    UnknownChunk,
)
from stack.sctp.chunks.causes import UnrecognizedChunkTypeCause
from stack.sctp.packet import Packet
from stack.sctp.procedures.handlers import handles
from stack.sctp.procedures.handshake import handle_cookie_echo, handle_init
from stack.sctp.state import SETTING_UP, AssociationState
from stack.sctp.tcb import TransmissionControlBlock

MAX_REPORTED_CHUNK = 64
"""How much of a chunk that we do not know is sent back in an ERROR, in bytes."""
OWN_TAG_RULE = frozenset({InitChunk, CookieEchoChunk, AbortChunk, ShutdownCompleteChunk, ShutdownAckChunk})
"""Chunks with a rule of their own about the verification tag, if they stand first in a packet (§8.5.1)."""


def verify_tag(tcb: TransmissionControlBlock, first: Chunk, packet: Packet, now: Instant) -> bool:
    """RFC 9260 §8.5.1: packets whose tag is not simply ours. True: their chunks may be handled."""
    tag = packet.verification_tag
    if tcb.state is AssociationState.ENDED:
        _handle_out_of_the_blue(tcb, first, tag)
        return False
    if type(first) is InitChunk:
        # §8.5.1 A, §3: an INIT comes with tag 0, and alone.
        if tag or len(packet.chunks) > 1:
            tcb.counters.add("init_malformed")
        else:
            handle_init(tcb, first, now)
        return False
    if isinstance(first, CookieEchoChunk):
        return handle_cookie_echo(tcb, first, tag, now)
    if isinstance(first, ShutdownAckChunk) and tcb.state in SETTING_UP:
        # §8.5.1 E: an association that we know nothing of is to be ended.
        tcb.bundler.send_unbundled(ShutdownCompleteChunk(reflected=True).serialize(), tag)
        return False
    is_right = tag == tcb.local.tag and tcb.state is not AssociationState.CLOSED
    if isinstance(first, AbortChunk | ShutdownCompleteChunk) and first.reflected:
        is_right = tcb.peer is not None and tag == tcb.peer.tag
    if not is_right:
        tcb.counters.add("packet_wrong_tag")
    return is_right


def _handle_out_of_the_blue(tcb: TransmissionControlBlock, first: Chunk, tag: int) -> None:
    """RFC 9260 §8.4: a packet for an association that is no more."""
    tcb.counters.add("packet_after_end")
    if isinstance(first, ShutdownAckChunk):
        tcb.bundler.send_unbundled(ShutdownCompleteChunk(reflected=True).serialize(), tag)
    elif isinstance(first, DataChunk | IDataChunk | HeartbeatChunk):
        tcb.bundler.send_unbundled(AbortChunk(reflected=True).serialize(), tag)


def handle_without_handler(tcb: TransmissionControlBlock, chunk: Chunk) -> bool:
    """An unknown chunk, or a known one out of place. False: the rest of the packet is discarded."""
    if not isinstance(chunk, UnknownChunk):
        tcb.counters.add("chunk_out_of_place")
        return False
    tcb.counters.add("chunk_unknown")
    if chunk.is_reported and tcb.state not in SETTING_UP:
        tcb.queue_error(UnrecognizedChunkTypeCause(chunk.serialize()[:MAX_REPORTED_CHUNK]))
    return chunk.is_skipped


@handles(HeartbeatChunk)
def handle_heartbeat(tcb: TransmissionControlBlock, chunk: HeartbeatChunk, now: Instant) -> None:
    """Return the heartbeat information (§8.3)."""
    if tcb.state not in SETTING_UP:
        tcb.bundler.queue_control(HeartbeatAckChunk(chunk.info).serialize())


@handles(HeartbeatAckChunk)
def handle_heartbeat_ack(tcb: TransmissionControlBlock, chunk: HeartbeatAckChunk, now: Instant) -> None:
    """The peer lives (§8.3): a sample of the round trip, and no timeouts in a row."""
    rtt = tcb.heartbeat.handle_ack(chunk, now)
    if rtt is not None:
        tcb.sender.rto.measured(rtt)
        tcb.sender.timeouts = 0


def handle_heartbeat_timer(tcb: TransmissionControlBlock, now: Instant) -> None:
    """Send a HEARTBEAT if one is due and the association is idle (§8.3)."""
    heartbeat = tcb.heartbeat
    if heartbeat.due_at is None or heartbeat.due_at > now:
        return
    if tcb.sender.outstanding_count or tcb.state is not AssociationState.ESTABLISHED:
        heartbeat.restart(now)
        return
    if heartbeat.is_outstanding:
        tcb.sender.timeouts += 1
        tcb.sender.rto.back_off()
    tcb.bundler.queue_control(heartbeat.build(now, tcb.sender.rto.current))
