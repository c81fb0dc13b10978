"""How a call ends for the test of a program: the same in virtual time and over loopback."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from stack import Call, LocalError, Utterance
from stack.testing import Caller, calling, run_call
from stack.voice.config import ConversationConfig

RATE = 16_000
TONE = (9000 * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)).astype(np.int16)
LOUD = ConversationConfig(detector="energy", echo="off")

IN_BOTH = pytest.mark.parametrize("virtual", [True, pytest.param(False, marks=pytest.mark.real_clock)])


async def broken(call: Call) -> None:
    raise ValueError("no such thing")


async def broken_later(call: Call) -> None:
    call.speaker.write(TONE[: RATE // 2], RATE)
    await call.speaker.drained()
    raise ValueError("no such thing")


def broken_answer(utterance: Utterance) -> None:
    raise ValueError("no such thing")


async def broken_at_the_end(call: Call) -> None:
    await call.wait_ended()
    raise ValueError("no such thing")


async def failed_by_its_test(call: Call) -> None:
    pytest.fail("no such thing")


async def listening(caller: Caller) -> None:
    await caller.listen(300)


async def asking(caller: Caller) -> None:
    await caller.say((TONE, RATE))
    await caller.reply_heard(timeout=300)


async def short(caller: Caller) -> None:
    await caller.listen(0.1)


@IN_BOTH
@pytest.mark.parametrize(
    ("program", "scenario"),
    [
        (broken, listening),
        (broken, asking),
        (broken_later, listening),
        (broken_answer, asking),
        (broken_at_the_end, short),
        (failed_by_its_test, listening),
    ],
)
def test_what_the_program_raises_ends_the_scenario_and_is_raised(
    program: Callable[..., object], scenario: Callable[[Caller], Awaitable[None]], virtual: bool
) -> None:
    with pytest.raises((ValueError, pytest.fail.Exception), match="no such thing"):
        run_call(program, within(scenario), config=LOUD, virtual=virtual)


def within(scenario: Callable[[Caller], Awaitable[None]]) -> Callable[[Caller], Awaitable[None]]:
    """Have a scenario that nothing ends fail the test before it is over."""

    async def bounded(caller: Caller) -> None:
        async with asyncio.timeout(15):
            await scenario(caller)

    return bounded


@IN_BOTH
def test_what_the_scenario_raises_first_is_raised(virtual: bool) -> None:
    async def scenario(caller: Caller) -> None:
        raise KeyError("first")

    with pytest.raises(KeyError, match="first"):
        run_call(broken_at_the_end, scenario, virtual=virtual)


@IN_BOTH
@pytest.mark.parametrize("hangs_up", [True, False])
def test_a_program_may_be_done_at_once(hangs_up: bool, virtual: bool) -> None:
    async def program(call: Call) -> None:
        if hangs_up:
            call.hang_up()

    async def scenario(caller: Caller) -> str:
        await caller.until(lambda: caller.call.ended)
        return "it ended"

    assert run_call(program, scenario, virtual=virtual) == "it ended"


@IN_BOTH
def test_a_program_that_speaks_after_the_end_has_not_failed(virtual: bool) -> None:
    async def program(call: Call) -> None:
        await call.wait_ended()
        async with call.reply() as voice:
            await voice.write(TONE, RATE)

    run_call(program, short, virtual=virtual)


@IN_BOTH
def test_a_program_whose_work_was_cancelled_has_failed(virtual: bool) -> None:
    async def program(call: Call) -> None:
        work = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)
        work.cancel()
        await work

    with pytest.raises(LocalError, match="cancelled by something that it awaited"):
        run_call(program, within(listening), virtual=virtual)


@IN_BOTH
def test_a_scenario_that_is_ended_is_cleaned_up_before_the_call_is_over(virtual: bool) -> None:
    ended: list[bool] = []

    async def scenario(caller: Caller) -> None:
        try:
            await caller.listen(30)
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    with pytest.raises(ValueError, match="no such thing"):
        run_call(broken, scenario, virtual=virtual)
    assert ended == [True]


@pytest.mark.real_clock
async def test_what_the_program_raised_explains_what_the_block_raises() -> None:
    with pytest.raises(ValueError, match="no such thing"):
        async with asyncio.timeout(30), calling(broken_later, config=LOUD) as caller:
            await caller.until(lambda: caller.call.ended)
            raise AssertionError("heard nothing")


async def deaf(call: Call) -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def deaf_to_everything(call: Call) -> None:
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.Event().wait()


async def deaf_generator(utterance: Utterance) -> AsyncIterator[None]:
    while True:
        with contextlib.suppress(BaseException):
            yield None
            await asyncio.Event().wait()


async def dividing(caller: Caller) -> None:
    raise ZeroDivisionError


async def talking(caller: Caller) -> None:
    await caller.say((TONE, RATE))


@pytest.fixture
def _short_graces(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("END_GRACE", "LAST_GRACE"):
        monkeypatch.setattr(f"stack.aio.program_runner.{name}", 0.05)


@IN_BOTH
@pytest.mark.parametrize("program", [deaf, deaf_to_everything, deaf_generator])
@pytest.mark.usefixtures("_short_graces")
def test_a_program_that_swallows_its_cancel_is_an_error_in_bounded_time(
    program: Callable[..., object], virtual: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(LocalError, match="does not end although it was cancelled"):
        run_call(program, talking, config=LOUD, virtual=virtual)
    with pytest.raises(ZeroDivisionError):  # of both, what the scenario raises
        run_call(program, dividing, config=LOUD, virtual=virtual)
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert all("still runs 0.05 s after it was cancelled: it is left" in line for line in told)
    assert virtual or told


@pytest.mark.real_clock
@pytest.mark.usefixtures("_short_graces")
async def test_a_block_is_left_although_the_program_does_not_end() -> None:
    async with asyncio.timeout(30):
        with pytest.raises(LocalError, match="does not end although it was cancelled"):
            async with calling(deaf_to_everything):
                pass


STUCK = """
import asyncio, atexit, contextlib, time
from stack import LocalError
from stack.aio import program_runner
from stack.testing import run_call

