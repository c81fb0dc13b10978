"""A model of a network in one direction: which datagrams arrive, when, and how often.

`NetworkModel` says what the network is like; `Link` plays it, datagram by datagram, from a seed. It knows no
clock and no sockets: the simulated network of the tests and the relay between real clients use the same one.

Each effect draws from a random stream of its own, so that turning one up leaves the pattern of the others alone.
Units: seconds, bytes, bits per second, probabilities from 0 to 1.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from io import StringIO
from itertools import pairwise
from math import isfinite
from pathlib import Path
from random import Random

UDP_OVERHEAD = 28
"""Bytes of IPv4 and UDP header that a datagram takes from the rate besides its payload."""
MAX_TRACE_ENTRIES = 1_000_000
"""Datagrams in one recorded trace: over five hours of sound."""
MAX_DELAY = 60.0
"""The longest time, in seconds, that anything may be under way."""


class ModelError(ValueError):
    """A model or a trace that makes no sense."""


@dataclass(frozen=True, slots=True)
class GilbertElliott:
    """Loss that comes in bursts: a good and a bad state, and the probabilities of going from one to the other."""

    enter: float
    leave: float
    loss_in_bad: float = 1.0
    loss_in_good: float = 0.0

    def __post_init__(self) -> None:
        for name in ("enter", "leave", "loss_in_bad", "loss_in_good"):
            _check_probability(name, getattr(self, name))

    @classmethod
    def from_mean(cls, loss: float, burst_length: float) -> GilbertElliott:
        """Return the model with this overall loss, lost in runs of `burst_length` datagrams on the average."""
        if not 0 <= loss < 1 or burst_length < 1:
            raise ModelError("burst loss needs a loss below 1 and bursts of at least one datagram")
        leave = 1 / burst_length
        enter = leave * loss / (1 - loss)
        if enter > 1:
            raise ModelError(f"a loss of {loss:.0%} needs bursts longer than {burst_length:g}")
        return cls(enter, leave)

    @property
    def mean_loss(self) -> float:
        """The loss in the long run."""
        if self.enter + self.leave == 0:
            return self.loss_in_good
        bad = self.enter / (self.enter + self.leave)
        return bad * self.loss_in_bad + (1 - bad) * self.loss_in_good


class JitterShape(Enum):
    """How the extra delay of a datagram is spread."""

    UNIFORM = "uniform"
    NORMAL = "normal"
    PARETO = "pareto"


@dataclass(frozen=True, slots=True)
class Jitter:
    """Extra delay that differs from datagram to datagram; never negative.

    UNIFORM: between 0 and `amount`. NORMAL: the absolute value of a normal distribution with deviation `amount`.
    PARETO: nothing, but with probability `frequency` a spike of `amount` or more, with a heavy tail (`shape`).
    """

    amount: float
    distribution: JitterShape = JitterShape.UNIFORM
    shape: float = 2.0
    frequency: float = 0.02

    def __post_init__(self) -> None:
        _check_seconds("jitter", self.amount)
        _check_probability("frequency", self.frequency)
        if not (isfinite(self.shape) and self.shape > 0):
            raise ModelError("the shape of a Pareto distribution is above 0")

    def draw(self, random: Random) -> float:
        """Return one extra delay."""
        match self.distribution:
            case JitterShape.UNIFORM:
                return random.uniform(0.0, self.amount)
            case JitterShape.NORMAL:
                return min(abs(random.gauss(0.0, self.amount)), MAX_DELAY)
        spike = random.paretovariate(self.shape)
        return min(self.amount * spike, MAX_DELAY) if random.random() < self.frequency else 0.0


@dataclass(frozen=True, slots=True)
class Stall:
    """The network holds everything for `duration`, about every `interval`, and then lets it all go at once.

    With `longest` each stall lasts something between `duration` and that.
    """

    interval: float
    duration: float
    longest: float = 0.0

    def __post_init__(self) -> None:
        _check_seconds("a stall's interval", self.interval)
        _check_seconds("a stall's duration", self.duration)
        _check_seconds("the longest stall", self.longest)
        if self.longest and self.longest < self.duration:
            raise ModelError("the longest stall is no shorter than the shortest")
        if self.interval == 0:
            raise ModelError("a stall's interval is above 0")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A bottleneck: `rate` bits per second behind a queue of `queue` bytes that drops what does not fit."""

    rate: float
    queue: int = 64_000

    def __post_init__(self) -> None:
        if not (isfinite(self.rate) and self.rate > 0 and self.queue >= 0):
            raise ModelError("a rate is above 0, its queue not below")


