"""Handshake fragments in, whole messages out, in order: RFC 6347 §4.2.3, RFC 9147 §5.5.

Fragments may come in any order, twice, and overlapping. Three bounds keep a peer from growing this: only the
next `MAX_AHEAD` messages are collected, each in at most `MAX_RANGES` separate pieces, and all that is held for
them stays under a budget, from which only the message that is due is exempt.

Fragments and messages are named tuples: a handshake makes a few dozen, and each costs less than half of a
frozen dataclass.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from enum import Enum
from struct import Struct
from typing import Final, NamedTuple, Self

from stack.core.errors import ParseError
from stack.dtls.alerts import DtlsFailure, illegal_parameter, unexpected_message

HEADER_LENGTH: Final = 12
MAX_AHEAD: Final = 7
"""Messages collected at once: no flight of either version is longer."""
MAX_MESSAGE_LENGTH: Final = 1 << 16
"""The longest handshake message accepted; a WebRTC certificate has a few hundred bytes, a chain a few thousand."""
MAX_BUFFERED: Final = 1 << 17
"""Bytes that a peer may make us hold for incomplete and early messages, the notes about their pieces included."""
MAX_RANGES: Final = 256
"""Separate pieces of one message that are noted: a message of 64 KiB in the smallest datagrams has 300 pieces."""
_PARTIAL_COST: Final = 512  # what CPython takes for a `_PartialMessage`, its lists and its place in the table
_RANGE_COST: Final = 80  # two integers and their places in two lists
_SERIES_LENGTH: Final = 1 << 16  # message_seq has 16 bits and does not wrap
_HEADER: Final = Struct("!BBHHBHBH")


class Fragment(NamedTuple):
    """A handshake message or a piece of it (RFC 6347 §4.2.2, RFC 9147 §5.2).

    ```
     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |    msg_type   |                     length                    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |          message_seq          |       fragment_offset …       |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |       …       |                fragment_length                |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    /                              body                             /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ```
    """

    msg_type: int
    length: int
    message_seq: int
    offset: int
    body: bytes

    @classmethod
    def parse_all(cls, record: bytes) -> Iterator[Self]:
        """Yield every fragment of a handshake record; it may hold several (RFC 9147 §5.5)."""
        position, end = 0, len(record)
        while position < end:
            if end - position < HEADER_LENGTH:
                raise ParseError("truncated fragment header")
            kind, high, low, sequence, offset_high, offset_low, size_high, size_low = _HEADER.unpack_from(
                record, position
            )
            size = size_high << 16 | size_low
            position += HEADER_LENGTH
            if end - position < size:
                raise ParseError("truncated fragment")
            yield cls(
                kind,
                high << 16 | low,
                sequence,
                offset_high << 16 | offset_low,
                record[position : position + size],
            )
            position += size

    def serialize(self) -> bytes:
        """Return the header and the body."""
        return (
            fragment_header(self.msg_type, self.length, self.message_seq, self.offset, len(self.body)) + self.body
        )


def fragment_header(msg_type: int, length: int, message_seq: int, offset: int, size: int) -> bytes:
    """Return the twelve bytes before a fragment."""
    return _HEADER.pack(
        msg_type,
        length >> 16,
        length & 0xFFFF,
        message_seq,
        offset >> 16,
        offset & 0xFFFF,
        size >> 16,
        size & 0xFFFF,
    )


class HandshakeMessage(NamedTuple):
    """A whole handshake message and the epoch that protected it."""

    msg_type: int
    message_seq: int
    body: bytes
    epoch: int

    @property
    def transcript12(self) -> bytes:
        """The bytes that 1.2 hashes: the header of an unfragmented message included (RFC 6347 §4.2.6)."""
        size = len(self.body)
        return fragment_header(self.msg_type, size, self.message_seq, 0, size) + self.body

    @property
    def transcript13(self) -> bytes:
        """The bytes that 1.3 hashes: the header as TLS has it (RFC 9147 §5.2)."""
        return bytes((self.msg_type,)) + len(self.body).to_bytes(3, "big") + self.body


class ByteRanges:
    """A set of byte ranges of a message: what has arrived, or what was acknowledged."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Include `start` … `end`-1; ranges that touch are joined."""
        first = bisect_left(self._ends, start)
        last = first
        while last < len(self._starts) and self._starts[last] <= end:
            start = min(start, self._starts[last])
            end = max(end, self._ends[last])
            last += 1
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def __len__(self) -> int:
        return len(self._starts)

    def touches(self, start: int, end: int) -> bool:
        """Return True if `start` … `end`-1 touches a range that is here already."""
        first = bisect_left(self._ends, start)
        return first < len(self._starts) and self._starts[first] <= end

    def covers(self, length: int) -> bool:
        """Return True if nothing of 0 … `length`-1 is missing; an empty message is covered by the range 0 … 0."""
        return bool(self._starts) and self._starts[0] == 0 and self._ends[0] >= length

    def gaps(self, length: int) -> Iterator[tuple[int, int]]:
        """Yield what is missing of 0 … `length`-1; an empty message that is missing yields (0, 0)."""
        if length == 0:
            if not self._starts:
                yield 0, 0
            return
        position = 0
        for known_start, known_end in zip(self._starts, self._ends, strict=True):
            if position >= length:
                return
            if known_start > position:
                yield position, min(known_start, length)
            position = max(position, known_end)
        if position < length:
            yield position, length


