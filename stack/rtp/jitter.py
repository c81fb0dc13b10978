"""Jitter buffers: packets in as the network brings them, a gapless line of things to decode out.

Two modes behind one interface (`insert`, `pull`, `poll_timeout`):

- `ArrivalBuffer`, for a listener that is a program. A packet in order is released by the very `insert` that
  brought it: no delay is added. At a gap it waits, and only while the missing packet can still come: as a RED
  block (RFC 2198) in one of the next packets, as a retransmission (RFC 4585, RFC 4588), or because it was merely
  overtaken, which is learned from how earlier gaps ended. Then the gap is declared lost. Bursts are released at
  once, in order.
- `ClockBuffer` in `jitter_clock.py`, for a listener that plays: it is pulled every 20 ms and steers a delay.

Sequence numbers and timestamps are extended: they do not wrap. Neither buffer looks into a payload; who inserts
says how long a packet plays and whether it carries a copy of the one before it. Left out: video.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from math import inf
from typing import NamedTuple, Protocol, TypeAlias

from stack.core.counters import Counters, declare
from stack.core.machine import Instant
from stack.core.serial import ExtendedSequenceNumber, ExtendedTimestamp

DROPPED_REDUNDANT = declare("jitter", "dropped_redundant", "Recovered copies of packets that had come")
DROPPED_DUPLICATE = declare("jitter", "dropped_duplicate", "Packets that had come before")
DROPPED_LATE = declare("jitter", "dropped_late", "Packets that came after their place was given up")
EMPTY_PAYLOADS = declare("jitter", "empty_payloads", "Packets without sound: padding, telephone events")
RECOVERED = declare("jitter", "recovered", "Packets held that came as a copy: RED, or a retransmission")
RESTARTS = declare("jitter", "restarts", "Jumps in the sequence numbers that made the buffer begin anew")
DROPPED_SKIPPED = declare(
    "jitter", "dropped_skipped", "Packets held that were never played: the buffer began anew, or held too much"
)
LOST = declare("jitter", "lost", "Packets that were given up")
RELEASED = declare("jitter", "released", "Packets handed to the decoder")

MAX_HELD = 500
"""Packets that wait at most; a peer that sends more is skipped ahead."""
MAX_JUMP = 3000
"""A sequence number further off than this is another stream (MAX_DROPOUT of RFC 3550 §A.1)."""
MAX_CONCEALED = 0.120
"""Seconds of loss at a gap that are worth making up; what is longer is silence."""
RESTART_AFTER = 25
"""So many packets in a row from before the line mean that the sender began anew."""


class JitterPacket(NamedTuple):
    """What the buffers know of a packet."""

    sequence: ExtendedSequenceNumber
    """Extended sequence number."""
    timestamp: ExtendedTimestamp
    """Extended timestamp, in ticks of the payload's clock."""
    duration: int
    """Ticks that the payload plays; 0 for a packet without sound (a telephone-event, padding)."""
    payload: bytes
    arrival: Instant
    recovered: bool = False
    """Came as redundancy or by retransmission."""
    has_fec: bool = False
    """Carries a copy of the packet before it."""


class Decode(NamedTuple):
    """The next thing to hear is this packet."""

    packet: JitterPacket

    @property
    def duration(self) -> int:
        """Ticks."""
        return self.packet.duration


class Missing(NamedTuple):
    """A packet that has not come: recover it from `following` if there is one, or conceal."""

    timestamp: ExtendedTimestamp
    duration: int
    following: JitterPacket | None


class Silence(NamedTuple):
    """The sender sent nothing (DTX), or so much is lost that making it up would be a lie."""

    timestamp: ExtendedTimestamp
    duration: int


class Underrun(NamedTuple):
    """Nothing is here yet: carry on somehow for `duration` ticks; the line does not move."""

    timestamp: ExtendedTimestamp
    duration: int


Item: TypeAlias = Decode | Missing | Silence | Underrun


class Adjustment(Enum):
    """What the puller may do to the sound to bring the delay to its target."""

    NONE = "none"
    SHORTEN_PAUSE = "shorten pause"
    """Cut where the sound is quiet: not at all heard, and it can wait for such a place …"""
    ACCELERATE = "accelerate"
    """… cut where it is hardly heard …"""
    HURRY = "hurry"
    """… or anywhere."""
    LENGTHEN_PAUSE = "lengthen pause"
    EXPAND = "expand"


class JitterBuffer(Protocol):
    """Either mode."""

    @property
    def counters(self) -> Counters:
        """Packets by fate: released, recovered, late, duplicate, lost …"""
        ...

    def insert(self, packet: JitterPacket) -> list[Item]:
        """Take a packet; return what may be decoded because of it."""
        ...

    def pull(self, now: Instant, backlog: float = 0.0) -> list[Item]:
        """Return what is to be decoded because it is `now`; `backlog` seconds are decoded and not yet played."""
        ...

    def poll_timeout(self) -> Instant | None:
        """When `pull` has something to say without another packet; None: never, or whenever it is called."""
        ...

    def reset(self) -> None:
        """Begin anew: another source, another codec."""
        ...


