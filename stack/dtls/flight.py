"""What we send in the handshake until the peer has it: RFC 6347 §4.2.4 (1.2), RFC 9147 §5.8 and §7 (1.3).

A flight is a run of messages that is answered as a whole. It is cut to the MTU anew at each transmission, so
that a smaller MTU found meanwhile is honoured, and in 1.3 the parts that the peer acknowledged are left out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

from stack.core.errors import LocalError
from stack.dtls.reassembly import HEADER_LENGTH, ByteRanges, fragment_header
from stack.dtls.record import ContentType, RecordLayer, RecordNumber

MAX_SENT_RECORDS: Final = 32
"""How many of our records are remembered for ACKs; older ones are simply sent again."""
_CHANGE_CIPHER_SPEC: Final = b"\x01"


class FlightMessage:
    """A handshake message or, without a type, a ChangeCipherSpec."""

    __slots__ = ("acknowledged", "body", "epoch", "message_seq", "msg_type")

    def __init__(self, msg_type: int | None, message_seq: int, body: bytes, epoch: int) -> None:
        self.msg_type = msg_type
        self.message_seq = message_seq
        self.body = body
        self.epoch = epoch
        self.acknowledged = ByteRanges()

    @property
    def is_acknowledged(self) -> bool:
        """True if the peer acknowledged all of it."""
        return self.msg_type is not None and self.acknowledged.covers(len(self.body))


class _SentFragment(NamedTuple):
    message: FlightMessage
    start: int
    end: int


class _FlightPacker:
    """Fills datagrams with records and records with fragments."""

    __slots__ = ("_epoch", "_fragments", "_mtu", "_packet", "_pieces", "_records", "datagrams", "sent")

    def __init__(self, records: RecordLayer, mtu: int) -> None:
        self._records = records
        self._mtu = mtu
        self._packet = b""
        self._fragments = b""
        self._epoch = 0
        self._pieces: list[_SentFragment] = []
        self.datagrams: list[bytes] = []
        self.sent: list[tuple[RecordNumber, list[_SentFragment]]] = []

    def add(self, message: FlightMessage) -> None:
        """Add what the peer does not have of a message."""
        if message.msg_type is None:
            self._add_change_cipher_spec(message)
            return
        if self._fragments and (message.epoch != self._epoch or message.epoch == 0):
            # Only fragments of one epoch share a record. In epoch 0 there is one message to a record: some peers
            # expect no more, and nothing is lost because records share datagrams.
            self._close_record()
        self._epoch = message.epoch
        for start, end in message.acknowledged.gaps(len(message.body)):
            self._add_range(message, start, end)

    def _add_range(self, message: FlightMessage, start: int, end: int) -> None:
        assert message.msg_type is not None
        while True:
            room = self._room() - HEADER_LENGTH
            if room < min(1, end - start):
                if not self._fragments and not self._packet:
                    raise LocalError(f"an MTU of {self._mtu} has no room for a handshake fragment")
                self._close_packet()
                continue
            size = min(end - start, room)
            header = fragment_header(message.msg_type, len(message.body), message.message_seq, start, size)
            self._fragments += header + message.body[start : start + size]
            self._pieces.append(_SentFragment(message, start, start + size))
            start += size
            if start >= end:
                return

    def _add_change_cipher_spec(self, message: FlightMessage) -> None:
        self._close_record()
        self._epoch = message.epoch
        if self._room() < len(_CHANGE_CIPHER_SPEC):
            self._close_packet()
        _, raw = self._records.seal(ContentType.CHANGE_CIPHER_SPEC, _CHANGE_CIPHER_SPEC, message.epoch)
        self._packet += raw

    def _room(self) -> int:
        return self._mtu - len(self._packet) - len(self._fragments) - self._records.overhead(self._epoch)

    def _close_record(self) -> None:
        if self._fragments:
            number, raw = self._records.seal(ContentType.HANDSHAKE, self._fragments, self._epoch)
            self.sent.append((number, self._pieces))
            self._packet += raw
            self._fragments, self._pieces = b"", []

    def _close_packet(self) -> None:
        self._close_record()
        if self._packet:
            self.datagrams.append(self._packet)
            self._packet = b""

    def finish(self) -> list[bytes]:
        """Return the datagrams."""
        self._close_packet()
        return self.datagrams


class Flight:
    """The messages of our current flight and which of their bytes the peer has."""

    __slots__ = ("_messages", "_sent", "is_complete")

    def __init__(self) -> None:
        self._messages: list[FlightMessage] = []
        self._sent: OrderedDict[RecordNumber, list[_SentFragment]] = OrderedDict()
        self.is_complete = False
        """True once the flight was sent as a whole; the next message begins a new one."""

    def __bool__(self) -> bool:
        return bool(self._messages)

    def add(self, message: FlightMessage) -> None:
        """Add a message."""
        self._messages.append(message)

    def clear(self) -> None:
        """Forget the flight: the peer has it."""
        self._messages.clear()
        self._sent.clear()
        self.is_complete = False

    def pack(self, records: RecordLayer, mtu: int) -> list[bytes]:
        """Return the datagrams of a transmission."""
        packer = _FlightPacker(records, mtu)
        for message in self._unacknowledged():
            packer.add(message)
        datagrams = packer.finish()
        for number, pieces in packer.sent:
            self._sent[number] = pieces
        while len(self._sent) > MAX_SENT_RECORDS:
            self._sent.popitem(last=False)
        return datagrams

    def acknowledge(self, number: RecordNumber) -> bool:
        """Mark what one of our records held as received; False for a number that is unknown or forgotten."""
        pieces = self._sent.pop(number, ())
        for message, start, end in pieces:
            message.acknowledged.add(start, end)
        return bool(pieces)

    def discard_unauthenticated_acknowledgements(self) -> None:
        """Take back what was acknowledged of the messages in epoch 0: such an ACK may have been forged."""
        for message in self._messages:
            if message.epoch == 0:
                message.acknowledged = ByteRanges()

    @property
    def is_acknowledged(self) -> bool:
        """True if the peer has all of it."""
        return all(message.is_acknowledged for message in self._messages)

    def pending_epochs(self) -> set[int]:
        """Return the epochs whose keys are still needed to send this again."""
        return {message.epoch for message in self._unacknowledged()}

    def _unacknowledged(self) -> Iterator[FlightMessage]:
        return (message for message in self._messages if not message.is_acknowledged)
