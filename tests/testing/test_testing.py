"""The caller for tests of programs: in virtual time, and over loopback."""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path

import numpy as np
import pytest

from stack import Call, HostConfig, LocalError, Utterance
from stack.audio import write_wav
from stack.events import ReplyFinished, ReplyInterrupted, UserStartedSpeaking
from stack.testing import Caller, VirtualTimeLoop, calling, run_call
from stack.voice.config import ConversationConfig
from tests.signaling.conftest import server  # noqa: F401

RATE = 16_000
TONE = (9000 * np.sin(2 * np.pi * 500 * np.arange(5 * RATE) / RATE)).astype(np.int16)
NOISE = (6000 * np.random.default_rng(1).standard_normal(RATE)).clip(-32768, 32767).astype(np.int16)
LOUD = ConversationConfig(detector="energy", echo="off")
"""Any sound is speech: the tests need no recording and no synthesiser."""


async def storyteller(call: Call) -> None:
    """Answer each turn with five seconds of a tone."""
    async for utterance in call.utterances():
        call.transcribed(f"{utterance.duration:.1f} s")
        async with call.reply() as voice:
            voice.write_text("A story.")
            await voice.write(TONE, RATE)


async def interrupting(caller: Caller) -> tuple[float, float, float]:
    await caller.say((NOISE, RATE))
    await caller.interrupt((NOISE, RATE), after=1.0)
    first, second = await caller.reply_heard(), await caller.reply_heard()
    interrupted = await caller.wait_for(ReplyInterrupted)
    assert 1.0 <= first.duration < 1.6
    assert abs(first.duration - interrupted.heard_ms / 1000.0) < 0.2
    assert abs(len(first.samples) / RATE - first.duration) < 0.1
    assert second.duration > 4.8
    assert first.begin > caller.said[0][1]
    assert caller.text.startswith("A story.")
    assert len(caller.transcripts) == 2
    return first.begin, first.end, second.begin


def test_a_call_in_virtual_time_is_the_same_each_time_and_takes_no_time() -> None:
    began = time.process_time()
    runs = [run_call(storyteller, interrupting, config=LOUD, seed=3) for _ in range(2)]
    assert runs[0] == runs[1]
    assert time.process_time() - began < 60


@pytest.mark.real_clock
def test_the_same_over_loopback() -> None:
    run_call(storyteller, interrupting, config=LOUD, virtual=False)


