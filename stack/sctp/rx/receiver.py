"""The receiving half: takes DATA and I-DATA, and decides when to acknowledge (RFC 9260 §6.2, §6.7).

At once: when the sender requests it (the I bit), when something is missing or was missing, when a chunk came
twice, and at every second packet. Otherwise after `SACK_DELAY`, which is far below the 200 ms that §6.2 allows:
a program's answer comes within it and carries the SACK along, and a person's events do not wait for it.
"""

from __future__ import annotations

from stack.core.counters import Counters, declare
from stack.core.errors import RemoteError
from stack.core.machine import Instant
from stack.core.serial import SERIAL32, ExtendedTsn, StreamId, Tsn
from stack.sctp.chunks import DataChunk, ForwardTsnChunk, IDataChunk, IForwardTsnChunk, SackChunk
from stack.sctp.chunks.data import FLAG_IMMEDIATE
from stack.sctp.chunks.sack import SACK_OVERHEAD
from stack.sctp.config import INBOUND_STREAMS
from stack.sctp.rx.reassembly import FRAGMENT_OVERHEAD, Reassembly, UserMessage
from stack.sctp.rx.tsn_map import MAX_TSN_AHEAD, TsnMap
from stack.sctp.tsn import wrap_tsn

DROPPED_DATA_DUPLICATE = declare("sctp", "dropped_data_duplicate", "DATA chunks that had come before")
DROPPED_DATA_BEYOND_WINDOW = declare(
    "sctp", "dropped_data_beyond_window", "DATA chunks beyond the window that was offered"
)

SACK_DELAY = 0.02
MAX_INVALID_STREAMS = 4
"""More than this in one packet are not reported."""
_PACKETS_PER_SACK = 2


class ReceiveBufferError(RemoteError):
    """The peer disregards the receive window, or never finishes what it begins."""