class _PartialMessage:
    """A message under way; one that came in one piece is complete at once, and never copied."""

    __slots__ = ("_received", "body", "epoch", "is_complete", "length", "msg_type")

    def __init__(self, fragment: Fragment, epoch: int) -> None:
        self.msg_type = fragment.msg_type
        self.length = fragment.length
        self.epoch = epoch
        self.is_complete = len(fragment.body) == fragment.length
        self.body = fragment.body if self.is_complete else bytearray(fragment.length)
        self._received = ByteRanges()
        self.add(fragment)

    @property
    def cost(self) -> int:
        """Bytes that are held for the message."""
        return self.length + _PARTIAL_COST + _RANGE_COST * len(self._received)

    def add(self, fragment: Fragment, may_grow: bool = True) -> bool:
        """Copy a fragment to its place; False if that would be one piece too many."""
        end = fragment.offset + len(fragment.body)
        if self.is_complete or end == fragment.offset:
            return True
        may_grow &= len(self._received) < MAX_RANGES
        if not may_grow and not self._received.touches(fragment.offset, end):
            return False
        assert isinstance(self.body, bytearray)
        self.body[fragment.offset : end] = fragment.body
        self._received.add(fragment.offset, end)
        self.is_complete = self._received.covers(self.length)
        return True


class FragmentStatus(Enum):
    """What the reassembler did with a fragment."""

    ACCEPTED = "accepted"
    RETRANSMITTED = "retransmitted"
    DISCARDED = "discarded"


class Reassembler:
    """Collects fragments and hands out messages by `message_seq`."""

    __slots__ = ("_buffered", "_max_message_length", "_partials", "next_receive_seq")

    def __init__(self, max_message_length: int = MAX_MESSAGE_LENGTH) -> None:
        self.next_receive_seq = 0
        self._partials: dict[int, _PartialMessage] = {}
        self._buffered = 0
        self._max_message_length = max_message_length

    def is_retransmitted(self, fragment: Fragment) -> bool:
        """Return True if the fragment belongs to a message that was handed out: a retransmission."""
        return fragment.message_seq < self.next_receive_seq or self.next_receive_seq >= _SERIES_LENGTH

    def add(self, fragment: Fragment, epoch: int) -> FragmentStatus:
        """Take a fragment; `HandshakeFailure` if it contradicts itself or an earlier fragment."""
        size = len(fragment.body)
        if fragment.offset + size > fragment.length:
            raise illegal_parameter(DtlsFailure.BAD_HANDSHAKE_RECORD, "fragment beyond its message")
        if self.is_retransmitted(fragment):
            return FragmentStatus.RETRANSMITTED
        if fragment.length > self._max_message_length:
            raise illegal_parameter(DtlsFailure.EXCESSIVE_MESSAGE_SIZE)
        if fragment.message_seq >= self.next_receive_seq + MAX_AHEAD:
            return FragmentStatus.DISCARDED
        partial = self._partials.get(fragment.message_seq)
        # The next message always fits, or early fragments of no use could block a handshake for good.
        is_next = fragment.message_seq == self.next_receive_seq
        if partial is None:
            if self._buffered + fragment.length + _PARTIAL_COST > MAX_BUFFERED and not is_next:
                return FragmentStatus.DISCARDED
            partial = self._partials[fragment.message_seq] = _PartialMessage(fragment, epoch)
            self._buffered += partial.cost
        elif partial.msg_type != fragment.msg_type or partial.length != fragment.length:
            raise illegal_parameter(DtlsFailure.FRAGMENT_MISMATCH)
        elif partial.epoch != epoch:
            raise unexpected_message(DtlsFailure.EXCESS_HANDSHAKE_DATA, "one message in two epochs")
        else:
            before = partial.cost
            if not partial.add(fragment, is_next or self._buffered + _RANGE_COST <= MAX_BUFFERED):
                return FragmentStatus.DISCARDED
            self._buffered += partial.cost - before
        return FragmentStatus.ACCEPTED

    def discard(self, message_seq: int) -> None:
        """Forget what there is of a message: it may have been forged."""
        partial = self._partials.pop(message_seq, None)
        if partial is not None:
            self._buffered -= partial.cost

    def discard_all(self) -> None:
        """Forget every message that was not handed out."""
        for message_seq in list(self._partials):
            self.discard(message_seq)

    def pop(self) -> HandshakeMessage | None:
        """Return the next message if it is whole."""
        partial = self._partials.get(self.next_receive_seq)
        if partial is None or not partial.is_complete:
            return None
        sequence = self.next_receive_seq
        self.discard(sequence)
        self.next_receive_seq += 1
        return HandshakeMessage(partial.msg_type, sequence, bytes(partial.body), partial.epoch)

    @property
    def has_pending(self) -> bool:
        """True if any fragment waits for the rest of its message or for an earlier message."""
        return bool(self._partials)
