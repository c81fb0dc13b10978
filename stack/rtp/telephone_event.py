"""Keys of a telephone, received and sent (RFC 4733 §2).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     event     |E|R|   volume  |            duration           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

All packets of one event carry the timestamp of its beginning, and a duration that grows. Left out on sending:
events longer than one duration field (§2.5.1.3; 1.3 s at 48 kHz, and a person does not hold a key for a program
that long).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, Self

from stack.core.errors import LocalError, ParseError
from stack.core.machine import Instant
from stack.core.serial import ExtendedTimestamp
from stack.rtp.events import DtmfEnded, DtmfReceived

DIGITS = "0123456789*#ABCD"
"""Events 0 to 15 (RFC 4733 §3.2)."""
MAX_QUEUED_DIGITS = 64
UPDATE_INTERVAL = 0.02
"""Seconds between the packets of one event."""
END_PACKETS = 3
"""The last packet is sent so often (RFC 4733 §2.5.1.4)."""
EVENT_SILENCE = 0.25
"""Seconds without a packet after which an event whose end was lost is taken to be over."""
MIN_DURATION, MAX_DURATION = 0.04, 1.3
_VOLUME = 10
_MAX_FIELD = 0xFFFF


@dataclass(frozen=True, slots=True)
class TelephoneEvent:
    """The payload of one packet; `volume` in -dBm0, `duration` in timestamp units."""

    event: int
    end: bool
    volume: int
    duration: int

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the event in `data`; what follows it is passed over."""
        if len(data) < 4:
            raise ParseError("telephone-event: shorter than four bytes")
        return cls(data[0], data[1] > 0x7F, data[1] & 0x3F, data[2] << 8 | data[3])

    def serialize(self) -> bytes:
        """Return the event as bytes."""
        duration = min(self.duration, _MAX_FIELD)
        return bytes((self.event, (0x80 if self.end else 0) | self.volume, duration >> 8, duration & 0xFF))


class DtmfReceiver:
    """Turns the many packets of an event into its beginning and its end."""

    __slots__ = (
        "_before",
        "_clock_rate",
        "_digit",
        "_due",
        "_duration",
        "_ended",
        "_mid",
        "_started",
        "_timestamp",
        "is_receiving",
    )

    def __init__(self, mid: str | None = None) -> None:
        self._mid = mid
        self._digit: str | None = None
        self._timestamp = 0  # of the present segment
        self._started = 0  # of the event
        self._before = 0  # duration of the segments before
        self._duration = 0
        self._clock_rate = 1
        self._ended = False
        self._due: Instant | None = None
        self.is_receiving = False
        """True between the first and the last packet of an event."""

    def handle(
        self, event: TelephoneEvent, timestamp: ExtendedTimestamp, clock_rate: int, now: Instant
    ) -> list[DtmfReceived | DtmfEnded]:
        """Take one packet; `timestamp` is the extended one."""
        digit = DIGITS[event.event]
        told: list[DtmfReceived | DtmfEnded] = []
        if self._digit is not None and timestamp != self._timestamp:
            if timestamp < self._timestamp:
                return []  # overtaken by a later event
            if digit == self._digit and not self._ended and timestamp - self._timestamp == _MAX_FIELD:
                self._before += _MAX_FIELD  # RFC 4733 §2.5.1.3: the next segment of a long event
                self._timestamp, self._duration = timestamp, 0
            else:
                told += self.finish()
                self._digit = None
        if self._digit is None:
            self._digit, self._timestamp, self._started = digit, timestamp, timestamp
            self._before, self._duration, self._ended, self._clock_rate = 0, 0, False, clock_rate
            told.append(DtmfReceived(digit, timestamp, self._mid))
        self._duration = max(self._duration, event.duration)
        self._due = None if self._ended else now + EVENT_SILENCE
        self.is_receiving = not self._ended
        if event.end:
            told += self.finish()
        return told

    def poll_timeout(self) -> Instant | None:
        """When `finish` is to be called, unless a packet comes before; None: never."""
        return self._due

    def finish(self) -> list[DtmfReceived | DtmfEnded]:
        """Take the present event to be over; told once."""
        self._due, self.is_receiving = None, False
        if self._digit is None or self._ended:
            return []
        self._ended = True
        duration = (self._before + self._duration) / self._clock_rate
        return [DtmfEnded(self._digit, self._started, duration, self._mid)]

    def reset(self) -> list[DtmfReceived | DtmfEnded]:
        """Another line begins: end the event and forget the timestamps."""
        told = self.finish()
        self._digit = None
        return told


class DtmfPacket(NamedTuple):
    """One packet to be sent: its timestamp belongs to the instant `started_at`."""

    payload: bytes
    started_at: Instant
    first: bool


class DtmfSender:
    """Plays a queue of digits as packets, one each `UPDATE_INTERVAL`."""

    __slots__ = ("_clock_rate", "_due", "_ends_left", "_queue", "_started_at", "is_playing")

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._queue: deque[tuple[int, float, float]] = deque()  # event, duration, gap after it
        self._started_at: Instant | None = None
        self._ends_left = END_PACKETS
        self._due: Instant | None = None
        self.is_playing = False
        """True between the first and the last packet of an event: sound gives way to it."""

    def poll_timeout(self) -> Instant | None:
        """When `due` has a packet; None: never."""
        return self._due

    def queue(self, digits: str, duration: float, gap: float, now: Instant) -> None:
        """Play `digits` after those that wait; raise `LocalError` for what cannot be played."""
        events = [DIGITS.find(digit) for digit in digits.upper()]
        if -1 in events or not MIN_DURATION <= duration <= MAX_DURATION or gap < 0:
            raise LocalError(f"cannot play {digits!r} for {duration} s with gaps of {gap} s")
        if len(self._queue) + len(events) > MAX_QUEUED_DIGITS:
            raise LocalError(f"more than {MAX_QUEUED_DIGITS} digits wait already")
        self._queue.extend((event, duration, gap) for event in events)
        if self._queue and self._due is None:
            self._due = now

    def due(self, now: Instant) -> DtmfPacket | None:
        """Return the packet whose time has come, if any."""
        if self._due is None or now < self._due:
            return None
        event, duration, gap = self._queue[0]
        first = self._started_at is None
        if self._started_at is None:
            self._started_at, self.is_playing = now, True
        started_at = self._started_at
        # The first packet already lasts one interval, as if it were sent at its end.
        elapsed = now - started_at + UPDATE_INTERVAL
        end = elapsed >= duration - 1e-9
        payload = TelephoneEvent(event, end, _VOLUME, round(min(elapsed, duration) * self._clock_rate)).serialize()
        self._due = now + UPDATE_INTERVAL
        if end:
            self._ends_left -= 1
            if self._ends_left == 0:
                self._queue.popleft()
                self._started_at, self.is_playing, self._ends_left = None, False, END_PACKETS
                self._due = now + max(gap, UPDATE_INTERVAL) if self._queue else None
        return DtmfPacket(payload, started_at, first)