class Receiver:
    """Everything between a chunk's arrival and the delivery of its message."""

    __slots__ = (
        "_advertised_window",
        "_counters",
        "_packets",
        "_reassembly",
        "_sack_now",
        "_settled",
        "_unread",
        "_window",
        "invalid_streams",
        "packet_has_data",
        "sack_at",
        "tsn_map",
    )

    def __init__(
        self, initial_tsn: Tsn, window: int, max_message_size: int, interleaving: bool, counters: Counters
    ) -> None:
        self.tsn_map = TsnMap(initial_tsn)
        self.sack_at: Instant | None = None
        self.invalid_streams: list[StreamId] = []
        self._reassembly = Reassembly(max_message_size, interleaving)
        self._window = window
        self._unread = 0
        self._advertised_window = window
        self._counters = counters
        self._packets = self._settled = 0
        self.packet_has_data = False
        """The packet being taken holds data, or moves past some."""
        self._sack_now = True  # RFC 9260 §6.2: the first DATA chunk is acknowledged at once.

    @property
    def buffered(self) -> int:
        """What waits for missing fragments, in bytes, overhead included."""
        return self._reassembly.buffered

    @property
    def a_rwnd(self) -> int:
        """The receive window that is left."""
        return max(0, self._window - self._reassembly.buffered - self._unread)

    def handle_data(self, chunk: DataChunk | IDataChunk) -> None:
        """Take one chunk with payload. Raises `RemoteError` for a peer that cannot be served any longer."""
        tsn_map, reassembly = self.tsn_map, self._reassembly
        flags, wire_tsn, stream_id = chunk[:3]
        self.packet_has_data = True
        if flags & FLAG_IMMEDIATE:
            self._sack_now = True
        tsn = tsn_map.highest + 1
        ahead = tsn - tsn_map.cumulative
        room = self._window - reassembly.buffered - self._unread - FRAGMENT_OVERHEAD
        if wire_tsn == tsn & SERIAL32.mask and ahead <= MAX_TSN_AHEAD and len(chunk[-1]) <= room:
            tsn_map.extend()  # The one after the last, unless something was lost.
            if ahead != 1:
                self._sack_now = True  # §6.7: something before it is missing.
        else:
            tsn = SERIAL32.unwrap(wire_tsn, tsn_map.cumulative)
            if not self._is_acceptable(chunk, tsn):
                return
            tsn_map.add(tsn)
        if stream_id >= INBOUND_STREAMS:
            # RFC 9260 §6.5: acknowledged, not delivered, and reported.
            if len(self.invalid_streams) < MAX_INVALID_STREAMS:
                self.invalid_streams.append(stream_id)
        elif isinstance(chunk, DataChunk):
            reassembly.add_data(chunk, tsn)
        else:
            reassembly.add_i_data(chunk, tsn)

    def _is_acceptable(self, chunk: DataChunk | IDataChunk, tsn: ExtendedTsn) -> bool:
        """True: a chunk that is not simply the next one can be taken."""
        tsn_map = self.tsn_map
        if tsn != tsn_map.cumulative + 1:
            self._sack_now = True  # §6.7: a gap, or a duplicate, is reported without delay.
            if tsn_map.has(tsn):
                tsn_map.note_duplicate(chunk.tsn)
                self._counters.add(DROPPED_DATA_DUPLICATE)
                return False
            if not tsn_map.has_room(tsn) or self.a_rwnd < len(chunk.payload) + FRAGMENT_OVERHEAD:
                self._counters.add(DROPPED_DATA_BEYOND_WINDOW)
                return False
            return True
        self._sack_now = True
        if self.a_rwnd < len(chunk.payload):
            # What is missing next is accepted beyond the window too, unless it is the program that does not read:
            # perhaps nothing of what is buffered can be delivered without it. But not for ever.
            if self._unread:
                self._counters.add(DROPPED_DATA_BEYOND_WINDOW)
                return False
            if self.buffered > 2 * self._window:
                raise ReceiveBufferError(f"{self.buffered} bytes of unfinished messages")
        return True

    def handle_forward_tsn(self, chunk: ForwardTsnChunk | IForwardTsnChunk) -> None:
        """Move past what the peer abandoned."""
        cumulative = SERIAL32.unwrap(chunk.new_cumulative_tsn, self.tsn_map.cumulative)
        # RFC 3758 §3.6: answered at once, so that a lost SACK is made good.
        self.packet_has_data = self._sack_now = True
        if cumulative <= self.tsn_map.cumulative:
            return
        self.tsn_map.forward(cumulative)
        self._reassembly.skip(cumulative, chunk.skips)

    def finish_packet(self) -> None:
        """A packet with data has been taken as a whole."""
        self.packet_has_data = False
        self._packets += 1

    @property
    def has_unsettled_packets(self) -> bool:
        """True if packets with data were taken for which `schedule_sack` has not decided yet."""
        return self._packets > self._settled

    def schedule_sack(self, now: Instant) -> None:
        """Everything that arrived together was taken: decide about the SACK."""
        self._settled = self._packets
        if self._sack_now or self._packets >= _PACKETS_PER_SACK:
            self.sack_at = now
        elif self.sack_at is None:
            self.sack_at = now + SACK_DELAY

    def build_sack(self, room: int) -> SackChunk:
        """Return the SACK of all that has arrived, in up to `room` bytes, and take it as sent."""
        self._packets = self._settled = 0
        self._sack_now = False
        self.sack_at = None
        duplicates, self.tsn_map.duplicates = tuple(self.tsn_map.duplicates), []
        self._advertised_window = self.a_rwnd
        gaps = (
            self.tsn_map.gaps((room - SACK_OVERHEAD - 4 * len(duplicates)) // 4) if self.tsn_map.has_gaps else ()
        )
        return SackChunk(wrap_tsn(self.tsn_map.cumulative), self._advertised_window, gaps, duplicates)

    def drain(self) -> list[UserMessage]:
        """Return the messages that may be delivered, in order."""
        delivered = self._reassembly.delivered
        if delivered:
            self._reassembly.delivered = []
        return delivered

    def set_unread(self, size: int, now: Instant) -> None:
        """`size` bytes that were delivered have not been read by the program: they narrow the window."""
        self._unread = size
        # RFC 1122 §4.2.3.3 (silly windows): advertise a window that was small once a good part is free again.
        if self._advertised_window < self._window // 2 <= self.a_rwnd:
            self.sack_at = now

    def restart_streams(self, stream_ids: tuple[StreamId, ...]) -> None:
        """The peer reset these streams; none named: all (RFC 6525 §4.1)."""
        self._reassembly.restart_streams(stream_ids or None)
