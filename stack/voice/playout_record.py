"""How much of a reply was heard: what left when, held against what the client keeps back and what arrived.

From what left, what RTCP acknowledged and how long the client keeps sound before it is heard, `PlayoutRecord`
computes the position that the listener had reached, so that a transcript can be cut there and a reply that was
held can go on from there. A client that says which packet it was playing when it fell silent makes a measurement
of the estimate.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from stack.core.machine import Instant

MAX_RECORD = 500
"""Packets that are remembered of a reply: ten seconds, far more than any client keeps back."""
MAX_AGE = 0.060
"""Seconds for which sound is taken to have gone on since a client began to play its latest packet."""


class _Sent(NamedTuple):
    sequence: int
    position: int
    samples: int
    at: Instant
    timestamp: int | None
    """Of RTP; None for silence that was not sent."""


@dataclass(frozen=True, slots=True)
class PlayoutPosition:
    """How far into the reply the listener is."""

    samples: int
    """Of the reply, at the rate at which it was recorded."""
    sent: int
    """How many had left."""
    acknowledged: int
    """How many are known by RTCP to have arrived at the client's network card."""
    milliseconds: float


class _SentLog:
    """The latest `MAX_RECORD` packets, oldest first, as numbers in one array: 40 bytes a packet, not 200."""

    __slots__ = ("_values",)

    _WIDTH = len(_Sent._fields)
    _NO_TIMESTAMP = -1.0

    def __init__(self) -> None:
        self._values = array("d")  # whole numbers are exact up to 2^53

    def __len__(self) -> int:
        return len(self._values) // self._WIDTH

    def append(self, packet: _Sent) -> None:
        """Add the newest; the oldest goes."""
        timestamp = self._NO_TIMESTAMP if packet.timestamp is None else packet.timestamp
        self._values.extend((packet.sequence, packet.position, packet.samples, packet.at, timestamp))
        if len(self) > MAX_RECORD:
            del self._values[: self._WIDTH]

    def clear(self) -> None:
        del self._values[:]

    def __getitem__(self, index: int) -> _Sent:
        start = (index % len(self)) * self._WIDTH
        sequence, position, samples, at, timestamp = self._values[start : start + self._WIDTH]
        known = None if timestamp == self._NO_TIMESTAMP else int(timestamp)
        return _Sent(int(sequence), int(position), int(samples), at, known)

    def __iter__(self) -> Iterator[_Sent]:
        return (self[index] for index in range(len(self)))

    def __reversed__(self) -> Iterator[_Sent]:
        return (self[index] for index in range(len(self) - 1, -1, -1))

    def cut(self, position: int) -> None:
        """Nothing from `position` on is in any of them."""
        for index, packet in enumerate(self):
            begin, end = (min(each, position) for each in (packet.position, packet.position + packet.samples))
            start = index * self._WIDTH
            self._values[start + 1], self._values[start + 2] = begin, end - begin


class PlayoutRecord:
    """What left when, of the latest reply and the one before; bounded by `MAX_RECORD` packets each.

    A packet that left at t is heard from t + way + playout delay on. A client that falls silent at our word does
    so when the word arrives, at now + way: the way cancels out, and what had left by now - playout delay was
    heard. A path that is stalled shows in the receiver reports: what they lack behind what one round trip allows
    has not arrived.
    """

    _JITTER = 0.05  # seconds by which a report may lag without meaning a stall
    _REPORT_VALID = 2.0

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._sent = _SentLog()
        self._former = _SentLog()
        self._acknowledged: int | None = None
        self._stall = 0.0
        self._reported: Instant = 0.0

    def begin_reply(self) -> None:
        """A new reply: its positions count from zero."""
        self._former, self._sent = self._sent, self._former
        self._sent.clear()

    def sent(self, sequence: int, position: int, samples: int, now: Instant, timestamp: int | None = None) -> None:
        """A packet with `samples` of the reply from `position` on left; `sequence` does not wrap."""
        self._sent.append(_Sent(sequence, position, samples, now, timestamp))

    def resume(self, position: int) -> None:
        """The reply goes on from `position`: what had left behind it is said again, and was not heard."""
        self._sent.cut(position)

    @property
    def last_timestamp(self) -> int | None:
        """RTP timestamp of the last packet of the reply that left; None if there was none."""
        stamps = (packet.timestamp for packet in reversed(self._sent))
        return next((stamp for stamp in stamps if stamp is not None), None)

    def played(self, timestamp: int, age: float, *, former: bool = False) -> int | None:
        """Return how many samples had sounded `age` seconds after the packet with this RTP timestamp began to.

        Of the reply before the latest one if `former`; None if no such packet of it left.
        """
        packets = iter(self._former if former else self._sent)
        packet = next((each for each in packets if each.timestamp == timestamp), None)
        if packet is None:
            return None
        left = round(min(age, MAX_AGE) * self._rate)
        while left > packet.samples and (following := next(packets, None)) is not None:
            left -= packet.samples
            packet = following
        return packet.position + min(left, packet.samples)

    def acknowledged(self, extended_highest: int, now: Instant, round_trip: float) -> None:
        """A receiver report arrived: its extended highest sequence number, in the terms of `sent`."""
        self._acknowledged, self._reported = extended_highest, now
        due = self._left_by(now - round_trip)
        last = self._up_to(extended_highest)
        if due is None:
            self._stall = 0.0
            return
        lack = due.at - (last.at if last is not None else self._sent[0].at)
        self._stall = lack if lack > self._JITTER else 0.0

    def heard(self, now: Instant, playout_delay: float, silenced: bool = True) -> PlayoutPosition:
        """Return how far the listener comes before it is silent.

        `playout_delay` is the seconds that the client keeps sound (jitter buffer and output device); `silenced`
        says that it is told now to fall silent; otherwise it plays all that left and arrives.
        """
        if not self._sent:
            return PlayoutPosition(0, 0, 0, 0.0)
        newest = self._sent[-1]
        end = newest.at + newest.samples / self._rate
        stall = self._stall if now - self._reported <= self._REPORT_VALID else 0.0
        samples = self._position(min(now - playout_delay, end) - stall if silenced else end - stall)
        return PlayoutPosition(
            samples, newest.position + newest.samples, self._arrived(), 1000.0 * samples / self._rate
        )

    def _position(self, at: Instant) -> int:
        """Return how much of what left had sounded at `at`, if it sounded when it left."""
        packet = self._left_by(at)
        if packet is None:
            return self._sent[0].position
        played = max(0, round((at - packet.at) * self._rate))
        return packet.position + min(played, packet.samples)

    def _left_by(self, at: Instant) -> _Sent | None:
        return next((packet for packet in reversed(self._sent) if packet.at <= at), None)

    def _up_to(self, sequence: int) -> _Sent | None:
        return next((packet for packet in reversed(self._sent) if packet.sequence <= sequence), None)

    def _arrived(self) -> int:
        last = None if self._acknowledged is None else self._up_to(self._acknowledged)
        return 0 if last is None else last.position + last.samples