program_runner.END_GRACE = program_runner.LAST_GRACE = 0.05
atexit.register(print, "the end")


async def deaf(call):
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(3600)


async def deaf_with_a_socket(call):
    await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    await deaf(call)


async def waits_for_a_thread(call):
    await asyncio.to_thread(time.sleep, 3600)


async def scenario(caller):
    await caller.listen(0.05)


for program, virtual in ((deaf, True), (deaf, False), (deaf_with_a_socket, True), (waits_for_a_thread, False)):
    try:
        run_call(program, scenario, virtual=virtual)
    except LocalError as error:
        print(error)
"""


@pytest.mark.real_clock
def test_the_process_ends_too_and_as_it_would_without() -> None:
    """Also where a coroutine that is thrown away would go round for ever, and where a thread does not return."""
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    deaf = "the program does not end although it was cancelled"
    network = "this program uses the network, which virtual time cannot wait for: say virtual=False"
    assert done.stdout.splitlines() == [deaf, deaf, network, "the end"]
    assert len(done.stderr.splitlines()) == 2  # of the log: a program and a function are left
    assert "the function sleep still runs in a thread, and is left" in done.stderr


def test_a_function_that_does_not_return_is_an_error_in_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.testing.clock.THREAD_PATIENCE", 0.05)
    never = threading.Event()

    def answer(utterance: Utterance) -> None:
        never.wait()

    with pytest.raises(LocalError, match=r"answer has not returned in 0\.05 s"):
        run_call(answer, asking, config=LOUD)
    never.set()


async def gone(call: Call) -> None:
    return


async def waiting_for_a_reply(caller: Caller) -> None:
    await caller.reply_heard(timeout=300)


async def waiting_for_a_condition(caller: Caller) -> None:
    await caller.until(lambda: False, timeout=300)


async def speaking(caller: Caller) -> None:
    await caller.say((np.tile(TONE, 300), RATE))


async def speaking_after_the_end(caller: Caller) -> None:
    await caller.listen(3)
    await caller.say((TONE, RATE))


@pytest.mark.parametrize(
    "scenario", [waiting_for_a_reply, waiting_for_a_condition, speaking, speaking_after_the_end]
)
def test_nothing_is_waited_for_once_the_call_has_ended(scenario: Callable[[Caller], Awaitable[None]]) -> None:
    async def timed(caller: Caller) -> float:
        with pytest.raises(LocalError, match="the call has ended"):
            await scenario(caller)
        return caller.now

    assert run_call(gone, timed) < 10


def test_waiting_leaves_no_tasks() -> None:
    async def scenario(caller: Caller) -> int:
        before = len(asyncio.all_tasks())
        with pytest.raises(TimeoutError):
            await caller.until(lambda: False, timeout=5)
        return len(asyncio.all_tasks()) - before

    async def program(call: Call) -> None:
        await call.wait_ended()

    assert run_call(program, scenario) <= 0


async def test_a_loop_that_runs_is_told_of_calling() -> None:
    with pytest.raises(LocalError, match="calling"):
        run_call(gone, short)


@pytest.mark.parametrize(
    ("speech", "silence", "told"),
    [
        ((TONE, 0), 1.0, "a rate is in Hz"),
        ((TONE, -1), 1.0, "a rate is in Hz"),
        ((TONE, float("nan")), 1.0, "a rate is in Hz"),
        ((TONE, RATE), -1.0, "silence is seconds"),
        ((TONE, RATE), float("nan"), "silence is seconds"),
        (None, 1.0, "not NoneType"),
        ((TONE, RATE, 1), 1.0, "not tuple"),
        ((TONE[:0], RATE), 1.0, "nothing is to be said"),
        (" ", 1.0, "nothing is to be said"),
        ("/nope.wav", 1.0, "No such file"),
        ("/nope.mp3", 1.0, "No such file"),
    ],
)
def test_what_cannot_be_said_is_told_at_once(speech: Any, silence: float, told: str) -> None:
    async def program(call: Call) -> None:
        await call.wait_ended()

    async def scenario(caller: Caller) -> float:
        with pytest.raises(LocalError, match=told):
            await caller.say(speech, silence=silence)
        return caller.now

    assert run_call(program, scenario) < 0.1
