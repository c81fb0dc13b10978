"""How busy the media thread is, and what follows it."""

from __future__ import annotations

import asyncio

import pytest

from bench._virtual import VirtualLoop
from stack.aio.load import INTERVAL, LoadWatch
from stack.voice.audio_line import COMPLEXITY_LOWERED, COMPLEXITY_RAISED
from stack.voice.conversation import ConversationConfig
from tests.sim.calls import CallPair


def test_the_load_is_told_once_a_second_until_it_stops() -> None:
    loop, spent, told = VirtualLoop(), iter((10.0, 10.25, 11.25, 13.25, 99.0)), []

    async def scenario() -> LoadWatch:
        watch = LoadWatch(told.append, lambda: next(spent))
        assert watch.load == 0.0
        await asyncio.sleep(3.5 * INTERVAL)
        watch.stop()
        await asyncio.sleep(5 * INTERVAL)
        return watch

    watch = loop.run_until_complete(scenario())
    loop.close()
    assert told == [pytest.approx(0.25), pytest.approx(1.0), 1.0]  # a clock that is coarse gives no more than all
    assert watch.load == 1.0


@pytest.mark.parametrize(("complexity", "lowered", "raised"), [("auto", 2, 2), (5, 0, 0)])
def test_a_conversation_follows_it_and_counts(complexity: int | str, lowered: int, raised: int) -> None:
    server = CallPair(server=ConversationConfig(complexity=complexity)).right.machine
    for load in [0.9] * 3 + [0.1] * 12:
        server.note_load(load)
    counters = server.all_counters()
    assert (counters[COMPLEXITY_LOWERED], counters[COMPLEXITY_RAISED]) == (lowered, raised)
    assert server.required_line.sender.complexity == 5
