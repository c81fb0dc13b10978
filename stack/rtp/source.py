"""One remote source: what arrived of it and how (RFC 3550 §A.1 sequence numbers, §A.3 loss, §A.8 jitter).

Left out of §A.1 is the probation of a new source: SRTP has already proven that the packet comes from the peer,
and waiting for a second one would cost the first word of a call.
"""

from __future__ import annotations

from enum import Enum

from stack.core.machine import Instant
from stack.core.serial import (
    SERIAL16,
    SERIAL32,
    ExtendedSequenceNumber,
    ExtendedTimestamp,
    RtpTimestamp,
    SequenceNumber,
    Ssrc,
    Unwrapper,
)
from stack.rtp.ntp import compact, to_compact_units
from stack.rtp.rtcp import ReportBlock, SenderReport

MAX_DROPOUT = 3000
"""A jump ahead of up to so many packets is a loss; a longer one is a doubt (RFC 3550 §A.1)."""
MAX_MISORDER = 128
"""A packet up to so far behind is late; one further behind is a doubt. As far back as SRTP's replay window lets
anything through, so that a burst of very late packets is not taken for a new beginning."""
SEEN_WINDOW = 512
"""So many of the last sequence numbers are remembered, to tell duplicates."""

_WINDOW_MASK = (1 << SEEN_WINDOW) - 1


class Arrival(Enum):
    """What a packet's sequence number says about it."""

    NEW = "new"
    DUPLICATE = "duplicate"
    DOUBTFUL = "doubtful"
    """Far from the line: dropped, but if the next packet follows it, the source has started over."""
    RESTART = "restart"


_NEW, _DUPLICATE, _DOUBTFUL, _RESTART = Arrival


class RemoteSource:
    """Statistics and the extended sequence and timestamp line of one SSRC."""

    __slots__ = (
        "_bad_sequence",
        "_base",
        "_expected_prior",
        "_jitter",
        "_lost_before",
        "_received_prior",
        "_seen",
        "_timestamps",
        "_transit",
        "bytes_received",
        "clock_rate",
        "duplicates",
        "highest",
        "last_arrival",
        "last_sender_report",
        "last_sender_report_at",
        "packets_received",
        "received",
        "sender_reports",
        "ssrc",
    )

    def __init__(self, ssrc: Ssrc, sequence_number: SequenceNumber, now: Instant) -> None:
        self.ssrc = ssrc
        self.packets_received = 0
        self.bytes_received = 0
        self.duplicates = 0
        self.last_arrival = now
        self.last_sender_report: SenderReport | None = None
        self.last_sender_report_at = now
        self.sender_reports = 0
        self.clock_rate = 1  # of the payload type that came last
        self._lost_before = 0  # by lines that this source has given up
        self._start(sequence_number)

    def _start(self, sequence_number: SequenceNumber) -> None:
        """Begin a line (`init_seq` in RFC 3550 §A.1)."""
        self.highest: ExtendedSequenceNumber = sequence_number
        self.received = 0
        self._base = sequence_number
        self._bad_sequence: SequenceNumber | None = None
        self._expected_prior = 0
        self._received_prior = 0
        self._seen = 0  # bit n: the packet n below the highest has been handed up
        self._timestamps = Unwrapper(SERIAL32)
        self._transit: int | None = None
        self._jitter = 0.0

    # Sequence numbers

    def receive(
        self, sequence_number: SequenceNumber, size: int, now: Instant
    ) -> tuple[Arrival, ExtendedSequenceNumber]:
        """Take the sequence number of a packet with `size` bytes of payload; return what it is, extended."""
        distance = SERIAL16.distance(sequence_number, self.highest & 0xFFFF)
        extended = self.highest + distance
        verdict = _NEW
        if distance >= MAX_DROPOUT or distance < -MAX_MISORDER:
            if sequence_number != self._bad_sequence:
                self._bad_sequence = SERIAL16.add(sequence_number, 1)
                return _DOUBTFUL, extended
            self._lost_before = self.packets_lost
            self._start(sequence_number)
            verdict, extended = _RESTART, self.highest
        # RFC 3550 §A.1: duplicates and late packets count as received.
        self.received += 1
        self.packets_received += 1
        self.bytes_received += size
        self.last_arrival = now
        if not self.mark(extended):
            self.duplicates += 1
            return _DUPLICATE, extended
        return verdict, extended

    def mark(self, extended: ExtendedSequenceNumber) -> bool:
        """Remember that `extended` is being handed up; False if it was before, or is too old to tell."""
        age = self.highest - extended
        if age < 0:
            self._seen = (self._seen << min(-age, SEEN_WINDOW) | 1) & _WINDOW_MASK
            self.highest = extended
            return True
        if age >= SEEN_WINDOW or self._seen >> age & 1:
            return False
        self._seen |= 1 << age
        return True

    def has(self, extended: ExtendedSequenceNumber) -> bool:
        """Return True if `extended` was handed up; what is too old to tell counts as had."""
        age = self.highest - extended
        return age >= 0 and (age >= SEEN_WINDOW or bool(self._seen >> age & 1))

    # Timestamps and jitter

    def extend_timestamp(self, timestamp: RtpTimestamp) -> ExtendedTimestamp:
        """Return the timestamp without its wraps."""
        return self._timestamps.unwrap(timestamp)

    def measure_jitter(self, timestamp: ExtendedTimestamp, clock_rate: int, now: Instant) -> None:
        """Update the interarrival jitter with a packet of media (RFC 3550 §A.8)."""
        transit = int(now * clock_rate) - timestamp
        if clock_rate != self.clock_rate:
            self.clock_rate, self._transit, self._jitter = clock_rate, None, 0.0
        if self._transit is not None:
            self._jitter += (abs(transit - self._transit) - self._jitter) / 16
        self._transit = transit

    @property
    def jitter(self) -> float:
        """Interarrival jitter in timestamp units."""
        return self._jitter

    # Reports

    @property
    def expected(self) -> int:
        """How many packets the line has had, received or not."""
        return self.highest - self._base + 1

    @property
    def cumulative_lost(self) -> int:
        """Packets expected less packets received; negative if duplicates outnumber losses (RFC 3550 §A.3)."""
        return self.expected - self.received

    @property
    def packets_lost(self) -> int:
        """The same over the whole life of the source, across its restarts."""
        return self._lost_before + self.cumulative_lost

    def handle_sender_report(self, report: SenderReport, now: Instant) -> None:
        """Remember when the source said what time it was."""
        self.last_sender_report, self.last_sender_report_at = report, now
        self.sender_reports += 1

    def report(self, now: Instant) -> ReportBlock:
        """Return the report block about the time since the previous one (RFC 3550 §A.3)."""
        expected_interval = self.expected - self._expected_prior
        received_interval = self.received - self._received_prior
        self._expected_prior, self._received_prior = self.expected, self.received
        lost = expected_interval - received_interval
        fraction = (lost << 8) // expected_interval if expected_interval > 0 and lost > 0 else 0
        last = self.last_sender_report
        return ReportBlock(
            self.ssrc,
            min(fraction, 255),
            self.cumulative_lost,
            self.highest & 0xFFFF_FFFF,
            int(self._jitter),
            compact(last.ntp_time) if last is not None else 0,
            to_compact_units(now - self.last_sender_report_at) if last is not None else 0,
        )