class PacketBuffer:
    """The packets that are held, and the point up to which everything has been released."""

    __slots__ = (
        "clock_rate",
        "counters",
        "empty_payloads",
        "given_up",
        "held",
        "highest",
        "late_run",
        "restarts",
        "sequence",
        "timestamp",
    )

    def __init__(self, clock_rate: int) -> None:
        self.clock_rate = clock_rate
        self.counters = Counters()
        self.restarts = 0
        self.clear()

    def clear(self) -> None:
        self.held: dict[ExtendedSequenceNumber, JitterPacket] = {}
        self.given_up: deque[ExtendedSequenceNumber] = deque(maxlen=100)
        self.empty_payloads: set[ExtendedSequenceNumber] = (
            set()
        )  # sequence numbers that came and have nothing to play
        self.sequence: ExtendedSequenceNumber | None = None  # next to be released
        self.timestamp = 0  # at which it is expected
        self.highest = 0
        self.late_run = 0

    def accept(self, packet: JitterPacket) -> bool:
        """Hold `packet`; False if it is of no use."""
        if self.sequence is None:
            self.sequence, self.timestamp, self.highest = packet.sequence, packet.timestamp, packet.sequence
        if packet.sequence < self.sequence:
            if packet.sequence not in self.given_up:  # came already: a duplicate, or a copy that was not needed
                self.counters.add(DROPPED_REDUNDANT if packet.recovered else DROPPED_DUPLICATE)
            else:
                self.counters.add(DROPPED_LATE)
            if packet.recovered:
                return False
            self.late_run += 1
            if self.late_run < RESTART_AFTER and self.sequence - packet.sequence <= MAX_JUMP:
                return False
            self._restart(packet)
        elif packet.sequence - self.highest > MAX_JUMP:
            self._restart(packet)
        if packet.sequence in self.held:
            self.counters.add(DROPPED_DUPLICATE)
            return False
        self.late_run = 0
        self.highest = max(self.highest, packet.sequence)
        if packet.duration <= 0:
            self.counters.add(EMPTY_PAYLOADS)
            if len(self.empty_payloads) < MAX_HELD:
                self.empty_payloads.add(packet.sequence)
            self._pass_empty()
            return True
        self.held[packet.sequence] = packet
        if packet.recovered:
            self.counters.add(RECOVERED)
        return True

    def _restart(self, packet: JitterPacket) -> None:
        self.restarts += 1
        self.counters.add(RESTARTS)
        self.counters.add(DROPPED_SKIPPED, len(self.held))
        self.clear()
        self.sequence, self.timestamp, self.highest = packet.sequence, packet.timestamp, packet.sequence

    def give_up(self, sequence: ExtendedSequenceNumber) -> None:
        """Go on with `sequence`: what is missing before it is lost."""
        assert self.sequence is not None
        if sequence > self.sequence:
            self.counters.add(LOST, sequence - self.sequence)
            self.given_up.extend(range(max(self.sequence, sequence - 100), sequence))
            self.sequence = sequence
            self._pass_empty()

    def _pass_empty(self) -> None:
        if not self.empty_payloads or self.sequence is None:
            return
        while self.sequence in self.empty_payloads:
            self.empty_payloads.remove(self.sequence)
            self.sequence += 1
        if len(self.empty_payloads) > MAX_HELD // 2:
            self.empty_payloads = {sequence for sequence in self.empty_payloads if sequence > self.sequence}

    def first(self) -> JitterPacket | None:
        """The earliest packet that is held."""
        if not self.held:
            return None
        return self.held.get(self.sequence or 0) or self.held[min(self.held)]

    def release(self, packet: JitterPacket) -> Decode:
        """Take out the earliest packet; the line goes on behind it."""
        del self.held[packet.sequence]
        self.sequence = packet.sequence + 1
        self.timestamp = packet.timestamp + packet.duration
        self.counters.add(RELEASED)
        self._pass_empty()
        return Decode(packet)

    def pass_through(self, packet: JitterPacket) -> None:
        """Release the very next packet without holding it: nothing is held and nothing is missing."""
        self.highest = packet.sequence
        self.sequence = packet.sequence + 1
        self.timestamp = packet.timestamp + packet.duration
        self.late_run = 0
        self.counters.add(RELEASED)

    def gap(self, packet: JitterPacket) -> tuple[int, int]:
        """Ticks of silence and of loss between the line and `packet`, the earliest that is held.

        Where both may have happened, silence is taken to come first, so that the loss is next to `packet`. A
        timestamp that goes back is no gap: the sender has changed its mind about time.
        """
        assert self.sequence is not None
        between = max(0, packet.timestamp - self.timestamp)
        missing = packet.sequence - self.sequence
        if missing and self.empty_payloads:
            missing -= sum(self.sequence < sequence < packet.sequence for sequence in self.empty_payloads)
        lost = min(between, missing * packet.duration)
        lost = min(lost, int(MAX_CONCEALED * self.clock_rate))
        return between - lost, lost


