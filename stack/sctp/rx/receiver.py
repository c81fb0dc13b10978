"""The receiving half: takes DATA and I-DATA, and decides when to acknowledge (RFC 9260 §6.2, §6.7).

At once: when the sender asks for it (the I bit), when something is missing or was missing, when a chunk came
twice, and at every second packet. Otherwise after `SACK_DELAY`, which is far below the 200 ms that §6.2 allows:
a program's answer comes within it and carries the SACK along, and a person's events do not wait for it.
"""

from __future__ import annotations

from stack.core.errors import RemoteError
from stack.core.machine import Instant
from stack.core.serial import SERIAL32
from stack.core.trace import Counters
from stack.sctp.chunks import DataChunk, ForwardTsnChunk, IDataChunk, IForwardTsnChunk, SackChunk
from stack.sctp.chunks.data import FLAG_IMMEDIATE
from stack.sctp.chunks.sack import SACK_OVERHEAD
from stack.sctp.rx.reassembly import PIECE_OVERHEAD, Message, Reassembly
from stack.sctp.rx.tsn_map import MAX_TSN_AHEAD, TsnMap

SACK_DELAY = 0.02
INBOUND_STREAMS = 0xFFFF
"""Stream identifiers below this exist (RFC 8831 §6.2)."""
MAX_INVALID_STREAMS = 4
"""More than this in one packet are not reported."""
_PACKETS_PER_SACK = 2


class ReceiveBufferError(RemoteError):
    """The peer disregards the receive window, or never finishes what it begins."""