@dataclass(frozen=True, slots=True)
class Trace:
    """What happened to each datagram of a recorded call: its delay in seconds, or None if it was lost."""

    delays: tuple[float | None, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.delays) <= MAX_TRACE_ENTRIES:
            raise ModelError(f"a trace has 1 to {MAX_TRACE_ENTRIES} datagrams")
        for delay in self.delays:
            if delay is not None:
                _check_seconds("a delay of the trace", delay)

    @classmethod
    def parse(cls, text: str) -> Trace:
        """Read CSV lines `sequence,delay_ms` or `sequence,lost`; a sequence number left out was lost, too."""
        found: dict[int, float | None] = {}
        for number, row in enumerate(csv.reader(StringIO(text)), start=1):
            if not row or row[0].startswith("#") or (number == 1 and row[0].strip() == "sequence"):
                continue
            try:
                sequence, fate = int(row[0]), row[1].strip().lower()
                found[sequence] = None if fate == "lost" else float(fate) / 1000
            except (ValueError, IndexError):
                raise ModelError(
                    f"line {number} of the trace is not 'sequence,delay_ms' or 'sequence,lost'"
                ) from None
        if not found or max(found) - min(found) >= MAX_TRACE_ENTRIES:
            raise ModelError(f"a trace has 1 to {MAX_TRACE_ENTRIES} datagrams")
        return cls(tuple(found.get(sequence) for sequence in range(min(found), max(found) + 1)))

    @classmethod
    def load(cls, path: Path) -> Trace:
        """Read a CSV file."""
        return cls.parse(path.read_text())


@dataclass(frozen=True, slots=True)
class NetworkModel:
    """One direction of a network; by default a perfect one.

    Datagrams stay in order unless `reorder` says otherwise: so many of them are held back by `reorder_delay` and
    overtaken by those behind them. `jitter_reorders` lets jitter alone overtake, and a duplicate has jitter of its
    own then (otherwise it comes with its original). A `trace` decides about loss and delay by itself, is repeated
    at its end, and goes on top of `delay`; the other effects apply as well.
    """

    loss: float = 0.0
    burst: GilbertElliott | None = None
    delay: float = 0.0
    jitter: Jitter | None = None
    jitter_reorders: bool = False
    reorder: float = 0.0
    reorder_delay: float = 0.03
    duplicate: float = 0.0
    stall: Stall | None = None
    rate: RateLimit | None = None
    trace: Trace | None = None

    def __post_init__(self) -> None:
        for name in ("loss", "reorder", "duplicate"):
            _check_probability(name, getattr(self, name))
        for name in ("delay", "reorder_delay"):
            _check_seconds(name, getattr(self, name))


class Fate(Enum):
    """What becomes of a datagram, as it is counted."""

    OFFERED = "offered"
    DELIVERED = "delivered"
    LOST = "lost"
    LOST_IN_BURST = "lost_in_burst"
    LOST_IN_TRACE = "lost_in_trace"
    QUEUE_FULL = "queue_full"
    REORDERED = "reordered"
    DUPLICATED = "duplicated"
    STALLED = "stalled"


