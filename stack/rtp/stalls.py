"""Stalls of the way, told from its jitter, and the delay that is worth waiting them out.

Jitter makes packets late one by one, by amounts that have a distribution with an end; a delay just beyond that end
costs little and saves nearly everything. A stall is something else: nothing comes for 100 to 500 ms (a Wi-Fi
station scans, changes its channel, or its access point serves another), then all of it comes at once, and the way
is as it was. Stalls are few, so a share of packets says little about them; what counts is how often they come and
how long they last. A delay of `d` seconds saves `d` of each stall that is longer, and is paid all the time. So the
caller states a price, and the delay is where a little more of it would save less than it costs.

Left out: foreseeing a stall; they come at no intervals that could be learned.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import exp
from typing import NamedTuple

from stack.core.counters import Counters, declare
from stack.core.errors import LocalError
from stack.core.machine import Instant

STALLS = declare("jitter", "stalls", "Stalls of the way: nothing came for long, then all of it at once")


@dataclass(frozen=True, slots=True)
class PlayoutCost:
    """What delay and made-up sound cost the one who listens."""

    delay_per_percent: float
    """Seconds of delay that one per cent of made-up sound less is worth."""
    memory: float
    """Seconds in which a stall is forgotten to 37 %."""
    least_delay: float
    """Seconds of delay even where nothing is late: they shorten the first stall."""
    patience: float
    """Seconds of more delay than needed after which speech is shortened, too; before that, only pauses are."""


CONVERSATION = PlayoutCost(delay_per_percent=0.030, memory=60.0, least_delay=0.0, patience=10.0)
"""Two who talk with each other: delay makes them interrupt one another."""
LISTENING = PlayoutCost(delay_per_percent=0.500, memory=180.0, least_delay=0.060, patience=10.0)
"""One who only listens, or a recording: that it is whole matters more than when it comes."""
PLAYOUT_COSTS = {"conversation": CONVERSATION, "listening": LISTENING}


def find_playout_cost(name: str) -> PlayoutCost:
    """Return the cost of that name; `LocalError` for one that is unknown."""
    try:
        return PLAYOUT_COSTS[name]
    except KeyError:
        raise LocalError(f"a playout cost is {' or '.join(PLAYOUT_COSTS)}, not {name!r}") from None


class Stall(NamedTuple):
    """Its end, and how late the first packet came after it, in seconds."""

    end: Instant
    length: float


class StallHistory:
    """Tells packets of a stall from late ones, and remembers the stalls of late."""

    STEP = 0.060
    """Seconds beyond what jitter is known to bring from which on a late packet may be the first after a stall."""
    LONGEST = 0.800
    """Seconds of a stall that is too long to be waited out; it teaches nothing."""
    MARGIN = 1.1
    """The next stall is a little longer than those that were seen."""
    LEAST_TIME = 15.0
    """Seconds over which the first stalls are spread: one in the first second is not sixty a minute."""
    TOO_MANY = ((3, 1.2), (8, 12.0))
    """So many stalls in so many seconds are jitter that has not been learned yet."""
    MAX_STALLS = 128

    _LOOK_EVERY = 1.0  # seconds between two looks at what is worth waiting for: what changes it is slow
    _FORGOTTEN = 5  # memories after which a stall is dropped

    __slots__ = (
        "_cost",
        "_counters",
        "_in_group",
        "_jitter_until",
        "_last",
        "_look_at",
        "_stalls",
        "_start",
        "_suspect",
        "_worth",
    )

    def __init__(self, cost: PlayoutCost, counters: Counters) -> None:
        self._cost = cost
        self._counters = counters
        self._stalls: deque[Stall] = deque(maxlen=self.MAX_STALLS)
        self._start: Instant | None = None
        self._last: Instant = 0.0  # arrival of the packet before
        self._suspect: Stall | None = None  # the first packet after a pause, until the next tells what it was
        self._in_group = False
        self._jitter_until: Instant = 0.0
        self._worth = 0.0
        self._look_at: Instant = 0.0

    def belongs(self, lateness: float, jitter: float, duration: float, arrival: Instant) -> bool:
        """Take a packet; return whether its lateness is a stall's, and says nothing about jitter.

        `lateness` is in seconds behind the fastest packet of late, `jitter` is the most that was expected,
        `duration` what the packet plays.
        """
        if self._start is None:
            self._start = self._last = arrival
        since, self._last = arrival - self._last, max(arrival, self._last)
        suspect, self._suspect = self._suspect, None
        at_once = since < duration / 2
        if suspect is not None and at_once:
            self._add(suspect)
            self._in_group = True
        elif not at_once:
            self._in_group = False
        if arrival < self._jitter_until:
            return False
        if self._in_group:
            return lateness > jitter
        if lateness - jitter > self.STEP and since > self.STEP:
            self._suspect = Stall(arrival, lateness)
            return True
        return False

    def _add(self, stall: Stall) -> None:
        stalls = self._stalls
        self._counters.add(STALLS)
        if stall.length > self.LONGEST:
            return
        stalls.append(stall)
        self._look_at = stall.end
        for count, seconds in self.TOO_MANY:
            if len(stalls) >= count and stall.end - stalls[-count].end < seconds:
                self._jitter_until = stall.end + self.LEAST_TIME
                stalls.clear()
                return

    def worthwhile_delay(self, now: Instant) -> float:
        """Return the seconds of delay at which a little more would cost more than the made-up sound it saves.

        Where `n` stalls in `t` seconds are longer than the delay, a millisecond more of it saves `n` milliseconds
        in `t` seconds. That is worth it while 100 × `n` / `t` × `delay_per_percent` is above 1.
        """
        if self._stalls and now >= self._look_at:
            self._look_at = now + self._LOOK_EVERY
            self._worth = self._weigh(now)
        elif not self._stalls:
            self._worth = 0.0
        return self._worth

    def _weigh(self, now: Instant) -> float:
        stalls, cost = self._stalls, self._cost
        while stalls and stalls[0].end < now - self._FORGOTTEN * cost.memory:
            stalls.popleft()
        elapsed = max(now - (self._start or 0.0), self.LEAST_TIME)
        remembered = cost.memory * (1.0 - exp(-elapsed / cost.memory))
        left = remembered / (100 * cost.delay_per_percent)  # the longest stalls, so many of them, do not pay
        for end, length in sorted(stalls, key=lambda stall: stall.length, reverse=True):
            left -= exp((end - now) / cost.memory)
            if left < 0:
                return length * self.MARGIN
        return 0.0