class Receiver:
    """Everything between a chunk's arrival and the delivery of its message."""

    __slots__ = (
        "_counters",
        "_packets",
        "_reassembly",
        "_sack_now",
        "_settled",
        "_told_window",
        "_unread",
        "_window",
        "has_news",
        "invalid_streams",
        "sack_at",
        "tsns",
    )

    def __init__(
        self, initial_tsn: int, window: int, max_message_size: int, interleaving: bool, counters: Counters
    ) -> None:
        self.tsns = TsnMap(initial_tsn)
        self.sack_at: Instant | None = None
        self.invalid_streams: list[int] = []
        self._reassembly = Reassembly(max_message_size, interleaving)
        self._window = window
        self._unread = 0
        self._told_window = window
        self._counters = counters
        self._packets = self._settled = 0
        self.has_news = False
        """The packet being taken holds data, or moves past some."""
        self._sack_now = True  # RFC 9260 §6.2: the first DATA chunk is acknowledged at once.

    @property
    def buffered(self) -> int:
        """What waits for missing pieces, in bytes, overhead included."""
        return self._reassembly.buffered

    @property
    def a_rwnd(self) -> int:
        """The receive window that is left."""
        return max(0, self._window - self._reassembly.buffered - self._unread)

    def handle_data(self, chunk: DataChunk | IDataChunk) -> None:
        """Take one chunk with payload. Raises `RemoteError` for a peer that cannot be served any longer."""
        tsns, reassembly = self.tsns, self._reassembly
        flags, wire_tsn, stream_id = chunk[:3]
        self.has_news = True
        if flags & FLAG_IMMEDIATE:
            self._sack_now = True
        tsn = tsns.highest + 1
        ahead = tsn - tsns.cumulative
        room = self._window - reassembly.buffered - self._unread - PIECE_OVERHEAD
        if wire_tsn == tsn & SERIAL32.mask and ahead <= MAX_TSN_AHEAD and len(chunk[-1]) <= room:
            tsns.extend()  # As it should be: the one after the last.
            if ahead != 1:
                self._sack_now = True  # §6.7: something before it is missing.
        else:
            tsn = SERIAL32.unwrap(wire_tsn, tsns.cumulative)
            if not self._is_welcome(chunk, tsn):
                return
            tsns.add(tsn)
        if stream_id >= INBOUND_STREAMS:
            # RFC 9260 §6.5: acknowledged, not delivered, and reported.
            if len(self.invalid_streams) < MAX_INVALID_STREAMS:
                self.invalid_streams.append(stream_id)
        elif isinstance(chunk, DataChunk):
            reassembly.add_data(chunk, tsn)
        else:
            reassembly.add_i_data(chunk, tsn)

    def _is_welcome(self, chunk: DataChunk | IDataChunk, tsn: int) -> bool:
        """Judge a chunk that is not simply the next one."""
        tsns = self.tsns
        if tsn != tsns.cumulative + 1:
            self._sack_now = True  # §6.7: a gap, or a duplicate, is reported without delay.
            if tsns.has(tsn):
                tsns.note_duplicate(chunk.tsn)
                self._counters.add("data_duplicate")
                return False
            if not tsns.has_room(tsn) or self.a_rwnd < len(chunk.payload) + PIECE_OVERHEAD:
                self._counters.add("data_beyond_window")
                return False
            return True
        self._sack_now = True
        if self.a_rwnd < len(chunk.payload):
            # What is missing next is welcome beyond the window too, unless it is the program that does not read:
            # perhaps nothing of what is buffered can be delivered without it. But not for ever.
            if self._unread:
                self._counters.add("data_beyond_window")
                return False
            if self.buffered > 2 * self._window:
                raise ReceiveBufferError(f"{self.buffered} bytes of unfinished messages")
        return True

    def handle_forward(self, chunk: ForwardTsnChunk | IForwardTsnChunk) -> None:
        """Move past what the peer gave up."""
        cumulative = SERIAL32.unwrap(chunk.new_cumulative_tsn, self.tsns.cumulative)
        self.has_news = self._sack_now = True  # RFC 3758 §3.6: answered at once, so that a lost SACK is made good.
        if cumulative <= self.tsns.cumulative:
            return
        self.tsns.forward(cumulative)
        self._reassembly.forward(cumulative, chunk.skips)

    def packet_done(self) -> None:
        """A packet with data has been taken as a whole."""
        self.has_news = False
        self._packets += 1

    @property
    def has_taken(self) -> bool:
        """True if packets with data were taken for which `settle` has not decided yet."""
        return self._packets > self._settled

    def settle(self, now: Instant) -> None:
        """Everything that arrived together was taken: decide about the SACK."""
        self._settled = self._packets
        if self._sack_now or self._packets >= _PACKETS_PER_SACK:
            self.sack_at = now
        elif self.sack_at is None:
            self.sack_at = now + SACK_DELAY

    def sack(self, room: int) -> SackChunk:
        """Return the SACK that says it all, for `room` bytes, and take it as sent."""
        self._packets = self._settled = 0
        self._sack_now = False
        self.sack_at = None
        duplicates, self.tsns.duplicates = tuple(self.tsns.duplicates), []
        self._told_window = self.a_rwnd
        gaps = self.tsns.gaps((room - SACK_OVERHEAD - 4 * len(duplicates)) // 4) if self.tsns.has_gaps else ()
        return SackChunk(SERIAL32.add(self.tsns.cumulative, 0), self._told_window, gaps, duplicates)

    def drain(self) -> list[Message]:
        """Return the messages that may be delivered, in order."""
        delivered = self._reassembly.delivered
        if delivered:
            self._reassembly.delivered = []
        return delivered

    def set_unread(self, size: int, now: Instant) -> None:
        """`size` bytes that were delivered have not been read by the program: they narrow the window."""
        self._unread = size
        # RFC 1122 §4.2.3.3 (silly windows): tell of a window that was small once a good part is free again.
        if self._told_window < self._window // 2 <= self.a_rwnd:
            self.sack_at = now

    def restart_streams(self, stream_ids: tuple[int, ...]) -> None:
        """The peer reset these streams; none named: all (RFC 6525 §4.1)."""
        self._reassembly.restart_streams(stream_ids or None)
