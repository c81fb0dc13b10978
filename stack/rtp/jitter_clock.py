"""The jitter buffer for a listener that plays: a player pulls a tick of sound every 20 ms.

The delay aimed at is the greater of two. One is for jitter: a high quantile of how much later than the fastest
recent packet a packet arrives, from a histogram that forgets within seconds. The other is for stalls, which
`stalls.py` tells from jitter and remembers for minutes: as much as pays at the cost that the listener states. The
player shortens or lengthens the sound to get there (`adjustment`), pauses first, and pauses that are not sent are
shortened and lengthened for free. All is measured in time, not in packets: delay is "when is this played" less
"when could it have come at best", so packets of any length, silence that is not sent (DTX) and a sender's clock
that drifts need no cases of their own.

A packet that is missing at its turn while later ones are here is recovered from the next one or concealed, and
the line moves on: loss adds no delay. With nothing here at all the line stands still (an underrun), so that what
is late is heard late, not lost; the next pauses take the delay back. Why so: decision 0020.

Left out: slowing down while a stall lasts. It saved a tenth of what is made up, and was heard more than that.
"""

from __future__ import annotations

from collections import deque

from stack.core.counters import Counters, declare
from stack.core.machine import Instant
from stack.rtp.jitter import (
    DROPPED_SKIPPED,
    MAX_HELD,
    Adjustment,
    Item,
    JitterPacket,
    Missing,
    PacketBuffer,
    Silence,
    Underrun,
)
from stack.rtp.stalls import CONVERSATION, PlayoutCost, StallHistory

UNDERRUNS = declare("jitter", "underruns", "Times that nothing was there to play while sound was being received")


class DelayHistogram:
    """How much later than the fastest recent packet the packets arrive, with old ones fading.

    The fastest is the minimum over `WINDOW` seconds, so a drift of the sender's clock is followed; a packet's
    weight falls by `FORGET` with each later one.
    """

    BUCKET = 0.005
    BUCKETS = 80
    FORGET = 0.995
    WINDOW = 10.0
    _SLICE = 0.5

    __slots__ = ("_minima", "_total", "_weight", "_weights")

    def __init__(self) -> None:
        self._weights = [0.0] * self.BUCKETS
        self._total = 0.0
        self._weight = 1.0
        self._minima: deque[tuple[Instant, float]] = deque()  # (start of slice, least transit), transits rising

    @property
    def fastest(self) -> float:
        """Least transit time (arrival less timestamp, on clocks of no common origin) of late."""
        return self._minima[0][1]

    def __bool__(self) -> bool:
        return bool(self._minima)

    def add(self, transit: float, at: Instant) -> None:
        """Note a packet."""
        minima = self._minima
        while minima and minima[-1][1] >= transit:
            minima.pop()
        if not minima or at - minima[-1][0] >= self._SLICE:
            minima.append((at, transit))
        while minima[0][0] < at - self.WINDOW and len(minima) > 1:
            minima.popleft()
        bucket = int((transit - minima[0][1]) / self.BUCKET)
        if bucket >= self.BUCKETS:  # a stall too long to be waited out
            return
        if self._total * (1.0 - self.FORGET) > self._weight:  # until then, a plain average
            self._weight /= self.FORGET
        self._weights[max(bucket, 0)] += self._weight
        self._total += self._weight
        if self._weight > 1e9:
            self._weights = [weight * 1e-9 for weight in self._weights]
            self._total *= 1e-9
            self._weight *= 1e-9

    def quantile(self, share: float) -> float:
        """The lateness in seconds that `share` of the packets do not exceed."""
        left = share * self._total
        for bucket, weight in enumerate(self._weights):
            left -= weight
            if left <= 0:
                return (bucket + 1) * self.BUCKET
        return self.BUCKETS * self.BUCKET


