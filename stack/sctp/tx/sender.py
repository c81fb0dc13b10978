"""The sending half: gives chunks to packets, takes SACKs, retransmits, abandons (RFC 9260 §6.1, §6.2.1, §6.3, §7).

What is sent next is decided in `build_chunks`, what arrived in `handle_sack`, what is lost in `tx/loss.py`, how
much may be in flight in `tx/congestion.py`. Partial reliability (RFC 3758 §3.5) is `_abandon` and
`build_forward_tsn`.

TSNs are unbounded integers here; they wrap on the wire only. Left out: the congestion response to a loss that
a tail probe alone repaired (RFC 8985 §7.4), because a SACK cannot tell it from a delayed first transmission.
"""

from __future__ import annotations

from collections.abc import Iterable

from stack.core.machine import Instant
from stack.core.serial import SERIAL16, SERIAL32, ExtendedTsn, StreamId, Tsn
from stack.core.timers import TimerName, Timers
from stack.sctp.chunks import ForwardTsnChunk, IForwardTsnChunk, SackChunk, Skip
from stack.sctp.chunks.data import (
    DATA,
    DATA_OVERHEAD,
    FLAG_BEGIN,
    FLAG_END,
    FLAG_IMMEDIATE,
    FLAG_UNORDERED,
    I_DATA,
    I_DATA_OVERHEAD,
    DataChunk,
    IDataChunk,
    pack_data,
    pack_i_data,
)
from stack.sctp.chunks.forward import MessageSequence
from stack.sctp.tsn import wrap_tsn
from stack.sctp.tx.congestion import CongestionWindow
from stack.sctp.tx.loss import REORDERING_THRESHOLD, LossDetector
from stack.sctp.tx.outstanding import OutstandingChunk
from stack.sctp.tx.queue import QueuedMessage, SendQueue
from stack.sctp.tx.rto import RtoEstimator

MAX_OUTSTANDING_CHUNKS = 16384
"""However far the windows of a peer are open, no more chunks are unacknowledged at once."""
_FORWARD_TSN_OVERHEAD = 8


class SenderTimer(TimerName):
    """Why the sender wants to be woken."""

    T3_RTX = "t3-rtx"
    TAIL_PROBE = "tail probe"
    REORDERING = "reordering window"


