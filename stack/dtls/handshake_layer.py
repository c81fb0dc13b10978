"""The handshake protocol that both versions share: messages in order and without loss, over records.

Joins the record layer, reassembly, our flight and the timers. RFC 6347 §4.2, RFC 9147 §5.8 and §7. It knows
nothing of what the messages mean; the four handshakes (`client12.py`, `server12.py`, `client13.py`,
`server13.py`) stand on it.

Timers: RETRANSMIT sends the flight again, doubling from `initial_timeout` to `max_timeout` and giving up after
`MAX_TIMEOUTS`; ACK (1.3) waits a quarter of that for the rest of a flight before it acknowledges a part. A flight
that the peer retransmits calls for ours at once, and an ACK of a part of ours for the rest.

Records of epoch 0 are not authenticated: unless `strict_plaintext` is set, what they break is dropped and counted,
and what they acknowledge never makes us forget a flight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from stack.core.counters import Counters, declare
from stack.core.errors import ParseError
from stack.core.machine import Instant
from stack.core.timers import TimerName, Timers
from stack.dtls.alerts import (
    AlertDescription,
    DtlsFailure,
    HandshakeFailure,
    decode_error,
    illegal_parameter,
    unexpected_message,
)
from stack.dtls.config import DEFAULT_MAX_TIMEOUT
from stack.dtls.counters import DROPPED_PLAINTEXT
from stack.dtls.flight import Flight, FlightMessage
from stack.dtls.messages13 import Ack
from stack.dtls.reassembly import Fragment, FragmentStatus, HandshakeMessage, Reassembler
from stack.dtls.record import ContentType, Record, RecordLayer, RecordNumber
from stack.dtls.suites import Version

FLIGHT_REPEAT_REFUSED = declare(
    "dtls", "flight_repeat_refused", "Flights that the peer asked for again too soon or too often, and did not get"
)
FLIGHT_REPEATED_ON_REQUEST = declare(
    "dtls", "flight_repeated_on_request", "Flights sent again because the peer repeated its own"
)
FLIGHT_REPEATED_ON_ACK = declare(
    "dtls", "flight_repeated_on_ack", "Parts of flights sent again because an ACK showed that they were missing"
)
FLIGHT_RETRANSMITTED = declare("dtls", "flight_retransmitted", "Flights sent again because no answer came in time")
DROPPED_FRAGMENT_TOO_FAR = declare(
    "dtls", "dropped_fragment_too_far", "Records with a fragment too far ahead of the next message"
)
FRAGMENT_REPEATED = declare("dtls", "fragment_repeated", "Records with a fragment of a message that is complete")

MAX_TIMEOUTS: Final = 12
"""Retransmissions of one flight before the peer counts as gone."""
MAX_ACKED_RECORDS: Final = 32
"""Record numbers in one ACK."""
RETRANSMISSION_HOLDOFF_FRACTION: Final = 16
"""A flight that the peer asks for again is not sent twice within this part of the initial timeout."""
DATAGRAM_SIZE_BACKOFF: Final = ((2, 548), (4, 228))
"""After how many transmissions without an answer datagrams shrink to which size (RFC 9147 §4.4 suggests two or
three): first to what every IPv4 host takes (576 bytes with headers, RFC 791 §3.1), then to the least that makes
progress."""
_ACK_FRACTION: Final = 4
_ACK_ENTRY_LENGTH: Final = 16
_FIRST_APPLICATION_EPOCH: Final = 3
_HANDSHAKE_SERIES: Final = 1 << 16


class HandshakeTimer(TimerName):
    """Why the handshake layer wants to be woken."""

    RETRANSMIT = "retransmit"
    ACK = "ack"


class ReceivedFragments(NamedTuple):
    """What a handshake record held."""

    is_new: bool
    """Something that was not handled yet."""
    requests_retransmission: bool
    """The beginning of the message that our flight answers, once more: the flight was lost."""


class HandshakeLayer:
    """Sends and receives handshake messages reliably."""

    def __init__(
        self,
        mtu: int,
        initial_timeout: float,
        max_message_length: int,
        counters: Counters,
        *,
        mtu_is_known: bool = False,
        strict_plaintext: bool = False,
        max_timeout: float = DEFAULT_MAX_TIMEOUT,
    ) -> None:
        self.records = RecordLayer(counters)
        self.mtu = mtu
        self.in_handshake = True
        self.application_records = 0
        """Records of application data received; key updates without any in between are suspicious."""
        self._counters = counters
        self._initial_timeout = initial_timeout
        self._timeout = initial_timeout
        self._max_timeout = max_timeout
        self._timeouts = 0
        self._requested_retransmissions = 0
        self._mtu_is_known = mtu_is_known
        self._backed_off_size = mtu
        self._is_out_of_order = False
        self._largest_datagram = 0  # of the last transmission: where all were small, their size lost none
        self._strict = strict_plaintext
        self._sent_at: Instant = 0.0
        self._answered_message_seq: int | None = None
        """The message of the peer that our flight answers; None: it answers nothing."""
        self._timers: Timers[HandshakeTimer] = Timers()
        self._armed_at: dict[HandshakeTimer, Instant] = {}
        self._flight = Flight()
        self._reassembler = Reassembler(max_message_length)
        self._next_message_seq = 0
        self._pending_acknowledgements: deque[RecordNumber] = deque(maxlen=MAX_ACKED_RECORDS)
        self._transmits: list[bytes] = []

    # Sending

    def send_message(self, msg_type: int, body: bytes) -> HandshakeMessage:
        """Add a message to the flight, in the current write epoch; `finish_flight` sends it."""
        self._begin_flight()
        if self._next_message_seq >= _HANDSHAKE_SERIES:
            raise HandshakeFailure(AlertDescription.INTERNAL_ERROR, DtlsFailure.TOO_MANY_KEY_UPDATES)
        epoch = self.records.write_epoch
        message = HandshakeMessage(msg_type, self._next_message_seq, body, epoch)
        self._next_message_seq += 1
        self._flight.add(FlightMessage(msg_type, message.message_seq, body, epoch))
        return message

    def send_change_cipher_spec(self) -> None:
        """Add a ChangeCipherSpec to the flight (1.2 only)."""
        self._begin_flight()
        self._flight.add(FlightMessage(None, 0, b"", self.records.write_epoch))

    def _begin_flight(self) -> None:
        if self._flight.is_complete:
            # Having something to answer means that the peer's flight has arrived, hence that ours has.
            self.discard_flight()

    def finish_flight(self, now: Instant, expects_answer: bool = True) -> None:
        """Send the flight. Unless the answer is optional (the last flight of 1.2), repeat it until answered."""
        if self.in_handshake:
            # RFC 9147 §7.1: the next flight acknowledges the previous one implicitly.
            self._clear_pending_acknowledgements()
        self._answered_message_seq = self._reassembler.next_receive_seq - 1 if self.in_handshake else None
        self._flight.is_complete = True
        self._stop_retransmission()
        self._transmit_flight(now, expects_answer)

    def _transmit_flight(self, now: Instant, expects_answer: bool) -> None:
        if self._flight.is_acknowledged:  # in epoch 0, which proves nothing: the peer is still silent
            self._flight.discard_unauthenticated_acknowledgements()
        datagrams = self._flight.pack(self.records, self._datagram_size())
        self._largest_datagram = max(map(len, datagrams), default=0)
        self._transmits += datagrams
        self._sent_at = now
        if expects_answer:
            self._arm(HandshakeTimer.RETRANSMIT, now, self._timeout)

    def _datagram_size(self) -> int:
        """Return how large a datagram may be; once it was made smaller in a handshake it stays so."""
        if self._mtu_is_known:
            return self.mtu
        for attempts, size in DATAGRAM_SIZE_BACKOFF:
            lost = self._timeouts + self._requested_retransmissions >= attempts
            if lost and size < min(self._backed_off_size, self._largest_datagram):
                self._backed_off_size = size
        return min(self.mtu, self._backed_off_size)

    def retransmit_on_request(self, epoch: int, now: Instant) -> None:
        """Answer a repeated flight of the peer with ours at once (RFC 6347 §4.2.4, RFC 9147 §5.8.1).

        At most `MAX_TIMEOUTS` times. A repeat in epoch 0 may be a copy that the network made, or a forgery; in 1.3
        a peer may send one message whole and in pieces. So it is not answered sooner than a part of the initial
        timeout after the last transmission. The last flight of 1.2 has no timer: only a repeat calls for it.
        """
        if not self._flight:
            return
        is_last = epoch > 0 and not self._timers.is_set(HandshakeTimer.RETRANSMIT)
        if (not is_last and self._is_soon(now)) or self._requested_retransmissions >= MAX_TIMEOUTS:
            self._counters.add(FLIGHT_REPEAT_REFUSED)
            return
        self._requested_retransmissions += 1
        self._counters.add(FLIGHT_REPEATED_ON_REQUEST)
        self._flight.discard_unauthenticated_acknowledgements()
        if self.in_handshake:
            self._clear_pending_acknowledgements()
        self._transmit_flight(now, expects_answer=self._timers.is_set(HandshakeTimer.RETRANSMIT))

    def _is_soon(self, now: Instant) -> bool:
        """Return True if the flight was sent a moment ago."""
        return now - self._sent_at < self._initial_timeout / RETRANSMISSION_HOLDOFF_FRACTION

    def _clear_pending_acknowledgements(self) -> None:
        self._pending_acknowledgements.clear()
        self._is_out_of_order = False
        self._timers.clear(HandshakeTimer.ACK)

    def discard_flight(self) -> None:
        """Stop sending the flight: the peer has it."""
        self._stop_retransmission()
        self._flight.clear()
        self.records.discard_write_epochs(set())

    def stop_timers(self) -> None:
        """The connection is over, or the handshake of 1.2 is: nothing more is repeated unasked."""
        self._stop_retransmission()
        self._timers.clear_all()

    def send_record(self, content_type: int, payload: bytes) -> None:
        """Send one record of its own datagram in the current epoch."""
        _, raw = self.records.seal(content_type, payload, self.records.write_epoch)
        self._transmits.append(raw)

    def drain_transmits(self) -> Sequence[bytes]:
        """Return the datagrams to be sent."""
        transmits, self._transmits = self._transmits, []
        return transmits

    # Receiving

    def receive_fragments(self, record: Record, now: Instant) -> ReceivedFragments:
        """Take a handshake record; whole messages are then to be had from `next_message`."""
        taken = skipped = repeated = requests_retransmission = False
        epoch = record.number.epoch
        try:
            for fragment in Fragment.parse_all(record.payload):
                status = self._add_fragment(fragment, epoch)
                taken |= status is FragmentStatus.ACCEPTED
                skipped |= status is FragmentStatus.DISCARDED
                repeated |= status is FragmentStatus.RETRANSMITTED
                # Only the first fragment asks for an answer, in case the peer cuts its message into many.
                if status is FragmentStatus.RETRANSMITTED and fragment.offset == 0:
                    latest = self._reassembler.next_receive_seq - 1
                    requests_retransmission |= fragment.message_seq == self._answered_message_seq == latest
        except ParseError as error:
            raise decode_error(DtlsFailure.BAD_HANDSHAKE_RECORD, str(error)) from None
        if skipped:
            self._counters.add(DROPPED_FRAGMENT_TOO_FAR)
        if repeated:
            self._counters.add(FRAGMENT_REPEATED)
        is_13 = self.records.version is Version.DTLS_1_3
        if taken and is_13 and self.in_handshake and (epoch > 0 or self._strict):
            # RFC 9147 §7.1: a part of the next flight acknowledges ours. After the handshake this does not hold:
            # a server may have sent its KeyUpdate before it had our Finished. A part in epoch 0, which is not
            # authenticated, is no reason to stop either; the whole message is.
            self.discard_flight()
        if not skipped:
            self._pending_acknowledgements.append(record.number)
            if is_13 and not self._timers.is_set(HandshakeTimer.ACK):
                self._arm(HandshakeTimer.ACK, now, self._timeout / _ACK_FRACTION)
        return ReceivedFragments(taken or skipped, requests_retransmission)

    def _add_fragment(self, fragment: Fragment, epoch: int) -> FragmentStatus:
        try:
            if not self._reassembler.is_retransmitted(fragment):
                self._check_epoch(epoch)
            return self._reassembler.add(fragment, epoch)
        except HandshakeFailure as failure:
            if epoch > 0 or self._strict:
                raise
            self._counters.add(DROPPED_PLAINTEXT[failure.reason])
            if failure.reason is not DtlsFailure.FRAGMENT_MISMATCH:
                return FragmentStatus.DISCARDED
            # One of the two was forged. The newer one counts: an honest peer repeats its message.
            self._reassembler.discard(fragment.message_seq)
            return self._reassembler.add(fragment, epoch)

    def _check_epoch(self, epoch: int) -> None:
        # RFC 9147 §6.1: once keys have changed, nothing new may come under the old ones.
        if epoch != self.records.newest_read_epoch:
            raise unexpected_message(DtlsFailure.EXCESS_HANDSHAKE_DATA)

    def next_message(self) -> HandshakeMessage | None:
        """Return the next whole message in order."""
        return self._reassembler.pop()

    def require_message_boundary(self) -> None:
        """Before keys change: nothing may be left of the old epoch (RFC 8446 §5.1)."""
        if not self._reassembler.has_pending:
            return
        if self.records.newest_read_epoch > 0 or self._strict:
            raise unexpected_message(DtlsFailure.EXCESS_HANDSHAKE_DATA)
        self._counters.add(DROPPED_PLAINTEXT[DtlsFailure.EXCESS_HANDSHAKE_DATA])
        self._reassembler.discard_all()

    def receive_ack(self, record: Record, now: Instant) -> bool:
        """Take an ACK of 1.3; return True if it completes the flight.

        One that leaves a part of it unacknowledged calls for that part (RFC 9147 §7.2). In epoch 0, where it may
        have been forged, it calls for the flight, as a repeated ClientHello does: it may be empty (§7.1).
        """
        try:
            ack = Ack.parse(record.payload)
        except ParseError as error:
            raise decode_error(DtlsFailure.BAD_ACK, str(error)) from None
        is_progress = False
        for epoch, sequence in ack.numbers:
            # RFC 9147 §7, erratum 8108: a record is not acknowledged under weaker keys than its own.
            if epoch > record.number.epoch and record.number.epoch < _FIRST_APPLICATION_EPOCH:
                raise illegal_parameter(DtlsFailure.BAD_ACK, "acknowledged in an earlier epoch")
            is_progress |= self._flight.acknowledge(RecordNumber(epoch, sequence))
        if self._flight and self._flight.is_acknowledged:
            if record.number.epoch == 0 and not self._strict:
                return False
            self.discard_flight()
            return True
        if record.number.epoch == 0 and not self._strict:
            if self._timers.is_set(HandshakeTimer.RETRANSMIT):
                self.retransmit_on_request(0, now)
            return False
        self.records.discard_write_epochs(self._flight.pending_epochs())
        if self._timers.is_set(HandshakeTimer.RETRANSMIT):
            self._send_rest(now, is_progress)
        return False

    def _send_rest(self, now: Instant, is_progress: bool) -> None:
        """An ACK has shown what is missing of our flight: send it again.

        A record's number tells its transmission: an ACK of something new ends the backing off (RFC 9147 §5.8.2).
        """
        if is_progress:
            self._timeouts, self._timeout = 0, self._initial_timeout
        if not self._is_soon(now):
            self._counters.add(FLIGHT_REPEATED_ON_ACK)
            self._transmit_flight(now, expects_answer=True)

    @property
    def has_unacknowledged_flight(self) -> bool:
        """True while a flight waits for its ACK or answer."""
        return bool(self._flight)

    # Acknowledging

    def note_out_of_order(self, now: Instant) -> None:
        """The server's flight has begun to arrive, without its ServerHello: ask for that by an empty ACK.

        RFC 9147 §7.1: what cannot be decrypted cannot be acknowledged, and the server's timer is far longer than
        the round trip.
        """
        self._is_out_of_order = True
        if not self._timers.is_set(HandshakeTimer.ACK):
            self._arm(HandshakeTimer.ACK, now, self._timeout / _ACK_FRACTION)

    def send_ack(self) -> None:
        """Acknowledge what was received lately (RFC 9147 §7.1), in the current write epoch."""
        self._timers.clear(HandshakeTimer.ACK)
        room = self._datagram_size() - self.records.overhead(self.records.write_epoch) - 2
        latest = list(self._pending_acknowledgements)[-max(1, room // _ACK_ENTRY_LENGTH) :]
        if latest or self._is_out_of_order:
            self.send_record(ContentType.ACK, Ack(tuple(sorted(latest))).serialize())
        self._is_out_of_order = False

    # Time

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called next."""
        return self._timers.next

    def handle_timeout(self, now: Instant) -> bool:
        """Do what is due; True if the flight was repeated; `HandshakeFailure` if the peer is silent too long."""
        due = self._timers.pop_due(now)
        if HandshakeTimer.ACK in due:
            self.send_ack()
        if HandshakeTimer.RETRANSMIT not in due:
            return False
        self._timeouts += 1
        if self._timeouts > MAX_TIMEOUTS:
            raise HandshakeFailure(AlertDescription.INTERNAL_ERROR, DtlsFailure.TIMEOUT)
        self._counters.add(FLIGHT_RETRANSMITTED)
        self._timeout = min(2 * self._timeout, self._max_timeout)
        self._transmit_flight(now, expects_answer=True)
        return True

    def set_initial_timeout(self, timeout: float) -> None:
        """Change the initial timeout (an RTT was measured); timers that run are moved, not restarted."""
        self._initial_timeout = timeout
        self._timeout = min(timeout * 2**self._timeouts, self._max_timeout)
        for name, duration in (
            (HandshakeTimer.RETRANSMIT, self._timeout),
            (HandshakeTimer.ACK, self._timeout / _ACK_FRACTION),
        ):
            if self._timers.is_set(name):
                self._arm(name, self._armed_at[name], duration)

    def restart_timer(self, now: Instant) -> None:
        """The flight could leave only now: let its retransmission timer start again, if it runs."""
        self._sent_at = now
        if self._timers.is_set(HandshakeTimer.RETRANSMIT):
            self._arm(HandshakeTimer.RETRANSMIT, now, self._timeout)

    def send_again(self, now: Instant) -> None:
        """The flight, or a part of it, did not leave: send it, if it is still waited for and was not just now."""
        if self._timers.is_set(HandshakeTimer.RETRANSMIT) and now > self._sent_at:
            self._transmit_flight(now, expects_answer=True)

    def _arm(self, name: HandshakeTimer, start: Instant, duration: float) -> None:
        self._armed_at[name] = start
        self._timers.set(name, start + duration)

    def _stop_retransmission(self) -> None:
        self._timers.clear(HandshakeTimer.RETRANSMIT)
        self._timeouts = self._requested_retransmissions = 0
        self._timeout = self._initial_timeout
