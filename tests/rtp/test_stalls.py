from __future__ import annotations

import random as random_module

import pytest

from stack.core.counters import Counters
from stack.core.errors import LocalError
from stack.rtp.stalls import CONVERSATION, LISTENING, STALLS, PlayoutCost, StallHistory, find_playout_cost

T = 0.020
JITTER = 0.010


class Way:
    """A way whose packets come on time, but for what a test does to it."""

    def __init__(self, cost: PlayoutCost = LISTENING) -> None:
        self.counters = Counters()
        self.history = StallHistory(cost, self.counters)
        self.sent = 0.0

    def send(self, lateness: float = 0.0, jitter: float = JITTER) -> bool:
        belongs = self.history.belongs(lateness, jitter, T, 100.0 + self.sent + lateness)
        self.sent += T
        return belongs

    def run(self, seconds: float) -> list[bool]:
        return [self.send() for _ in range(round(seconds / T))]

    def stall(self, seconds: float) -> list[bool]:
        return [self.send(seconds - index * T) for index in range(round(seconds / T))]

    def worth(self) -> float:
        return self.history.worthwhile_delay(100.0 + self.sent)


def test_a_way_without_stalls_is_worth_no_delay() -> None:
    way = Way()
    assert not any(way.run(120))
    assert way.worth() == 0.0
    assert way.counters[STALLS] == 0


def test_what_comes_at_once_after_a_pause_is_a_stall() -> None:
    way = Way()
    way.run(5)
    assert way.stall(0.3) == [True] * 15
    assert not any(way.run(5))
    assert way.counters[STALLS] == 1
    assert way.worth() == pytest.approx(0.3 * StallHistory.MARGIN)


def test_a_way_that_became_longer_is_no_stall() -> None:
    way = Way()
    way.run(5)
    belongs = [way.send(0.2) for _ in range(100)]
    assert sum(belongs) <= 1  # of the first packet it cannot be known
    assert way.counters[STALLS] == 0
    assert way.worth() == 0.0


def test_packets_that_are_late_one_by_one_are_jitter() -> None:
    way = Way()
    random = random_module.Random(2)
    assert not any(way.send(random.random() * 0.04) for _ in range(3000))


def test_what_stalls_all_the_time_is_jitter() -> None:
    way = Way()
    way.run(5)
    fates = []
    for _ in range(10):
        fates.append(way.stall(0.2))
        way.run(0.2)
    assert all(fates[0])
    assert not any(any(fate) for fate in fates[4:])
    assert way.worth() == 0.0


def test_a_stall_that_cannot_be_waited_out_teaches_nothing() -> None:
    way = Way()
    way.run(5)
    assert all(way.stall(2.0))
    assert way.counters[STALLS] == 1
    assert way.worth() == 0.0


def test_the_delay_is_what_pays() -> None:
    """Six stalls a minute, of 100 to 350 ms: 100 ms of delay save one per cent where all of them are longer."""
    lengths = [0.1, 0.15, 0.2, 0.25, 0.3, 0.35]
    worth = []
    for price in (0.03, 0.12, 0.2, 0.4, 2.0):
        way = Way(PlayoutCost(price, memory=600.0, least_delay=0.0, patience=1.0))
        for _ in range(5):
            for length in lengths:
                way.run(10.0 - length)
                way.stall(length)
        worth.append(way.worth() / StallHistory.MARGIN)
    assert worth == sorted(worth)
    assert worth[0] == 0.0
    assert 0.1 <= worth[1] <= 0.15  # below the shortest each millisecond saves six in a minute: 1 % for 100 ms
    assert worth[2] == pytest.approx(0.2, abs=0.051)
    assert worth[-1] == pytest.approx(0.35)


def test_stalls_are_forgotten() -> None:
    way = Way(CONVERSATION)
    way.run(2)
    for _ in range(10):
        way.stall(0.3)
        way.run(1.7)
    assert way.worth() > 0.3
    way.run(4 * CONVERSATION.memory)
    assert way.worth() == 0.0


def test_what_is_remembered_is_bounded() -> None:
    way = Way(PlayoutCost(1.0, memory=1e6, least_delay=0.0, patience=1.0))
    for _ in range(3 * StallHistory.MAX_STALLS):
        way.stall(0.12)
        way.run(2.0)
    assert len(way.history._stalls) == StallHistory.MAX_STALLS


def test_costs_have_names() -> None:
    assert find_playout_cost("conversation") is CONVERSATION
    assert find_playout_cost("listening") is LISTENING
    with pytest.raises(LocalError, match="conversation or listening"):
        find_playout_cost("music")
