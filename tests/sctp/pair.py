"""Two ends of an association and the network between them, in virtual time, from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from heapq import heappush

from stack.sctp import DataChannels, SctpConfig
from stack.sctp.association import Association
from tests.sim.arrivals import Arrivals, Ending


def entropy(seed):
    return random.Random(seed).randbytes


@dataclass
class Weather:
    """What the network does to packets; rates are probabilities, times are seconds one way."""

    delay: float = 0.01
    jitter: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    bytes_per_second: float | None = None


@dataclass
class Pair:
    """`a` and `b` are tunnels; `a` is index 0. Everything that they say is pumped to the other side."""

    a: DataChannels | Association
    b: DataChannels | Association
    weather: Weather = field(default_factory=Weather)
    seed: int = 1

    def __post_init__(self):
        self.now = 1000.0
        self.random = random.Random(self.seed)
        self.events = ([], [])
        self.wire = []  # (index of the sender, packet), everything that was sent
        self.drop = None  # drop(index of the sender, packet) -> bool
        self._network = []
        self._arrivals = Arrivals(self.seed)
        self._endings = [Ending(name, end) for name, end in zip("ab", self.ends, strict=True)]
        self._order = 0
        self._busy_until = [0.0, 0.0]

    @property
    def ends(self):
        return (self.a, self.b)

    def pump(self):
        for index, end in enumerate(self.ends):
            for packet in end.drain_transmits():
                self.wire.append((index, packet))
                self._send(index, packet)
            events = end.drain_events()
            for event in events:
                self._endings[index].check(event)
            self.events[index].extend(events)

    def _send(self, index, packet):
        if self.drop is not None and self.drop(index, packet):
            return
        weather = self.weather
        copies = 2 if self.random.random() < weather.duplication else 1
        for _ in range(copies):
            if self.random.random() < weather.loss:
                continue
            leaves = self.now
            if weather.bytes_per_second:
                leaves = max(self.now, self._busy_until[index]) + len(packet) / weather.bytes_per_second
                self._busy_until[index] = leaves
            at = leaves + weather.delay + self.random.random() * weather.jitter
            self._order += 1
            heappush(self._network, (self._arrivals.reading(1 - index, at), self._order, 1 - index, packet))

    def next_at(self):
        times = [end.poll_timeout() for end in self.ends]
        if self._network:
            times.append(self._network[0][0])
        return min((at for at in times if at is not None), default=None)

    def step(self):
        """Do the next thing that is due; False if nothing ever will be."""
        self.pump()
        at = self.next_at()
        if at is None:
            return False
        self.now = max(self.now, at)
        if self._network and self._network[0][0] <= self.now:
            arrived = self._arrivals.pop(self._network, lambda entry: entry[2])
            self.ends[arrived[0][2]].handle_datagrams([entry[3] for entry in arrived], self.now)
        else:
            for end in self.ends:
                due = end.poll_timeout()
                if due is not None and due <= self.now:
                    end.handle_timeout(self.now)
        self.pump()
        return True

    def run(self, seconds):
        """Let virtual time pass."""
        self.pump()
        end = self.now + seconds
        while (at := self.next_at()) is not None and at <= end:
            assert self.step()
        self.now = end

    def run_until(self, condition, seconds=60.0):
        """Run until the condition holds; fail if it does not within so many virtual seconds."""
        self.pump()
        end = self.now + seconds
        while not condition():
            assert self.now <= end, "the condition did not come true"
            assert self.step(), "nothing more will happen"

    def of(self, index, kind):
        """The events of a kind that one end has seen."""
        return [event for event in self.events[index] if isinstance(event, kind)]


def make_pair(weather=None, seed=1, up=True, a=None, b=None, **config):
    """Return two ends with data channels, `a` as DTLS client; set up unless `up` is False."""
    ends = [
        DataChannels(SctpConfig(is_dtls_client=index == 0, **config, **(extra or {})), entropy(seed * 2 + index))
        for index, extra in enumerate((a, b))
    ]
    pair = Pair(*ends, weather or Weather(), seed)
    if up:
        pair.a.start(pair.now)
        pair.b.start(pair.now)
        pair.run_until(lambda: pair.events[0] and pair.events[1])
    return pair


def make_associations(weather=None, seed=1, up=True, **config):
    """Return two bare associations."""
    ends = [
        Association(SctpConfig(is_dtls_client=index == 0, **config), entropy(seed * 2 + index)) for index in (0, 1)
    ]
    pair = Pair(*ends, weather or Weather(), seed)
    if up:
        pair.a.start(pair.now)
        pair.run_until(lambda: pair.events[0] and pair.events[1])
    return pair
