"""Wake-ups under load: when the selector pauses, for how long, and what it never delays."""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Iterator

import pytest

from stack.aio.coalescing import AFTER, BUSY, CALM, INTERVAL, SET_UP, WINDOW, CoalescingSelector, MediaLoop, SetUps


class Bench:
    """A selector on a clock of its own, and a socket that is always readable."""

    def __init__(self) -> None:
        self.now = self.spent = 0.0
        self.pauses: list[float] = []
        self.selector = CoalescingSelector(lambda: self.now, lambda: self.spent, self._sleep)
        self._ours, self._theirs = socket.socketpair()
        self._theirs.send(b"x")
        self.selector.register(self._ours, selectors.EVENT_READ)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def run(self, seconds: float, share: float, step: float = 0.0005) -> None:
        """Let the thread wake up every `step` seconds and compute for a `share` of the time."""
        end = self.now + seconds
        while self.now < end:
            before = self.now
            assert self.selector.select(1.0), "what is readable is told"
            self.now = max(self.now, before + step)
            self.spent += share * (self.now - before)

    def close(self) -> None:
        self.selector.close()
        self._ours.close()
        self._theirs.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_an_idle_thread_never_waits(bench: Bench) -> None:
    bench.run(1.0, BUSY * 0.9)
    assert not bench.pauses
    assert bench.selector.share == pytest.approx(BUSY * 0.9, rel=0.1)


def test_a_busy_thread_wakes_up_once_in_an_interval(bench: Bench) -> None:
    bench.run(3 * WINDOW, BUSY * 1.5)
    assert bench.selector.is_coalescing
    bench.pauses.clear()
    begun = bench.now
    bench.run(0.2, BUSY * 1.5)
    assert len(bench.pauses) == pytest.approx((bench.now - begun) / INTERVAL, abs=2)
    assert max(bench.pauses) <= INTERVAL * 1.001  # clocks are floats


def test_it_ends_when_the_thread_is_calm_again(bench: Bench) -> None:
    bench.run(3 * WINDOW, BUSY * 1.5)
    bench.run(3 * WINDOW, (BUSY + CALM) / 2)
    assert bench.selector.is_coalescing, "coalescing lowers the share: that alone may not end it"
    bench.run(3 * WINDOW, CALM / 2)
    assert not bench.selector.is_coalescing


def test_what_is_ready_at_once_is_not_delayed(bench: Bench) -> None:
    bench.run(3 * WINDOW, BUSY * 1.5)
    bench.pauses.clear()
    bench.selector.select(0)  # asyncio asks so while callbacks wait
    assert not bench.pauses


def test_a_pause_is_part_of_the_timeout(bench: Bench) -> None:
    bench.run(3 * WINDOW, BUSY * 1.5)
    bench.selector.unregister(next(iter(bench.selector.get_map().values())).fileobj)
    bench.selector.select(INTERVAL / 2)  # it would wait in vain: nothing is registered
    assert bench.selector.select(INTERVAL / 4) == []


def test_after_a_long_sleep_there_is_no_pause(bench: Bench) -> None:
    bench.run(3 * WINDOW, BUSY * 1.5)
    bench.pauses.clear()
    bench.now += INTERVAL
    bench.selector.select(1.0)
    assert not bench.pauses


def test_the_loop_for_media_uses_it() -> None:
    loop = MediaLoop()
    try:
        assert isinstance(loop._selector, CoalescingSelector)  # type: ignore[attr-defined]
        assert loop.run_until_complete(asyncio.sleep(0, "done")) == "done"
    finally:
        loop.close()


def test_nothing_is_held_back_while_it_is_urgent(bench: Bench) -> None:
    bench.run(3 * WINDOW, BUSY * 1.5)
    bench.pauses.clear()
    bench.selector.urgent_until = bench.now + 0.1
    bench.run(0.1, BUSY * 1.5)
    assert bench.selector.is_coalescing
    assert not bench.pauses
    bench.run(0.1, BUSY * 1.5)
    assert bench.pauses


def test_a_call_is_urgent_until_it_is_set_up_or_has_taken_too_long() -> None:
    loop = MediaLoop()

    async def calls() -> list[float]:
        set_ups, seen = SetUps(), []

        def note() -> None:
            seen.append(loop.coalescing.urgent_until - loop.time())

        assert not set_ups
        set_ups.begin("one")
        set_ups.begin("other")
        note()
        set_ups.end("one")
        assert set_ups
        note()
        set_ups.end("other")
        set_ups.end("other")
        assert not set_ups
        note()
        return seen

    try:
        assert loop.run_until_complete(calls()) == pytest.approx([SET_UP, SET_UP, AFTER], abs=0.2)
    finally:
        loop.close()