@dataclass(slots=True)
class Link:
    """Plays a model: says of each datagram at which instants it arrives."""

    model: NetworkModel
    seed: int | str = 0
    _tally: Counter[Fate] = field(default_factory=Counter, init=False)
    _streams: dict[str, Random] = field(default_factory=dict, init=False)
    _is_bad: bool = field(default=False, init=False)
    _busy_until: float = field(default=0.0, init=False)
    _stall_begin: float | None = field(default=None, init=False)
    _stall_end: float = field(default=0.0, init=False)
    _last_arrival: float = field(default=float("-inf"), init=False)
    _position: int = field(default=0, init=False)

    def transit(self, size: int, now: float) -> tuple[float, ...]:
        """Return when a datagram of `size` bytes sent at `now` arrives: never, once or twice, in order."""
        self._tally[Fate.OFFERED] += 1
        recorded = self._recorded_delay()
        is_lost = self._is_lost(recorded)
        sent = self._after_the_queue(size, now)
        if is_lost or sent is None:
            return ()
        earliest = sent + self.model.delay + (recorded or 0.0)
        arrival = earliest + self._extra_delay("jitter")
        arrival = self._after_the_stall(arrival, now)
        arrival = self._in_order(arrival)
        self._tally[Fate.DELIVERED] += 1
        if self._happens("duplicate", self.model.duplicate):
            self._tally[Fate.DUPLICATED] += 1
            if not self.model.jitter_reorders:
                return (arrival, arrival)
            copy = self._after_the_stall(earliest + self._extra_delay("jitter of copies"), now)
            return (min(arrival, copy), max(arrival, copy))
        return (arrival,)

    def statistics(self) -> Mapping[str, int]:
        """Return how many datagrams met which fate."""
        return {fate.value: self._tally[fate] for fate in Fate if self._tally[fate]}

    def _random(self, effect: str) -> Random:
        stream = self._streams.get(effect)
        if stream is None:
            stream = self._streams[effect] = Random(f"{self.seed}/{effect}")
        return stream

    def _happens(self, effect: str, probability: float) -> bool:
        return probability > 0 and self._random(effect).random() < probability

    def _extra_delay(self, effect: str) -> float:
        jitter = self.model.jitter
        return 0.0 if jitter is None else jitter.draw(self._random(effect))

    def _recorded_delay(self) -> float | None:
        trace = self.model.trace
        if trace is None:
            return None
        delay = trace.delays[self._position]
        self._position = (self._position + 1) % len(trace.delays)
        return delay

    def _is_lost(self, recorded: float | None) -> bool:
        burst = self.model.burst
        fate = None
        if burst is not None:
            random = self._random("burst")
            moves, falls = random.random(), random.random()
            self._is_bad = moves >= burst.leave if self._is_bad else moves < burst.enter
            if falls < (burst.loss_in_bad if self._is_bad else burst.loss_in_good):
                fate = Fate.LOST_IN_BURST
        if self._happens("loss", self.model.loss):
            fate = Fate.LOST
        if self.model.trace is not None and recorded is None:
            fate = Fate.LOST_IN_TRACE
        if fate is not None:
            self._tally[fate] += 1
        return fate is not None

    def _after_the_queue(self, size: int, now: float) -> float | None:
        """Return when the last bit has left the bottleneck; None if its queue is full.

        What is lost later on the way has used the bottleneck all the same.
        """
        limit = self.model.rate
        if limit is None:
            return now
        start = max(now, self._busy_until)
        if (start - now) * limit.rate / 8 > limit.queue:
            self._tally[Fate.QUEUE_FULL] += 1
            return None
        self._busy_until = start + (size + UDP_OVERHEAD) * 8 / limit.rate
        return self._busy_until

    def _after_the_stall(self, arrival: float, now: float) -> float:
        stall = self.model.stall
        if stall is None:
            return arrival
        if self._stall_begin is None:
            self._begin_stall(now, stall)
        while arrival >= self._stall_end:
            self._begin_stall(self._stall_end, stall)
        if self._stall_begin is None or arrival < self._stall_begin:
            return arrival
        self._tally[Fate.STALLED] += 1
        return self._stall_end

    def _begin_stall(self, after: float, stall: Stall) -> None:
        random = self._random("stall")
        self._stall_begin = after + random.expovariate(1 / stall.interval)
        lasts = random.uniform(stall.duration, stall.longest) if stall.longest else stall.duration
        self._stall_end = self._stall_begin + lasts

    def _in_order(self, arrival: float) -> float:
        if self._happens("reorder", self.model.reorder):
            self._tally[Fate.REORDERED] += 1
            return max(arrival, self._last_arrival) + self.model.reorder_delay
        if self.model.jitter_reorders:
            return arrival
        self._last_arrival = max(arrival, self._last_arrival)
        return self._last_arrival


def longest_run(flags: Iterable[bool]) -> int:
    """Return the length of the longest run of True: of lost datagrams, say."""
    longest = current = 0
    for flag in flags:
        current = current + 1 if flag else 0
        longest = max(longest, current)
    return longest


def inversions(order: Iterable[int]) -> int:
    """Return how many neighbours stand the wrong way round: a measure of reordering."""
    return sum(later < earlier for earlier, later in pairwise(order))


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ModelError(f"{name} is a probability from 0 to 1, not {value:g}")


def _check_seconds(name: str, value: float) -> None:
    if not 0 <= value <= MAX_DELAY:
        raise ModelError(f"{name} is between 0 and {MAX_DELAY:g} seconds, not {value:g}")