def test_a_file_and_a_function_that_blocks(tmp_path: Path) -> None:
    write_wav(tmp_path / "noise.wav", NOISE, RATE)

    def answer(utterance: Utterance) -> tuple[np.ndarray, int]:
        time.sleep(0.01)  # in a thread, for which the clock stands still
        return utterance.samples[: RATE // 2], utterance.sample_rate

    async def scenario(caller: Caller) -> None:
        await caller.say(tmp_path / "noise.wav")
        heard = await caller.reply_heard()
        assert 0.4 < heard.duration < 0.6
        assert caller.all_of(UserStartedSpeaking)
        await caller.wait_for(ReplyFinished)

    run_call(answer, scenario, config=LOUD)


def test_text_is_spoken_by_a_synthesiser() -> None:
    pytest.importorskip("espeakng_loader", reason="the demo extra is not installed")

    async def scenario(caller: Caller) -> None:
        await caller.say("hello there, who are you?")
        assert (await caller.reply_heard()).duration > 4.8

    run_call(storyteller, scenario)


def test_what_the_program_raises_fails_the_test() -> None:
    async def broken(call: Call) -> None:
        raise ValueError("no such thing")

    async def scenario(caller: Caller) -> None:
        await caller.listen(60)

    with pytest.raises(ValueError, match="no such thing"):
        run_call(broken, scenario)


def test_what_the_scenario_asserts_fails_the_test() -> None:
    async def scenario(caller: Caller) -> None:
        assert caller.heard, "nothing yet"

    with pytest.raises(AssertionError, match="nothing yet"):
        run_call(storyteller, scenario)


def test_what_is_not_heard_in_time_is_said_with_what_was() -> None:
    async def scenario(caller: Caller) -> None:
        await caller.say((NOISE, RATE))
        await caller.reply_heard()
        await caller.reply_heard(timeout=20)

    with pytest.raises(TimeoutError, match=r"not within 20 s; heard by 2\d\.\d\d s: \d\.\d\d–\d\.\d\d s"):
        run_call(storyteller, scenario, config=LOUD)


def test_sound_that_is_no_speech_is_said_to_be_none() -> None:
    """A tone starts no turn: else the first test of a new user fails without a reason."""

    async def scenario(caller: Caller) -> None:
        await caller.say((TONE, RATE))
        await caller.reply_heard(timeout=3)

    with pytest.raises(
        TimeoutError, match=r"heard by \d\.\d\d s: nothing; nothing .* was taken for speech .*energy"
    ):
        run_call(storyteller, scenario)


@pytest.mark.parametrize("virtual", [pytest.param(True), pytest.param(False, marks=pytest.mark.real_clock)])
def test_what_is_no_scenario_is_told(virtual: bool) -> None:
    async def scenario(caller: Caller) -> None:
        raise AssertionError

    def plain(caller: Caller) -> int:
        return 3

    with pytest.raises(LocalError, match=r"is an async function .* caller: hand over the function itself"):
        run_call(storyteller, scenario(None), virtual=virtual)  # type: ignore[arg-type]
    with pytest.raises(LocalError, match=r"is an async function .* caller; this one returned int"):
        run_call(storyteller, plain, virtual=virtual)  # type: ignore[arg-type]


def test_a_condition_that_is_async_is_told() -> None:
    """A coroutine is true whatever it would return: the test would hold without having looked."""

    async def condition() -> bool:
        return False

    async def scenario(caller: Caller) -> None:
        with pytest.raises(LocalError, match="a condition is a plain function"):
            await caller.until(condition)

    run_call(storyteller, scenario)


async def test_what_is_no_configuration_is_told() -> None:
    for wrong in (HostConfig(), {"detector": "energy"}):
        with pytest.raises(LocalError, match="`config` is a ConversationConfig, not"):
            async with calling(storyteller, config=wrong):  # type: ignore[arg-type]
                pass
    with pytest.raises(LocalError, match="a server at a url has its own"):
        async with calling(url="http://127.0.0.1:9", config=LOUD):
            pass


def test_times_that_are_none_are_told() -> None:
    async def scenario(caller: Caller) -> None:
        for wrong in (-1.0, float("nan"), float("inf")):
            with pytest.raises(LocalError, match="listen is seconds"):
                await caller.listen(wrong)
            with pytest.raises(LocalError, match="after is seconds"):
                await caller.interrupt((NOISE, RATE), after=wrong)

    run_call(storyteller, scenario, config=LOUD)


def test_both_may_raise_at_once(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """As where program and scenario were given in the wrong order: what the program raised counts, and is all."""

    async def raising(call: Call) -> None:
        raise ZeroDivisionError

    async def scenario(caller: Caller) -> None:
        raise ValueError

    with pytest.raises((ZeroDivisionError, ValueError)):
        run_call(raising, scenario)
    gc.collect()
    assert "never retrieved" not in capsys.readouterr().err + caplog.text


def test_a_program_that_uses_the_network_is_told_to_run_over_loopback() -> None:
    async def fetching(call: Call) -> None:
        listening = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        await asyncio.sleep(0.04)
        listening.close()

    async def scenario(caller: Caller) -> None:
        await caller.listen(5)

    with pytest.raises(LocalError, match="virtual=False"):
        run_call(fetching, scenario)


def test_a_program_that_returns_is_heard_to_its_end() -> None:
    async def farewell(call: Call) -> None:
        call.speaker.write(TONE[: 2 * RATE], RATE)

    async def scenario(caller: Caller) -> None:
        heard = await caller.reply_heard()
        assert 1.9 < heard.duration < 2.1
        await caller.until(lambda: caller.call.ended)

    run_call(farewell, scenario)


@pytest.mark.real_clock
async def test_a_server_that_is_up_is_called_by_its_url(server) -> None:  # noqa: F811
    async with asyncio.timeout(30), calling(url=server.url) as caller:
        await caller.say((TONE[:RATE], RATE), silence=0.0)
        assert (await caller.reply_heard()).duration > 0.8  # the echo
        assert caller.events == []
    with pytest.raises(LocalError, match="either"):
        async with calling():
            pass


def test_the_clock_jumps_and_stands_still_for_threads() -> None:
    async def waits() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.wait({asyncio.create_task(asyncio.Event().wait())}, timeout=3600)
        slept = loop.time() - began
        beside = asyncio.create_task(asyncio.wait_for(asyncio.Event().wait(), 1))
        await asyncio.to_thread(time.sleep, 0.03)
        assert not beside.done()
        beside.cancel()
        return slept, loop.time() - began

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        slept, passed = runner.run(waits())
        assert slept == pytest.approx(3600, abs=1e-6)
        assert passed == pytest.approx(slept, abs=1e-6)


def test_waiting_for_ever_is_an_error() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    with (
        pytest.raises(LocalError, match="wait for ever"),
        asyncio.Runner(loop_factory=VirtualTimeLoop) as runner,
    ):
        runner.run(forever())


def test_what_is_typed_is_a_turn_and_what_is_told_is_known() -> None:
    async def program(call: Call) -> None:
        async for utterance in call.utterances():
            assert utterance.is_typed
            call.transcribed(utterance.text)
            call.tell({"type": "lamp", "on": True})
            if utterance.text == "hello":
                async with call.reply() as voice:
                    voice.write_text("A story.")
                    await voice.write(TONE, RATE)

    async def scenario(caller: Caller) -> None:
        await caller.type_text("hello")
        await caller.until(lambda: caller.heard and caller.heard[0].duration > 0.5)
        await caller.type_text("enough")
        assert (await caller.reply_heard()).duration < 2.0
        await caller.until(lambda: len(caller.messages) == 2)
        assert caller.transcripts == ["hello", "enough"]
        assert [turn.text for turn in caller.all_of(Utterance)] == ["hello", "enough"]
        assert caller.messages == [{"type": "lamp", "on": True}] * 2
        for nothing in ("", "  ", "x" * 5000):
            with pytest.raises(LocalError, match="some text"):
                await caller.type_text(nothing)

    run_call(program, scenario)
