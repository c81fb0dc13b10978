"""Judging the ends of turns beside a call: an endpointer that takes its time, held by hand."""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
from collections.abc import Callable

import numpy as np
import pytest

from stack.aio import Call, CallContext, control_of
from stack.aio.endpointing import Endpointing
from stack.session import Ended, EndReason
from stack.voice.commands import NoteEndOfTurn, ReportPauses
from stack.voice.endpointing import Pause
from stack.voice.events import TurnPaused, UserStartedSpeaking, Utterance, UtteranceDiscarded

NOTHING = np.zeros(0, np.int16)


def question(number: int) -> TurnPaused:
    return TurnPaused(number, Pause(NOTHING, float(number)))


class Slow:
    """Says that `speech` seconds are to be waited, when it is let."""

    def __init__(self) -> None:
        self.asked: queue.Queue[float] = queue.Queue()
        self.may_answer: queue.Queue[None] = queue.Queue()
        self.threads: set[int] = set()
        self.at_work = 0

    def wait(self, pause: Pause) -> float:
        self.at_work += 1
        assert self.at_work == 1, "one call at a time"
        self.threads.add(threading.get_ident())
        self.asked.put(pause.speech)
        self.may_answer.get(timeout=10)
        self.at_work -= 1
        return pause.speech

    async def is_asked(self) -> float:
        return await asyncio.to_thread(self.asked.get, timeout=10)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


class Setting:
    def __init__(self, endpointer: object) -> None:
        self.answers: list[tuple[int, float]] = []
        self.given_up = 0
        self.endpointing = Endpointing(
            endpointer,  # type: ignore[arg-type]
            lambda number, wait: self.answers.append((number, wait)),
            self.give_up,
            "abcd",
        )

    def give_up(self) -> None:
        self.given_up += 1


async def test_a_pause_is_judged_off_the_loop() -> None:
    slow = Slow()
    setting = Setting(slow)
    for number in (1, 2):
        setting.endpointing.take(question(number))
        slow.may_answer.put(None)
        await eventually(lambda number=number: len(setting.answers) == number)  # type: ignore[misc]
    assert setting.answers == [(1, 1.0), (2, 2.0)]
    assert threading.get_ident() not in slow.threads


async def test_while_one_is_judged_only_the_latest_waits() -> None:
    slow = Slow()
    setting = Setting(slow)
    setting.endpointing.take(question(1))
    assert await slow.is_asked() == 1.0
    setting.endpointing.take(question(2))
    setting.endpointing.take(question(3))
    slow.may_answer.put(None)
    assert await slow.is_asked() == 3.0
    slow.may_answer.put(None)
    await eventually(lambda: len(setting.answers) == 2)
    assert setting.answers == [(1, 1.0), (3, 3.0)], "whether it is too late is the conversation's business"


@pytest.mark.parametrize(
    "over",
    [UserStartedSpeaking(1.0, 80.0), Utterance(NOTHING, 16_000, 0.0, 0.0, 0.0), UtteranceDiscarded()],
    ids=lambda event: type(event).__name__,
)
async def test_a_pause_that_is_over_is_not_judged(over: UserStartedSpeaking) -> None:
    slow = Slow()
    setting = Setting(slow)
    setting.endpointing.take(question(1))
    assert await slow.is_asked() == 1.0
    setting.endpointing.take(question(2))
    setting.endpointing.take(over)
    slow.may_answer.put(None)
    await eventually(lambda: len(setting.answers) == 1)
    setting.endpointing.take(question(3))
    assert await slow.is_asked() == 3.0
    slow.may_answer.put(None)
    await eventually(lambda: len(setting.answers) == 2)


class Broken:
    def __init__(self, answer: float | None = None) -> None:
        self.answer = answer
        self.asked = 0

    def wait(self, pause: Pause) -> float:
        self.asked += 1
        if self.answer is None:
            raise RuntimeError("the model is corrupt")
        return self.answer


@pytest.mark.parametrize("answer", [None, math.nan, math.inf])
async def test_one_that_fails_is_asked_no_more_and_the_log_says_so_once(
    answer: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Broken(answer)
    setting = Setting(broken)
    with caplog.at_level(logging.INFO, "stack.calls"):
        setting.endpointing.take(question(1))
        await eventually(lambda: setting.given_up == 1)
        setting.endpointing.take(question(2))
        await asyncio.sleep(0)
    (record,) = caplog.records
    assert record.getMessage().startswith("call abcd: Broken failed, so the rules end its turns: ")
    assert "corrupt" in record.getMessage() or "not" in record.getMessage()
    assert (broken.asked, setting.answers) == (1, [])


async def test_one_that_never_answers_is_asked_no_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("stack.aio.endpointing.LONGEST_ANSWER", 0.0)
    slow = Slow()
    setting = Setting(slow)
    setting.endpointing.take(question(1))
    await eventually(lambda: setting.given_up == 1)
    slow.may_answer.put(None)
    setting.endpointing.take(question(2))
    assert setting.answers == []
    assert "no answer after 0 s" in caplog.text


async def test_after_the_end_nobody_is_told_anything() -> None:
    slow = Slow()
    setting = Setting(slow)
    setting.endpointing.take(question(1))
    assert await slow.is_asked() == 1.0
    setting.endpointing.take(question(2))
    setting.endpointing.close()
    setting.endpointing.take(question(3))
    slow.may_answer.put(None)
    await eventually(lambda: setting.endpointing._work is None)
    assert (setting.answers, setting.given_up, slow.asked.empty()) == ([], 0, True)


class Line:
    """A call, and what it has the conversation do."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []
        self.call = Call("abcd", CallContext(), self, lambda: 7.0)

    def submit(self, command: object) -> None:
        match command:
            case ReportPauses(wanted):
                self.done.append(("report", wanted))
            case NoteEndOfTurn(number, wait):
                self.done.append(("note", number, wait))


async def test_a_call_has_its_pauses_judged_until_it_is_told_otherwise() -> None:
    line, slow, other = Line(), Slow(), Slow()
    for _ in range(3):
        slow.may_answer.put(None)
    line.call.use_endpointer(slow)
    control_of(line.call).deliver(question(1))
    await eventually(lambda: len(line.done) == 2)
    line.call.use_endpointer(other)
    control_of(line.call).deliver(question(2))
    assert await other.is_asked() == 2.0
    line.call.use_endpointer(None)
    other.may_answer.put(None)
    control_of(line.call).deliver(question(3))
    assert line.done == [("report", True), ("note", 1, 1.0), ("report", True), ("report", False)]
    assert len(line.call.events) == 0, "a question is none of the program's events"


async def test_a_call_whose_endpointer_fails_is_left_to_the_rules() -> None:
    line = Line()
    line.call.use_endpointer(Broken())
    control_of(line.call).deliver(question(1))
    await eventually(lambda: len(line.done) == 2)
    assert line.done == [("report", True), ("report", False)]


async def test_a_call_that_ends_asks_no_more() -> None:
    line, slow = Line(), Slow()
    line.call.use_endpointer(slow)
    control_of(line.call).deliver(question(1))
    assert await slow.is_asked() == 1.0
    control_of(line.call).deliver(Ended(EndReason.HUNG_UP))
    slow.may_answer.put(None)
    control_of(line.call).deliver(question(2))
    assert line.done == [("report", True)]
