"""Fault management: verification tags, packets out of the blue, HEARTBEAT (RFC 9260 §8), unknown chunks (§3.2)."""

from __future__ import annotations

from stack.core.counters import declare
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

DROPPED_INIT_MALFORMED = declare(
    "sctp", "dropped_init_malformed", "INIT chunks with a tag, or not alone in their packet (RFC 9260 §8.5.1 A)"
)
DROPPED_PACKET_WRONG_TAG = declare(
    "sctp", "dropped_packet_wrong_tag", "Packets with another verification tag (RFC 9260 §8.5)"
)
DROPPED_PACKET_AFTER_END = declare(
    "sctp", "dropped_packet_after_end", "Packets for an association that is over (RFC 9260 §8.4)"
)
DROPPED_CHUNK_OUT_OF_PLACE = declare(
    "sctp",
    "dropped_chunk_out_of_place",
    "Known chunks where none of their type belongs, with the rest of their packet",
)
DROPPED_CHUNK_UNKNOWN = declare("sctp", "dropped_chunk_unknown", "Chunks of an unknown type")

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
            tcb.counters.add(DROPPED_INIT_MALFORMED)
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
        tcb.counters.add(DROPPED_PACKET_WRONG_TAG)
    return is_right


def _handle_out_of_the_blue(tcb: TransmissionControlBlock, first: Chunk, tag: int) -> None:
    """RFC 9260 §8.4: a packet for an association that is no more."""
    tcb.counters.add(DROPPED_PACKET_AFTER_END)
    if isinstance(first, ShutdownAckChunk):
        tcb.bundler.send_unbundled(ShutdownCompleteChunk(reflected=True).serialize(), tag)
    elif isinstance(first, DataChunk | IDataChunk | HeartbeatChunk):
        tcb.bundler.send_unbundled(AbortChunk(reflected=True).serialize(), tag)


def handle_without_handler(tcb: TransmissionControlBlock, chunk: Chunk) -> bool:
    """An unknown chunk, or a known one out of place. False: the rest of the packet is discarded."""
    if not isinstance(chunk, UnknownChunk):
        tcb.counters.add(DROPPED_CHUNK_OUT_OF_PLACE)
        return False
    tcb.counters.add(DROPPED_CHUNK_UNKNOWN)
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
