"""What waits to be sent: a queue of messages per stream, and the scheduler that picks among the streams.

Weighted fair queueing (RFC 8260 §3.6, weights from the channel's priority, RFC 8831 §6.4) by start tags: each
stream has a virtual time that advances by bytes divided by weight; the smallest goes first, and a stream that
was empty starts at the virtual time of the stream being served, so that it neither waits nor gains by its pause.

If messages may interleave (RFC 8260) the pick is per chunk; otherwise per message, since the fragments of
a message take TSNs in a row (RFC 9260 §6.9).
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import Any

from stack.core.machine import Instant
from stack.core.serial import MessageIdentifier, StreamId, StreamSequenceNumber
from stack.sctp.dcep import DEFAULT_PRIORITY

_ZERO: Any = 0


class QueuedMessage:
    """One message on its way: how much of it has been sent, and when to abandon it."""

    __slots__ = (
        "abandoned",
        "expires_at",
        "first_tsn",
        "fsn",
        "last_tsn",
        "max_retransmits",
        "mid",
        "offset",
        "payload",
        "ppid",
        "ssn",
        "stream",
        "unordered",
    )

    def __init__(
        self,
        stream: OutboundStream,
        payload: bytes,
        ppid: int,
        unordered: bool,
        max_retransmits: int | None,
        expires_at: Instant | None,
    ) -> None:
        self.stream = stream
        self.payload = payload
        self.ppid = ppid
        self.unordered = unordered
        self.max_retransmits = max_retransmits
        self.expires_at = expires_at
        self.offset = 0
        self.fsn = 0
        self.ssn: StreamSequenceNumber = _ZERO
        self.mid: MessageIdentifier = _ZERO
        self.first_tsn = -1
        self.last_tsn = -1
        self.abandoned = False


class OutboundStream:
    """The queue of one stream, its counters and its place in the schedule.

    A stream that was reset is forgotten; the next message on it makes a new one, which counts from zero
    (RFC 6525 §5.2.2 E4, RFC 8260 §2.4).
    """

    __slots__ = (
        "buffered",
        "low_threshold",
        "messages",
        "next_mid",
        "next_ssn",
        "next_unordered_mid",
        "priority",
        "scheduled",
        "stream_id",
        "virtual_time",
    )

    def __init__(self, stream_id: StreamId) -> None:
        self.stream_id = stream_id
        self.messages: deque[QueuedMessage] = deque()
        self.priority = DEFAULT_PRIORITY
        self.virtual_time = 0.0
        self.scheduled = False
        self.buffered = 0
        self.low_threshold = -1  # Below anything: no event.
        self.next_ssn: StreamSequenceNumber = _ZERO
        self.next_mid: MessageIdentifier = _ZERO
        self.next_unordered_mid: MessageIdentifier = _ZERO


class SendQueue:
    """All outgoing streams."""

    __slots__ = ("_current", "_heap", "_order", "_virtual_time", "buffered", "interleaving", "low", "streams")

    def __init__(self) -> None:
        self.streams: dict[StreamId, OutboundStream] = {}
        self.interleaving = False
        self.buffered = 0
        """Bytes of payload that were never sent yet, over all streams."""
        self.low: list[StreamId] = []
        """Streams whose buffered amount has fallen to their threshold, until the reader clears it."""
        self._heap: list[tuple[float, int, OutboundStream]] = []
        self._order = 0
        self._virtual_time = 0.0
        self._current: OutboundStream | None = None

    def __bool__(self) -> bool:
        return self._current is not None or bool(self._heap)

    @property
    def is_contended(self) -> bool:
        """True if more than one stream waits to be served."""
        return bool(self._heap)

    def stream(self, stream_id: StreamId) -> OutboundStream:
        """Return a stream, made at its first use."""
        stream = self.streams.get(stream_id)
        if stream is None:
            stream = self.streams[stream_id] = OutboundStream(stream_id)
        return stream

    def push(self, message: QueuedMessage) -> None:
        """Queue a message behind the others of its stream."""
        stream = message.stream
        stream.messages.append(message)
        stream.buffered += len(message.payload)
        self.buffered += len(message.payload)
        if not stream.scheduled:
            stream.virtual_time = max(stream.virtual_time, self._virtual_time)
            self._schedule(stream)

    def peek(self, now: Instant) -> QueuedMessage | None:
        """Return the message to be sent next; drops, on the way, those that expired before they began."""
        while True:
            stream = self._current
            if stream is None:
                if not self._heap:
                    return None
                self._virtual_time, _, stream = heappop(self._heap)
                self._current = stream
            message = stream.messages[0]
            if message.expires_at is not None and message.offset == 0 and message.expires_at <= now:
                self.drop(message)
                continue
            return message

    def sent(self, message: QueuedMessage, size: int) -> None:
        """The next `size` bytes of the message that `peek` returned were sent."""
        stream = message.stream
        message.offset += size
        stream.virtual_time += size / stream.priority
        self._debit(stream, size)
        done = message.offset >= len(message.payload)
        if done:
            stream.messages.popleft()
            # The payload is copied into chunks by now; retransmission does not need it.
            message.payload = b""
            if not stream.messages:
                stream.scheduled = False
                self._current = None
                return
        if self._heap and (done or self.interleaving):
            self._current = None
            self._schedule(stream)

    def drop(self, message: QueuedMessage) -> None:
        """Abandon the rest of a message that is queued."""
        stream = message.stream
        rest = len(message.payload) - message.offset
        stream.messages.remove(message)
        message.payload = b""
        self._debit(stream, rest)
        if not stream.messages:
            self._unschedule(stream)
        elif stream is self._current and self._heap:
            self._current = None
            self._schedule(stream)

    def is_idle(self, stream_id: StreamId) -> bool:
        """True if nothing is queued on a stream: all of it has TSNs."""
        stream = self.streams.get(stream_id)
        return stream is None or not stream.messages

    def _debit(self, stream: OutboundStream, size: int) -> None:
        before = stream.buffered
        stream.buffered = before - size
        self.buffered -= size
        if before > stream.low_threshold >= stream.buffered:
            self.low.append(stream.stream_id)

    def _schedule(self, stream: OutboundStream) -> None:
        stream.scheduled = True
        self._order += 1
        heappush(self._heap, (stream.virtual_time, self._order, stream))

    def _unschedule(self, stream: OutboundStream) -> None:
        stream.scheduled = False
        if stream is self._current:
            self._current = None
        else:
            self._heap = [entry for entry in self._heap if entry[2] is not stream]
            self._heap.sort()