class ClockBuffer:
    """Feeds a listener that pulls `TICK` seconds of sound at a time."""

    TICK = 0.020
    QUANTILE = 0.993
    """Share of packets that come in time at the delay that is aimed at …"""
    MARGIN = 1.2
    """… times this, because the worst so far is not yet the worst."""
    MIN_TARGET, MAX_TARGET, FIRST_TARGET = 0.005, 0.800, 0.020
    BELOW, ABOVE = 0.005, 0.025
    """Seconds off the target that are left alone: below, what the histogram's buckets blur; above, one tick,
    because packets are taken at ticks and so the delay that protects from jitter comes in steps of one."""
    HURRY_AT = 0.600
    """Seconds above the target from which on the sound is shortened whatever it sounds like."""
    SKIP_AT = 1.0
    """Seconds above the target from which on packets are skipped: a stall is over, and this is now."""
    PAUSE = 0.100
    """Seconds left out by the sender after which what comes next begins a talkspurt: it may wait for its delay."""

    def __init__(self, clock_rate: int = 48_000, cost: PlayoutCost = CONVERSATION) -> None:
        self.cost = cost
        self._packets = PacketBuffer(clock_rate)
        self._forget_way()
        self._hidden = 0  # ticks of underrun since the line stood still
        self._playing = False
        self.adjustment = Adjustment.NONE
        self.delay = 0.0

    @property
    def counters(self) -> Counters:
        """Packets by fate."""
        return self._packets.counters

    @property
    def target(self) -> float:
        """Seconds behind the fastest packet at which sound is to be played."""
        return self._target

    @property
    def held(self) -> int:
        """Packets that wait to be pulled."""
        return len(self._packets.held)

    def reset(self) -> None:
        """Begin anew, with no knowledge of the way."""
        self._packets.clear()
        self._forget_way()
        self._hidden = 0
        self._playing = False
        self.adjustment = Adjustment.NONE

    def _forget_way(self) -> None:
        self._delays = DelayHistogram()
        self._stalls = StallHistory(self.cost, self._packets.counters)
        self._jitter = self.FIRST_TARGET  # seconds that cover it
        self._target = max(self.FIRST_TARGET, self.cost.least_delay)
        self._worth = self.cost.least_delay  # seconds that stalls make worthwhile
        self._excess_since: Instant | None = None

    def insert(self, packet: JitterPacket) -> list[Item]:
        """Take a packet. Nothing is released: it waits for `pull`."""
        packets = self._packets
        restarts = packets.restarts
        accepted = packets.accept(packet)
        if packets.restarts != restarts:
            self._forget_way()
            self._playing = False
        if packet.duration <= 0:
            return []
        if accepted or packet.sequence in packets.given_up:  # too late is worth knowing, a spare copy is not
            self._observe(packet.timestamp, packet.duration, packet.arrival)
        if not accepted:
            return []
        before = packet.sequence - 1
        if packet.has_fec and before >= (packets.sequence or 0) and before not in packets.held:
            self._observe(packet.timestamp - packet.duration, packet.duration, packet.arrival)  # its copy has come
        while len(packets.held) > MAX_HELD:
            self._skip_one()
        return []

    def pull(self, now: Instant, backlog: float = 0.0) -> list[Item]:
        """Return enough items for a tick on top of `backlog`, and what may be needed to shorten or lengthen it."""
        packets = self._packets
        tick = int(self.TICK * packets.clock_rate)
        if not self._delays:
            return [Underrun(0, tick)]
        have = round(backlog * packets.clock_rate)
        self._decide(now, have)
        items: list[Item] = []
        while have < tick:
            item = self._next(now + have / packets.clock_rate)
            if item.duration > 0:
                items.append(item)
                have += item.duration
        wanted = 2 * tick if self.adjustment is not Adjustment.NONE else 0
        while have < wanted and packets.sequence in packets.held:  # sound to work on, without waiting for any
            item = self._next(now + have / packets.clock_rate)
            items.append(item)
            have += item.duration
        return items

    def poll_timeout(self) -> Instant | None:
        """The player has a clock of its own."""
        return None

    def _observe(self, timestamp: int, duration: int, arrival: Instant) -> None:
        rate = self._packets.clock_rate
        transit = arrival - timestamp / rate
        lateness = transit - self._delays.fastest if self._delays else 0.0
        if not self._stalls.belongs(lateness, self._jitter, duration / rate, arrival):
            self._delays.add(transit, arrival)
            self._jitter = self._delays.quantile(self.QUANTILE)
        self._worth = max(self._stalls.worthwhile_delay(arrival), self.cost.least_delay)
        self._target = min(max(self._jitter * self.MARGIN, self._worth, self.MIN_TARGET), self.MAX_TARGET)

    def _delay_of(self, timestamp: int, at: Instant) -> float:
        """How long after its earliest possible arrival the sound of `timestamp` is heard, if that is `at`."""
        return at - timestamp / self._packets.clock_rate - self._delays.fastest

    def _decide(self, now: Instant, backlog: int) -> None:
        """Compare the delay of what is about to be heard with its target."""
        packets = self._packets
        self.adjustment = Adjustment.NONE
        if not self._playing or self._hidden:
            return
        # What counts is when the next packet has to be here: part of a tick that is decoded already is of no help.
        waiting = packets.timestamp - backlog + backlog % int(self.TICK * packets.clock_rate)
        self.delay = self._delay_of(waiting, now)
        excess = self.delay - self._target
        if excess <= self.ABOVE:
            self._excess_since = None
        elif self._excess_since is None:
            self._excess_since = now
        if excess > self.SKIP_AT:
            while packets.held and self._delay_of(packets.timestamp - backlog, now) > self._target:
                self._skip_one()
        elif self._excess_since is not None:
            if excess > self.HURRY_AT:
                self.adjustment = Adjustment.HURRY
            elif now - self._excess_since > self.cost.patience:
                self.adjustment = Adjustment.ACCELERATE
            else:
                self.adjustment = Adjustment.SHORTEN_PAUSE
        elif self.delay < self._jitter - self.BELOW:
            self.adjustment = Adjustment.EXPAND
        elif self.delay < min(self._worth, self.MAX_TARGET) - self.TICK:
            self.adjustment = Adjustment.LENGTHEN_PAUSE

    def _skip_one(self) -> None:
        packet = self._packets.first()
        assert packet is not None
        self._packets.release(packet)
        self._packets.counters.add(DROPPED_SKIPPED)

    def _next(self, at: Instant) -> Item:
        """The next thing to hear, at the instant `at`.

        What is made up comes by whole ticks, never by a fraction: codecs conceal in steps of some milliseconds.
        """
        packets = self._packets
        wanted = int(self.TICK * packets.clock_rate)
        packet = packets.first()
        if packet is None:
            return self._underrun(wanted)
        silence, lost = packets.gap(packet)
        between = packet.timestamp - packets.timestamp
        left = between - self._hidden  # of the gap; what was hidden by underruns has passed already
        if left <= 0:
            # After a stall the timestamps go on where they were, and what was said is heard at once.
            begins = not self._playing or between > self.PAUSE * packets.clock_rate
            if begins and self._delay_of(packet.timestamp, at) < self._target - self.BELOW:
                return self._underrun(wanted)
            packets.give_up(packet.sequence)  # whatever it was, an underrun stood in for it
            self._hidden = 0
            self._playing = True
            return packets.release(packet)
        if silence and left > lost:
            return self._pause(at, min(wanted, left - lost))
        # One missing packet at a time: the next may still come before its turn.
        part = min(left, packet.duration)
        timestamp = packet.timestamp - left
        packets.give_up(max(packets.sequence or 0, packet.sequence - -(-left // part) + 1))
        packets.timestamp = timestamp + part
        self._hidden = 0
        return Missing(timestamp, part, packet if left <= part else None)

    def _underrun(self, wanted: int) -> Item:
        if self._playing:
            if self._hidden == 0:
                self._packets.counters.add(UNDERRUNS)
            self._hidden += wanted
        return Underrun(self._packets.timestamp + self._hidden, wanted)

    def _pause(self, at: Instant, longest: int) -> Item:
        """A stretch of silence that the sender did not send: the place to put the delay right unheard."""
        packets = self._packets
        packets.timestamp += self._hidden
        self._hidden = 0
        step = packets.clock_rate // 400  # codecs conceal in steps of 2.5 ms
        excess = int((self._delay_of(packets.timestamp, at) - self._target) * packets.clock_rate) // step * step
        timestamp = packets.timestamp
        if excess > 0:
            packets.timestamp += min(excess, longest)  # this much of the pause is not heard at all
            if excess >= longest:
                return Silence(timestamp, 0)
            longest -= excess
        if excess < 0:
            return Silence(timestamp, min(-excess, longest))  # the pause is heard, and does not get shorter
        packets.timestamp += longest
        return Silence(timestamp, longest)