class ArrivalBuffer:
    """Releases packets as they arrive; waits only at a gap, and only while it can be filled.

    `repair_wait` is how many seconds after its discovery a gap may still be filled by a retransmission
    (round-trip time and some jitter; 0 where there is none to be had); `red_depth` how many packets behind its
    loss a packet may still come as a RED block. Both may be set at any time.
    """

    MAX_WAIT = 0.200
    """Seconds that a gap holds up what came after it, at most."""
    _OUTCOMES = 50  # gaps that are remembered
    _LIKELY = 0.2  # share of gaps that fill up by themselves from which on waiting pays
    _FIRST_WAIT = 0.010  # before anything is known

    def __init__(self, clock_rate: int = 48_000, *, repair_wait: float = 0.0, red_depth: int = 0) -> None:
        self.repair_wait = repair_wait
        self.red_depth = red_depth
        self.packets = PacketBuffer(clock_rate)
        self._discovered: dict[ExtendedSequenceNumber, Instant] = {}  # of packets that are missing, or were lately
        self._outcomes: deque[float] = deque(maxlen=self._OUTCOMES)  # seconds after which gaps filled up, or inf
        self._reorder_wait = self._FIRST_WAIT

    @property
    def counters(self) -> Counters:
        """Packets by fate."""
        return self.packets.counters

    @property
    def held(self) -> int:
        """Packets that wait behind a gap: only while there are any has `poll_timeout` anything to say."""
        return len(self.packets.held)

    def reset(self) -> None:
        """Begin anew."""
        self.packets.clear()
        self._discovered.clear()

    def insert(self, packet: JitterPacket) -> list[Item]:
        """Take a packet; return it, and whatever waited for it. A burst comes out in order."""
        packets = self.packets
        if (
            packet.sequence == packets.sequence
            and packet.timestamp == packets.timestamp
            and packet.duration > 0
            and not (self._discovered or packets.held or packets.empty_payloads or packet.recovered)
        ):
            packets.pass_through(packet)
            return [Decode(packet)]
        discovered = self._discovered.pop(packet.sequence, None)
        if discovered is not None and not packet.recovered:
            self._learn(packet.arrival - discovered)
        before = packets.highest if packets.sequence is not None else packet.sequence
        if not packets.accept(packet):
            return []
        for sequence in range(max(before + 1, packet.sequence - MAX_HELD, packets.sequence or 0), packet.sequence):
            self._discovered[sequence] = packet.arrival
        return self.pull(packet.arrival)

    def pull(self, now: Instant, backlog: float = 0.0) -> list[Item]:
        """Return what is in order, and step over gaps that nothing can fill any more."""
        packets = self.packets
        items: list[Item] = []
        while (packet := packets.first()) is not None:
            silence, lost = packets.gap(packet)
            if packet.sequence != packets.sequence:
                if len(packets.held) < MAX_HELD and now < self._deadline(packet):
                    break
                packets.give_up(packet.sequence)
            if silence:
                items.append(Silence(packets.timestamp, silence))
            if lost:
                items.append(Missing(packet.timestamp - lost, lost, packet))
            items.append(packets.release(packet))
        self._forget(now)
        return items

    def poll_timeout(self) -> Instant | None:
        """When the gap at the head of the line is given up; None if there is none."""
        packet = self.packets.first()
        return None if packet is None else self._deadline(packet)

    def _deadline(self, packet: JitterPacket) -> Instant:
        """Until when the gap before `packet`, the earliest one held, may still be filled."""
        packets = self.packets
        assert packets.sequence is not None
        missing = packet.sequence - 1  # the last of the gap is the one that can come latest
        discovered = self._discovered.get(missing, packet.arrival)
        if packet.has_fec and packet.sequence == packets.sequence + 1:
            return discovered + (self._reorder_wait if self._usually_fills() else 0.0)
        wait = max(self.repair_wait, self._reorder_wait)
        still = self.red_depth - (packets.highest - missing)  # packets to come that may carry it
        if still > 0:
            arrival = max(held.arrival for held in packets.held.values())
            wait = max(
                wait, arrival - discovered + still * packet.duration / packets.clock_rate + self._reorder_wait
            )
        return discovered + min(wait, self.MAX_WAIT)

    def _forget(self, now: Instant) -> None:
        """What has been missing for longer than the buffer waits is not going to come."""
        while self._discovered:
            sequence, discovered = next(iter(self._discovered.items()))  # the oldest: dicts keep their order
            if now - discovered <= 2 * self.MAX_WAIT and len(self._discovered) <= MAX_HELD:
                break
            del self._discovered[sequence]
            self._learn(inf)

    def _learn(self, seconds: float) -> None:
        self._outcomes.append(seconds)
        filled = sorted(outcome for outcome in self._outcomes if outcome < inf)
        if len(filled) >= self._LIKELY * len(self._outcomes):
            self._reorder_wait = min(filled[int(0.95 * len(filled))] + 0.001, self.MAX_WAIT)
        else:
            self._reorder_wait = 0.0

    def _usually_fills(self) -> bool:
        return 2 * sum(outcome < inf for outcome in self._outcomes) > len(self._outcomes)
