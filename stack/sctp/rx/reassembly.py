"""From chunks to messages: fragments are joined, ordered messages put in order (RFC 9260 §6.5, §6.6, §6.9).

Three kinds of assembly, after what names a message on the wire:

- ordered DATA: stream and SSN; the fragments' TSNs follow each other;
- unordered DATA: nothing; only that the fragments' TSNs follow each other, so neighbours are joined into runs;
- I-DATA: stream, U bit and MID; fragments are numbered from zero (RFC 8260 §2.1).

`buffered` counts what waits here, with an overhead for each fragment, so that a peer that sends single bytes
uses up its window. The receiver refuses chunks beyond its window; a message beyond the maximum ends the
association.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from stack.core.errors import RemoteError
from stack.core.serial import SERIAL16, SERIAL32, ExtendedTsn, SerialSpace, StreamId
from stack.sctp.chunks import DataChunk, IDataChunk, Skip
from stack.sctp.chunks.data import FLAG_BEGIN, FLAG_END, FLAG_UNORDERED, UNFRAGMENTED
from stack.sctp.chunks.forward import MessageSequence

FRAGMENT_OVERHEAD = 128
"""What a fragment or a stream message costs beyond its bytes, roughly, in bytes."""


_NOT_IN_THE_MIDDLE = UNFRAGMENTED | FLAG_UNORDERED


_FIRST_SEQUENCE: Any = 0


class UserMessage(NamedTuple):
    """A whole user message."""

    stream_id: StreamId
    ppid: int
    data: bytes


class MessageTooLongError(RemoteError):
    """The peer sends a message that is longer than the maximum that our SDP states."""


class _PartialMessage:
    """The fragments of one message, by TSN (DATA) or FSN (I-DATA); `first` and `last` once they are known."""

    __slots__ = ("first", "fragments", "last", "ppid", "size")

    def __init__(self) -> None:
        self.fragments: dict[int, bytes] = {}
        self.first: int | None = None
        self.last: int | None = None
        self.ppid = 0
        self.size = 0

    def add(self, number: int, flags: int, ppid: int, payload: bytes) -> bool:
        """Take a fragment. True: the message is whole."""
        self.fragments[number] = payload
        self.size += len(payload)
        if flags & FLAG_BEGIN:
            self.first = number
            self.ppid = ppid
        if flags & FLAG_END:
            self.last = number
        if self.first is None or self.last is None:
            return False
        return len(self.fragments) == self.last - self.first + 1

    def join(self) -> bytes:
        """Return the whole message."""
        assert self.first is not None
        assert self.last is not None
        return b"".join(map(self.fragments.__getitem__, range(self.first, self.last + 1)))

    @property
    def cost(self) -> int:
        return self.size + FRAGMENT_OVERHEAD * len(self.fragments)


class _FragmentRun:
    """Fragments of unordered DATA with TSNs in a row, all of one message."""

    __slots__ = ("ends", "first", "fragments", "last", "ppid", "size", "starts")

    def __init__(self, chunk: DataChunk, tsn: ExtendedTsn) -> None:
        self.first = self.last = tsn
        self.fragments = [chunk.payload]
        self.ppid = chunk.ppid
        self.size = len(chunk.payload)
        self.starts = bool(chunk.flags & FLAG_BEGIN)
        self.ends = bool(chunk.flags & FLAG_END)

    def append(self, other: _FragmentRun) -> None:
        """Append a run that follows this one."""
        self.last = other.last
        self.fragments += other.fragments
        self.size += other.size
        self.ends = other.ends

    @property
    def cost(self) -> int:
        return self.size + FRAGMENT_OVERHEAD * len(self.fragments)


class _InboundStream:
    """What waits on one stream; a stream on which nothing waits has none of these."""

    __slots__ = ("partials", "ready", "run_by_first", "run_by_last", "unordered_partials")

    def __init__(self) -> None:
        self.partials: dict[MessageSequence, _PartialMessage] = {}
        self.ready: dict[MessageSequence, UserMessage] = {}
        self.unordered_partials: dict[MessageSequence, _PartialMessage] = {}
        self.run_by_first: dict[ExtendedTsn, _FragmentRun] = {}
        self.run_by_last: dict[ExtendedTsn, _FragmentRun] = {}

    def __bool__(self) -> bool:
        return bool(self.partials or self.ready or self.unordered_partials or self.run_by_first)


class Reassembly:
    """All inbound streams; whole messages, in the order in which they may be delivered, are in `delivered`."""

    __slots__ = ("_max_message_size", "_next_sequence", "_space", "_streams", "buffered", "delivered")

    def __init__(self, max_message_size: int, interleaving: bool = False) -> None:
        self.buffered = 0
        self.delivered: list[UserMessage] = []
        self._max_message_size = max_message_size
        self._space: SerialSpace = SERIAL32 if interleaving else SERIAL16
        self._next_sequence: dict[StreamId, MessageSequence] = {}
        self._streams: dict[StreamId, _InboundStream] = {}

    def add_data(self, chunk: DataChunk, tsn: ExtendedTsn) -> None:
        """Take a new DATA chunk. Raises `MessageTooLongError`."""
        flags, _, stream_id, ssn, ppid, payload = chunk
        if not flags & _NOT_IN_THE_MIDDLE and self._add_middle(stream_id, ssn, tsn, payload):
            return
        if not flags & FLAG_UNORDERED:
            self._add_ordered(stream_id, ssn, tsn, flags, ppid, payload)
        elif flags & UNFRAGMENTED == UNFRAGMENTED:
            self.delivered.append(UserMessage(stream_id, ppid, payload))
        else:
            self._add_run(chunk, tsn)

    def add_i_data(self, chunk: IDataChunk, tsn: ExtendedTsn) -> None:
        """Take a new I-DATA chunk. Raises `MessageTooLongError`."""
        flags, _, stream_id, mid, ppid, fsn, payload = chunk
        if not flags & _NOT_IN_THE_MIDDLE and self._add_middle(stream_id, mid, fsn, payload):
            return
        if not flags & FLAG_UNORDERED:
            self._add_ordered(stream_id, mid, fsn, flags, ppid, payload)
        elif flags & UNFRAGMENTED == UNFRAGMENTED:
            self.delivered.append(UserMessage(stream_id, ppid, payload))
        else:
            stream = self._stream(stream_id)
            whole = self._add_partial(stream.unordered_partials, mid, fsn, flags, ppid, payload)
            if whole is not None:
                self.delivered.append(UserMessage(stream_id, whole.ppid, whole.join()))
                self._forget_if_empty(stream_id, stream)

    def _stream(self, stream_id: StreamId) -> _InboundStream:
        stream = self._streams.get(stream_id)
        if stream is None:
            stream = self._streams[stream_id] = _InboundStream()
        return stream

    def _forget_if_empty(self, stream_id: StreamId, stream: _InboundStream) -> None:
        if not stream:
            self._streams.pop(stream_id, None)

    def _is_past(self, stream_id: StreamId, sequence: MessageSequence) -> bool:
        return self._space.is_newer(self._next_sequence.get(stream_id, _FIRST_SEQUENCE), sequence)

    def _add_ordered(
        self, stream_id: StreamId, sequence: MessageSequence, number: int, flags: int, ppid: int, payload: bytes
    ) -> None:
        if self._is_past(stream_id, sequence):
            return
        if flags & UNFRAGMENTED == UNFRAGMENTED:
            message = UserMessage(stream_id, ppid, payload)
        else:
            stream = self._stream(stream_id)
            whole = self._add_partial(stream.partials, sequence, number, flags, ppid, payload)
            if whole is None:
                return
            self._forget_if_empty(stream_id, stream)
            message = UserMessage(stream_id, whole.ppid, whole.join())
        if sequence == self._next_sequence.get(stream_id, _FIRST_SEQUENCE):
            self.delivered.append(message)
            self._next_sequence[stream_id] = self._space.add(sequence, 1)
            self._deliver_ready(stream_id)
            return
        ready = self._stream(stream_id).ready
        if sequence not in ready:
            ready[sequence] = message
            self.buffered += len(message.data) + FRAGMENT_OVERHEAD

    def _add_middle(self, stream_id: StreamId, sequence: MessageSequence, number: int, payload: bytes) -> bool:
        """Take a middle fragment of a message whose end is still to come: the bulk of a bulk transfer."""
        stream = self._streams.get(stream_id)
        partial = stream.partials.get(sequence) if stream is not None else None
        if partial is None or partial.last is not None or number in partial.fragments:
            return False
        size = len(payload)
        if partial.size + size > self._max_message_size:
            return False
        partial.fragments[number] = payload
        partial.size += size
        self.buffered += size + FRAGMENT_OVERHEAD
        return True

    def _deliver_ready(self, stream_id: StreamId) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        sequence = self._next_sequence[stream_id]
        while (message := stream.ready.pop(sequence, None)) is not None:
            self.buffered -= len(message.data) + FRAGMENT_OVERHEAD
            self.delivered.append(message)
            sequence = self._space.add(sequence, 1)
        self._next_sequence[stream_id] = sequence
        self._forget_if_empty(stream_id, stream)

    def _add_partial(
        self,
        partials: dict[MessageSequence, _PartialMessage],
        sequence: MessageSequence,
        number: int,
        flags: int,
        ppid: int,
        payload: bytes,
    ) -> _PartialMessage | None:
        """Take a fragment; return the message, taken out, if it is whole now."""
        partial = partials.get(sequence)
        if partial is None:
            partial = partials[sequence] = _PartialMessage()
        if number in partial.fragments:
            return None  # Two TSNs carry the same fragment: the first one stands.
        whole = partial.add(number, flags, ppid, payload)
        self.buffered += len(payload) + FRAGMENT_OVERHEAD
        if partial.size > self._max_message_size:
            raise MessageTooLongError(f"a message of more than {self._max_message_size} bytes")
        if not whole:
            return None
        self.buffered -= partial.cost
        del partials[sequence]
        return partial

    def _add_run(self, chunk: DataChunk, tsn: ExtendedTsn) -> None:
        stream = self._stream(chunk.stream_id)
        run = _FragmentRun(chunk, tsn)
        self.buffered += run.cost
        if not run.starts:
            left = stream.run_by_last.get(tsn - 1)
            if left is not None and not left.ends:
                del stream.run_by_last[left.last]
                left.append(run)
                run = left
        if not run.ends:
            right = stream.run_by_first.get(run.last + 1)
            if right is not None and not right.starts:
                del stream.run_by_first[right.first]
                run.append(right)
        if run.size > self._max_message_size:
            raise MessageTooLongError(f"a message of more than {self._max_message_size} bytes")
        if run.starts and run.ends:
            stream.run_by_first.pop(run.first, None)
            stream.run_by_last.pop(run.last, None)
            self.buffered -= run.cost
            self.delivered.append(UserMessage(chunk.stream_id, run.ppid, b"".join(run.fragments)))
            self._forget_if_empty(chunk.stream_id, stream)
        else:
            stream.run_by_first[run.first] = run
            stream.run_by_last[run.last] = run

    def skip(self, new_cumulative: ExtendedTsn, skips: Iterable[Skip]) -> None:
        """Abandon what the peer abandoned, and deliver what waited for it (RFC 3758 §3.6, RFC 8260 §2.3.1)."""
        last = {(stream_id, unordered): sequence for stream_id, sequence, unordered in skips}
        for (stream_id, unordered), sequence in last.items():
            if not unordered:
                self._skip_ordered(stream_id, sequence)
            elif (stream := self._streams.get(stream_id)) is not None:
                self._abandon(stream.unordered_partials, sequence)
                self._forget_if_empty(stream_id, stream)
        for stream_id, stream in list(self._streams.items()):
            for first in [first for first in stream.run_by_first if first <= new_cumulative]:
                run = stream.run_by_first.pop(first)
                del stream.run_by_last[run.last]
                self.buffered -= run.cost
            self._forget_if_empty(stream_id, stream)

    def _abandon(self, partials: dict[MessageSequence, _PartialMessage], sequence: MessageSequence) -> None:
        for known in [each for each in partials if not self._space.is_newer(each, sequence)]:
            self.buffered -= partials.pop(known).cost

    def _skip_ordered(self, stream_id: StreamId, sequence: MessageSequence) -> None:
        if self._is_past(stream_id, sequence):
            return
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._abandon(stream.partials, sequence)
            # Whole messages at or before the skipped one are still good.
            early = [each for each in stream.ready if not self._space.is_newer(each, sequence)]
            for each in sorted(early, key=lambda number: self._space.distance(number, sequence)):
                message = stream.ready.pop(each)
                self.buffered -= len(message.data) + FRAGMENT_OVERHEAD
                self.delivered.append(message)
        self._next_sequence[stream_id] = self._space.add(sequence, 1)
        self._deliver_ready(stream_id)

    def restart_streams(self, stream_ids: Iterable[StreamId] | None) -> None:
        """The peer starts streams anew (None: all): what is unfinished will not come (RFC 6525 §5.2.2)."""
        for stream_id in list(self._next_sequence) if stream_ids is None else stream_ids:
            self._next_sequence.pop(stream_id, None)
        for stream_id in list(self._streams) if stream_ids is None else stream_ids:
            stream = self._streams.pop(stream_id, None)
            if stream is None:
                continue
            partials = [*stream.partials.values(), *stream.unordered_partials.values()]
            self.buffered -= sum(partial.cost for partial in partials)
            self.buffered -= sum(run.cost for run in stream.run_by_first.values())
            self.buffered -= sum(len(message.data) + FRAGMENT_OVERHEAD for message in stream.ready.values())