class Sender:
    """Everything between a queued message and its acknowledgement.

    `_outstanding`, `_in_flight`, `_lost` and `_gaps` are views of what was sent; each SACK changes all four.
    """

    def __init__(self, initial_tsn: Tsn, pmdcs: int, rto: RtoEstimator) -> None:
        self.queue = SendQueue()
        self.rto = rto
        self.congestion = CongestionWindow(pmdcs)
        self.timers: Timers[SenderTimer] = Timers()
        self.next_tsn: ExtendedTsn = initial_tsn
        self.cumulative_tsn_ack: ExtendedTsn = initial_tsn - 1
        self.peer_rwnd = 0
        self.flight_size = 0
        """Serialized bytes in flight: sent, neither acknowledged nor believed lost nor abandoned."""
        self.timeouts = 0
        """T3-rtx expiries in a row without an acknowledgement (RFC 9260 §8.1)."""
        self.partial_reliability = False
        self.forward_tsn_due = False
        self.newly_acknowledged = 0
        """How many chunks were acknowledged since the association last sent."""
        self.timers_due = False
        """`arm_timers` is to be called when all is sent."""
        self._outstanding: dict[ExtendedTsn, OutstandingChunk] = {}
        self._in_flight: dict[ExtendedTsn, OutstandingChunk] = {}
        self._lost: dict[ExtendedTsn, OutstandingChunk] = {}
        self._gaps: dict[ExtendedTsn, ExtendedTsn] = {}
        self._loss = LossDetector()
        self._fast_retransmit_due = False
        self._probing = False
        self._highest_arrived: ExtendedTsn = initial_tsn - 1
        self._last_sent_at: Instant | None = None

    # --- for the association -------------------------------------------------------------------------------

    @property
    def has_unacknowledged(self) -> bool:
        """True while anything is queued or outstanding."""
        return bool(self._outstanding) or bool(self.queue)

    @property
    def outstanding_count(self) -> int:
        """How many TSNs are not covered by the cumulative acknowledgement."""
        return len(self._outstanding)

    def discard_stream(self, stream_id: StreamId, now: Instant) -> None:
        """Abandon what was never sent on a stream; a message that was begun goes on unless it may be abandoned."""
        for message in list(self.queue.stream(stream_id).messages):
            if not message.offset:
                self.queue.drop(message)
            elif self.partial_reliability:
                self._abandon(message, now)

    def build_chunks(self, room: int, now: Instant) -> list[bytes]:
        """Return the chunks for the `room` bytes left in a packet; empty if nothing may be sent now."""
        wires: list[bytes] = []
        while self._lost:
            chunk = next(iter(self._lost.values()))
            # RFC 9260 §7.2.4: the first packet of a fast retransmission goes out whatever cwnd says.
            over_cwnd = self.flight_size > 0 and self.flight_size + chunk.size > self.congestion.cwnd
            if (over_cwnd and not self._fast_retransmit_due) or chunk.size > room:
                self._fast_retransmit_due = self._fast_retransmit_due and not wires
                return wires
            wires.append(self._retransmit(chunk, now))
            room -= chunk.size
        if wires:
            self._fast_retransmit_due = False
        while self.flight_size < self.congestion.cwnd and len(self._outstanding) < MAX_OUTSTANDING_CHUNKS:
            message = self.queue.peek(now)
            if message is None:
                break
            if message.offset and self._is_expired(message, now):
                self._abandon(message, now)
                continue
            size = self._fragment_size(message, room, bool(wires))
            if not size:
                break
            last_sent_at = self._last_sent_at
            if not self.flight_size and last_sent_at is not None and now - last_sent_at > self.rto.current:
                self.congestion.idle()
            wire = self._transmit(message, size, now)
            wires.append(wire)
            room -= len(wire)
        return wires

    @property
    def has_work(self) -> bool:
        """True if `build_chunks` may have something to give."""
        return bool(self._lost) or (self.flight_size < self.congestion.cwnd and bool(self.queue))

    def build_fragments(self, most: int, now: Instant) -> list[bytes]:
        """Return middle fragments of one long message, each for a packet of its own: the bulk of a bulk transfer.

        Does what `build_chunks` does, for up to `most` packets in one loop; empty if `build_chunks` has to decide.
        """
        queue, outstanding = self.queue, self._outstanding
        message = queue.peek(now)
        if self._lost or message is None or not message.offset or (queue.interleaving and queue.is_contended):
            return []
        overhead = I_DATA_OVERHEAD if queue.interleaving else DATA_OVERHEAD
        size = (self.congestion.pmdcs & ~3) - overhead
        whole = size + overhead
        payload, offset = message.payload, message.offset
        count = min(
            most,
            (len(payload) - offset - 1) // size,
            -(-(self.congestion.cwnd - self.flight_size) // whole),
            self.peer_rwnd // whole,
            MAX_OUTSTANDING_CHUNKS - len(outstanding),
        )
        if count < 1 or not self.flight_size or self._is_expired(message, now):
            return []
        flags = FLAG_UNORDERED if message.unordered else 0
        stream_id, mid, ppid, fsn = message.stream.stream_id, message.mid, message.ppid, message.fsn
        end = self.next_tsn + count
        wires = []
        for tsn in range(self.next_tsn, end):
            wire_tsn = tsn & SERIAL32.mask
            if queue.interleaving:
                header = pack_i_data(I_DATA, flags, whole, wire_tsn, stream_id, 0, mid, fsn)
                fsn += 1
            else:
                header = pack_data(DATA, flags, whole, wire_tsn, stream_id, message.ssn, ppid)
            wire = header + payload[offset : offset + size]
            offset += size
            outstanding[tsn] = self._in_flight[tsn] = OutstandingChunk(tsn, wire, message, now)
            wires.append(wire)
        message.fsn = fsn
        message.last_tsn = end - 1
        self.next_tsn = end
        self.flight_size += count * whole
        self.peer_rwnd -= count * whole
        self._last_sent_at = now
        self.timers_due = True
        queue.sent(message, count * size)
        return wires

    def arm_timers(self, now: Instant) -> None:
        """Chunks were sent or have arrived: arm the timers that notice the loss of others."""
        self.timers_due = self._fast_retransmit_due = False
        if not self._outstanding:
            return
        timers = self.timers
        if not timers.is_set(SenderTimer.T3_RTX):
            timers.set(SenderTimer.T3_RTX, now + self.rto.current)
        if self._in_flight and not self._probing and not self._lost:
            timers.set(SenderTimer.TAIL_PROBE, now + self._loss.probe_delay(self.rto))

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due; the association flushes afterwards."""
        self.timers.fire(now, self._handle_timer)

    def _handle_timer(self, timer: SenderTimer, now: Instant) -> None:
        if timer is SenderTimer.T3_RTX:
            self._handle_t3(now)
        elif timer is SenderTimer.TAIL_PROBE:
            self._send_tail_probe(now)
        else:
            self._detect_losses(now)

    # --- sending -------------------------------------------------------------------------------------------

    def _fragment_size(self, message: QueuedMessage, room: int, bundled: bool) -> int:
        """How much of the message goes into `room` bytes; 0: nothing, in this packet."""
        remaining = len(message.payload) - message.offset
        overhead = I_DATA_OVERHEAD if self.queue.interleaving else DATA_OVERHEAD
        space = (room & ~3) - overhead
        if remaining > space:
            # A rest of a packet is not worth a fragment of its own, unless only a SACK stands before it.
            if bundled or 2 * space < self.congestion.pmdcs:
                return 0
            remaining = space
        # RFC 9260 §6.1 A: a closed window is probed by one chunk at a time.
        if self._outstanding and self.peer_rwnd < remaining + overhead:
            return 0
        return remaining

    def _transmit(self, message: QueuedMessage, size: int, now: Instant) -> bytes:
        stream, offset, tsn = message.stream, message.offset, self.next_tsn
        payload = message.payload
        flags = FLAG_UNORDERED if message.unordered else 0
        if not offset:
            flags |= FLAG_BEGIN
            message.first_tsn = tsn
            self._assign_sequence(message)
        if offset + size == len(payload):
            flags |= FLAG_END
        if size != len(payload):
            payload = payload[offset : offset + size]
        self.queue.sent(message, size)
        if not self.queue:
            flags |= FLAG_IMMEDIATE  # Nothing follows that would make the peer acknowledge this.
        wire_tsn = wrap_tsn(tsn)
        if self.queue.interleaving:
            ppid, fsn = (0, message.fsn) if offset else (message.ppid, 0)
            wire = IDataChunk(flags, wire_tsn, stream.stream_id, message.mid, ppid, fsn, payload).serialize()
            message.fsn += 1
        else:
            wire = DataChunk(flags, wire_tsn, stream.stream_id, message.ssn, message.ppid, payload).serialize()
        chunk = OutstandingChunk(tsn, wire, message, now)
        message.last_tsn = tsn
        self.next_tsn = tsn + 1
        self._outstanding[tsn] = self._in_flight[tsn] = chunk
        self.flight_size += chunk.size
        self.peer_rwnd = max(0, self.peer_rwnd - chunk.size)
        self._last_sent_at = now
        self.timers_due = True
        return wire

    def _assign_sequence(self, message: QueuedMessage) -> None:
        stream = message.stream
        if not self.queue.interleaving:
            if not message.unordered:
                message.ssn = stream.next_ssn
                stream.next_ssn = SERIAL16.add(stream.next_ssn, 1)
        elif message.unordered:
            message.mid = stream.next_unordered_mid
            stream.next_unordered_mid = SERIAL32.add(stream.next_unordered_mid, 1)
        else:
            message.mid = stream.next_mid
            stream.next_mid = SERIAL32.add(stream.next_mid, 1)

    def _retransmit(self, chunk: OutstandingChunk, now: Instant) -> bytes:
        del self._lost[chunk.tsn]
        if chunk.tsn == self.cumulative_tsn_ack + 1:
            # RFC 9260 §7.2.4 step 4: the earliest outstanding chunk gets a whole timeout, each time.
            self.timers.set(SenderTimer.T3_RTX, now + self.rto.current)
        chunk.transmissions += 1
        chunk.sent_at = self._last_sent_at = now
        if chunk.transmissions == 2:
            wire = chunk.wire
            chunk.wire = b"".join((wire[:1], bytes((wire[1] | FLAG_IMMEDIATE,)), wire[2:]))
        self._in_flight[chunk.tsn] = chunk
        self.flight_size += chunk.size
        self.timers_due = True
        return chunk.wire

    # --- acknowledgement -----------------------------------------------------------------------------------

    def handle_sack(self, sack: SackChunk, now: Instant) -> bool:
        """Take a SACK. False: it acknowledges what was never sent, and is disregarded."""
        cumulative = SERIAL32.unwrap(sack.cumulative_tsn_ack, self.cumulative_tsn_ack)
        highest = cumulative + (sack.gaps[-1][1] if sack.gaps else 0)
        if highest >= self.next_tsn:
            return False
        if cumulative < self.cumulative_tsn_ack:
            return True  # RFC 9260 §6.2.1 D i: overtaken by a newer one.
        flight_before = self.flight_size
        arrived = self._handle_cumulative(cumulative)
        advanced = cumulative > self.cumulative_tsn_ack
        self.cumulative_tsn_ack = cumulative
        arrived += self._handle_gaps(cumulative, sack.gaps)
        if arrived:
            self.newly_acknowledged += len(arrived)
            self._handle_arrivals(arrived, now)
            self.timeouts = 0
            size = sum([chunk.size for chunk in arrived])
            latest = self._loss.latest_sent_at
            self.congestion.acknowledged(size, flight_before, latest, self.rto.queue_detected)
        self.peer_rwnd = max(0, sack.a_rwnd - self.flight_size)
        if not sack.a_rwnd:
            self.timeouts = 0  # §6.1 A: a peer that answers window probes is alive.
        if sack.duplicates:
            self._loss.duplicate_reported()
        if not self._outstanding:
            self.timers.clear_all()
            return True
        if self._in_flight and (arrived or sack.gaps):
            self._detect_losses(now)
        if advanced:
            self.timers.set(SenderTimer.T3_RTX, now + self.rto.current)  # §6.3.2 R3
        if self.partial_reliability:
            following = self._outstanding.get(cumulative + 1)
            self.forward_tsn_due = following is not None and following.abandoned
        return True

    def handle_cumulative_ack(self, tsn: Tsn, now: Instant) -> bool:
        """Take the acknowledgement in a SHUTDOWN (§9.2), which says nothing of gaps or windows."""
        return self.handle_sack(SackChunk(tsn, self.peer_rwnd + self.flight_size), now)

    def _handle_cumulative(self, cumulative: ExtendedTsn) -> list[OutstandingChunk]:
        arrived: list[OutstandingChunk] = []
        outstanding, in_flight = self._outstanding, self._in_flight
        for tsn in range(self.cumulative_tsn_ack + 1, cumulative + 1):
            chunk = outstanding.pop(tsn)
            if in_flight.pop(tsn, None) is not None:
                self.flight_size -= chunk.size
                arrived.append(chunk)
            elif self._lost.pop(tsn, None) is not None:
                arrived.append(chunk)
        return arrived

    def _handle_gaps(self, cumulative: ExtendedTsn, gaps: Iterable[tuple[int, int]]) -> list[OutstandingChunk]:
        """Walk only over what is new since the last SACK: blocks mostly grow at their end."""
        arrived: list[OutstandingChunk] = []
        previous, current = self._gaps, {}
        for start, end in gaps:
            first, last = cumulative + start, cumulative + end
            current[first] = last
            for tsn in range(max(first, previous.get(first, -1) + 1), last + 1):
                chunk = self._outstanding[tsn]
                if not chunk.arrived:
                    chunk.arrived = True
                    if self._remove_arrived(chunk):
                        arrived.append(chunk)
        self._gaps = current
        return arrived

    def _remove_arrived(self, chunk: OutstandingChunk) -> bool:
        """The chunk arrived: neither in flight nor lost any more. False: it had been abandoned."""
        if self._in_flight.pop(chunk.tsn, None) is not None:
            self.flight_size -= chunk.size
        elif self._lost.pop(chunk.tsn, None) is None:
            return False
        return True

    def _handle_arrivals(self, arrived: list[OutstandingChunk], now: Instant) -> None:
        newest: OutstandingChunk | None = None
        for chunk in arrived:
            if chunk.transmissions > 1:
                self._loss.arrived(chunk, now, self.rto.minimum_rtt)
                continue
            if newest is None or chunk.sent_at >= newest.sent_at:
                newest = chunk
            if chunk.tsn < self._highest_arrived:
                self._loss.reordering_seen = True
        self._highest_arrived = max(self._highest_arrived, arrived[-1].tsn)
        if newest is not None:
            self.rto.measured(now - newest.sent_at)
            self._loss.arrived(newest, now, self.rto.minimum_rtt)
        self._probing = False
        self.timers_due = True

    # --- loss ----------------------------------------------------------------------------------------------

    def _detect_losses(self, now: Instant) -> None:
        out_of_order = sum(last - first + 1 for first, last in self._gaps.items())
        reordering_tolerated = not self.congestion.in_recovery and out_of_order < REORDERING_THRESHOLD
        lost, look_again = self._loss.find_lost(self._in_flight, self.rto, now, reordering_tolerated)
        if look_again is not None:
            self.timers.set(SenderTimer.REORDERING, look_again)
        elif self.timers.is_set(SenderTimer.REORDERING):
            self.timers.clear(SenderTimer.REORDERING)
        if not lost:
            return
        self._mark_lost(lost, now)
        self.timers.clear(SenderTimer.TAIL_PROBE)
        if self.congestion.lost(lost[-1].sent_at, now, self.rto.queue_detected):
            self._fast_retransmit_due = True

    def _mark_lost(self, chunks: list[OutstandingChunk], now: Instant) -> None:
        for chunk in chunks:
            if chunk.abandoned or self._in_flight.pop(chunk.tsn, None) is None:
                continue
            self.flight_size -= chunk.size
            message = chunk.message
            spent = message.max_retransmits is not None and chunk.transmissions > message.max_retransmits
            if self.partial_reliability and (spent or self._is_expired(message, now)):
                self._abandon(message, now)
            else:
                self._lost[chunk.tsn] = chunk

    def _handle_t3(self, now: Instant) -> None:
        """RFC 9260 §6.3.3: everything in flight counts as lost, and one packet of it goes out at once."""
        if not self._outstanding:
            return
        self.timeouts += 1
        self.rto.back_off()
        self.congestion.timed_out()
        self._renege()
        self._mark_lost(list(self._in_flight.values()), now)
        self._lost = dict(sorted(self._lost.items()))
        self._fast_retransmit_due = True
        self._probing = True
        self.forward_tsn_due = self.partial_reliability
        self.timers.clear_all()
        self.timers.set(SenderTimer.T3_RTX, now + self.rto.current)

    def _renege(self) -> None:
        """Chunks that older SACKs reported and the last one did not are gone (§6.2.1; RFC 2018 §8)."""
        held = {tsn for first, last in self._gaps.items() for tsn in range(first, last + 1)}
        for tsn, chunk in self._outstanding.items():
            if chunk.arrived and not chunk.abandoned and tsn not in held:
                chunk.arrived = False
                self._lost[tsn] = chunk

    def _send_tail_probe(self, now: Instant) -> None:
        """Send the newest chunk in flight once more, for a SACK that says what is missing (RFC 8985 §7.3)."""
        if not self._in_flight or self._lost:
            return
        chunk = next(reversed(self._in_flight.values()))
        if chunk.message.max_retransmits is not None and chunk.transmissions > chunk.message.max_retransmits:
            return
        del self._in_flight[chunk.tsn]
        self.flight_size -= chunk.size
        self._lost[chunk.tsn] = chunk
        self._fast_retransmit_due = self._probing = True
        # RFC 8985 §7.3: the probe's answer may still come.
        self.timers.set(SenderTimer.T3_RTX, now + self.rto.current)

    # --- partial reliability -------------------------------------------------------------------------------

    def _is_expired(self, message: QueuedMessage, now: Instant) -> bool:
        return self.partial_reliability and message.expires_at is not None and message.expires_at <= now

    def _abandon(self, message: QueuedMessage, now: Instant) -> None:
        """Abandon every fragment of a message (RFC 3758 §3.5 A3)."""
        message.abandoned = True
        if message.payload:
            self.queue.drop(message)
            # The unsent rest gets one TSN: without it, a peer that has all that was sent would wait for more.
            rest = OutstandingChunk(self.next_tsn, b"", message, now)
            self._outstanding[rest.tsn] = rest
            message.last_tsn = rest.tsn
            self.next_tsn += 1
        for tsn in range(message.first_tsn, message.last_tsn + 1):
            chunk = self._outstanding.get(tsn)
            if chunk is not None and chunk.message is message:
                chunk.abandoned = True
                if self._in_flight.pop(tsn, None) is not None:
                    self.flight_size -= chunk.size
                self._lost.pop(tsn, None)
        self.forward_tsn_due = True
        self.timers.set_default(SenderTimer.T3_RTX, now + self.rto.current)

    def build_forward_tsn(self, room: int) -> bytes | None:
        """Return the chunk that moves the peer past what was abandoned; None if there is nothing (§3.5 C)."""
        self.forward_tsn_due = False
        interleaving = self.queue.interleaving
        most = (room - _FORWARD_TSN_OVERHEAD) // (8 if interleaving else 4)
        skips: dict[tuple[StreamId, bool], MessageSequence] = {}
        point = self.cumulative_tsn_ack
        while (chunk := self._outstanding.get(point + 1)) is not None and chunk.abandoned:
            message = chunk.message
            if interleaving or not message.unordered:
                key = (message.stream.stream_id, message.unordered)
                if key not in skips and len(skips) == most:
                    break
                skips[key] = message.mid if interleaving else message.ssn
            point += 1
        if point == self.cumulative_tsn_ack:
            return None
        named = tuple(Skip(stream_id, sequence, unordered) for (stream_id, unordered), sequence in skips.items())
        kind = IForwardTsnChunk if interleaving else ForwardTsnChunk
        return kind(wrap_tsn(point), named).serialize()
