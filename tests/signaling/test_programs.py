"""Programs of every kind, and the offline assistant, on real calls over loopback."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import pytest

from stack import Call
from stack.agents import assistant
from stack.aio import CallEnded, Host, HostConfig
from stack.core.errors import LocalError, StackError
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, Serving, serving
from stack.voice.conversation import ConversationConfig
from stack.voice.endpointing import Pause
from stack.voice.events import Utterance
from stack.voice.turns import Eagerness, TurnMode, TurnSettings
from tests.listening import listen

pytestmark = pytest.mark.real_clock

RATE = 16_000


def voice(seconds: float, frequency: float = 200.0) -> np.ndarray:
    """A harmonic sound, which the energy detector takes for speech."""
    at = np.arange(round(seconds * RATE)) / RATE
    return (3000 * sum(np.sin(2 * np.pi * frequency * k * at) / k for k in range(1, 6))).astype(np.int16)


def hush(seconds: float) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 10, round(seconds * RATE)).astype(np.int16)


TURN = np.concatenate([hush(0.6), voice(0.8), hush(1.2)])


@asynccontextmanager
async def calling(program: Callable[..., Any], **turns: Any) -> AsyncIterator[tuple[Call, Serving]]:
    """A call to a server that runs `program`, with short silences."""
    settings = TurnSettings(**{"silence_duration_ms": 300, **turns})
    media = HostConfig(udp_port=0, conversation=ConversationConfig(detector="energy", echo="off", turns=settings))
    async with (
        asyncio.timeout(60),
        serving(program, ServeConfig(port=0, media=media)) as server,
        dial(server.url) as placed,
    ):
        await placed.call.wait_connected()
        yield placed.call, server


async def pitch_of_next_sound(call: Call) -> float:
    """Return the loudest frequency of the next half second that is not silence."""
    loud: list[np.ndarray] = []
    async for frame in call.microphone:
        if loud or np.abs(frame.samples).max() > 500:
            loud.append(frame.samples)
        if len(loud) == 25:
            break
    sound = np.concatenate(loud)[1600:].astype(float)
    return float(np.argmax(np.abs(np.fft.rfft(sound))) * RATE / len(sound))


def plain(utterance: Utterance) -> tuple[np.ndarray, int]:
    time.sleep(0.02)  # it may block
    return voice(0.8, 300), RATE


def generator(utterance: Utterance) -> Iterator[tuple[np.ndarray, int]]:
    for _ in range(4):
        time.sleep(0.02)
        yield voice(0.2, 300), RATE


async def asynchronous(utterance: Utterance) -> AsyncIterator[tuple[np.ndarray, int]]:
    for _ in range(4):
        await asyncio.sleep(0.02)
        yield voice(0.2, 300), RATE


async def whole(call: Call) -> None:
    async for _ in call.utterances():
        async with call.reply() as reply:
            await reply.write(voice(0.8, 300), RATE)


@pytest.mark.parametrize("program", [plain, generator, asynchronous, whole])
async def test_every_kind_of_program_answers_a_turn(program: Callable[..., Any]) -> None:
    async with calling(program) as (call, _):
        call.speaker.write(TURN, RATE)
        assert await pitch_of_next_sound(call) == pytest.approx(300, abs=8)


async def test_an_interrupted_reply_ends_its_block_and_says_what_was_heard() -> None:
    replies: list[tuple[bool, float]] = []
    done = asyncio.Event()

    async def program(call: Call) -> None:
        async with call.reply() as reply:
            for _ in range(600):  # a minute, faster than real time
                await reply.write(voice(0.1, 300), RATE)
            pytest.fail("the block should have ended")
        replies.append((reply.interrupted, reply.heard_ms))
        async with call.reply() as reply:
            await reply.write(voice(0.3, 700), RATE)
        replies.append((reply.interrupted, reply.heard_ms))
        done.set()
        await call.wait_ended()

    async with calling(program, resume_after_ms=None) as (call, _):
        call.speaker.write(np.concatenate([hush(1.5), voice(0.8), hush(1.0)]), RATE)
        await asyncio.wait_for(done.wait(), 30)
    (first, heard), (second, whole_ms) = replies
    assert first
    assert 800 < heard < 3000
    assert not second
    assert whole_ms == pytest.approx(300, abs=30)


async def test_a_second_reply_at_once_is_refused() -> None:
    refused = asyncio.Event()

    async def program(call: Call) -> None:
        async with call.reply() as reply:
            await reply.write(voice(0.2), RATE)
            with pytest.raises(LocalError, match="another reply"):
                async with call.reply():
                    pass
            refused.set()

    async with calling(program) as (call, _):
        await asyncio.wait_for(refused.wait(), 20)
        await call.wait_ended()


async def test_a_program_interrupts_itself() -> None:
    outcome: list[bool] = []

    async def program(call: Call) -> None:
        async with call.reply() as reply:
            await reply.write(voice(5.0), RATE)
            asyncio.get_running_loop().call_later(0.3, call.interrupt)
        outcome.append(reply.interrupted)

    async with calling(program) as (call, _):
        await call.wait_ended()
    assert outcome == [True]


async def test_a_cancelled_program_stays_cancelled() -> None:
    """Only the interruption's own cancellation ends at the block."""
    seen: list[str] = []

    async def program(call: Call) -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(0.3, task.cancel)
        try:
            async with call.reply() as reply:
                await reply.write(voice(5.0), RATE)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        seen.append("went on")

    async with calling(program) as (call, _):
        await call.wait_ended()
    assert seen == ["cancelled"]


async def test_a_program_may_bring_the_rules_of_turns_that_suit_it() -> None:
    seen: list[TurnSettings] = []

    async def program(call: Call) -> None:
        seen.append(await call.turn_settings())

    program.turns = TurnSettings(pause_ms=100.0)  # type: ignore[attr-defined]
    for asked in ({"silence_duration_ms": 500.0}, {"silence_duration_ms": 900.0}):
        async with calling(program, **asked) as (call, _):
            await call.wait_ended()
    assert [rules.pause_ms for rules in seen] == [100.0, 200.0], "what the host was told goes first"


async def test_an_endpointer_makes_turns_semantic_where_nobody_says_what_they_are() -> None:
    async def program(call: Call) -> None:
        """Says nothing of turns."""

    smart = ConversationConfig(endpointer="smart-turn:x.onnx")
    assert Host(program, HostConfig(conversation=smart)).config.conversation.turns.mode is TurnMode.SEMANTIC
    assert Host(program).config.conversation.turns == TurnSettings()
    program.turns = TurnSettings(TurnMode.MANUAL)  # type: ignore[attr-defined]
    assert Host(program, HostConfig(conversation=smart)).config.conversation.turns.mode is TurnMode.MANUAL


async def test_a_program_brings_its_own_endpointer() -> None:
    asked: list[tuple[str, Pause]] = []

    class Mine:
        def wait(self, pause: Pause) -> float:
            asked.append((threading.current_thread().name, pause))
            return 0.4

    async def program(call: Call) -> None:
        call.use_endpointer(Mine())
        async for _ in call.utterances():
            break

    async with calling(program, mode=TurnMode.SEMANTIC, eagerness=Eagerness.LOW) as (call, _):
        call.speaker.write(TURN, RATE)
        await call.wait_ended()
    ((thread, pause),) = asked
    assert thread not in ("media", threading.current_thread().name)
    assert pause.eagerness is Eagerness.LOW
    assert 0.8 < pause.speech < 1.4


async def test_the_assistant_hears_counts_is_interrupted_and_remembers_where() -> None:
    speech = pytest.importorskip("stack.agents.speech")
    try:
        synthesiser = speech.Synthesiser(pitch=70)
        speech.Recogniser("#JSGF V1.0; grammar g; public <g> = yes;")
    except LocalError as error:
        pytest.skip(f"{error}")
    media = HostConfig(udp_port=0, conversation=ConversationConfig(echo="off"))

    def words(text: str) -> np.ndarray:
        sound = synthesiser.speak(text)
        quiet = np.random.default_rng(2).normal(0, 10, synthesiser.sample_rate).astype(np.int16)
        return np.concatenate([quiet[: synthesiser.sample_rate // 4], sound, quiet, quiet])

    async with (
        asyncio.timeout(90),
        serving(assistant, ServeConfig(port=0, media=media)) as server,
        dial(server.url) as placed,
    ):
        call = placed.call
        await call.wait_connected()
        events = await call.open_channel("events")
        told: list[dict[str, Any]] = []

        async def until(kind: str, **fields: Any) -> dict[str, Any]:
            async for message in events:
                told.append(json.loads(message))
                if told[-1]["type"] == kind and all(told[-1].get(key) == value for key, value in fields.items()):
                    return told[-1]
            raise AssertionError(f"the call ended before {kind} {fields}")

        await until("reply_finished")  # the greeting
        call.speaker.write(words("count aloud"), synthesiser.sample_rate)
        assert (await until("transcript", role="user"))["text"] == "count aloud"
        await until("reply_started")
        await listen(call, 2.0)
        call.speaker.write(words("what time is it"), synthesiser.sample_rate)
        held = await until("reply_held")
        interrupted = await until("reply_interrupted")
        assert 1000 < interrupted["heard_ms"] <= interrupted["sent_ms"]
        assert held["stop_ms"] < 1000
        assert (await until("transcript", role="user"))["text"] == "what time is it"
        assert (await until("transcript", role="agent"))["text"].startswith("It is ")
        await until("reply_finished")
        call.speaker.write(words("what did i say when i interrupted you"), synthesiser.sample_rate)
        await until("transcript", role="user")
        assert "what time is it" in (await until("transcript", role="agent"))["text"].lower()


async def told(channel: Any, kind: str) -> dict[str, Any]:
    """Return the next message of a kind on a client's `events` channel."""
    async for text in channel:
        message: dict[str, Any] = json.loads(text)
        if message["type"] == kind:
            return message
    raise AssertionError(f"the call ended without {kind}")


async def test_a_typed_turn_is_answered_and_what_is_said_reaches_the_page() -> None:
    async def program(call: Call) -> None:
        async for utterance in call.utterances():
            assert utterance.is_typed
            call.transcribed("as it was heard")
            async with call.reply() as reply:
                reply.write_text("You said: ", duration_ms=200)
                await reply.write(voice(0.2, 300), RATE)
                reply.write_text(utterance.text)
                await reply.write(voice(0.6, 300), RATE)

    async with calling(program) as (call, _):
        channel = await call.open_channel("events")
        await told(channel, "takes_turns")
        await channel.send(json.dumps({"type": "text", "text": "hello"}))
        said = await told(channel, "transcript")
        assert (said["role"], said["text"], said["final"]) == ("user", "as it was heard", True)
        first, second = await told(channel, "transcript"), await told(channel, "transcript")
        assert [first["text"], second["text"]] == ["You said: ", "hello"]
        assert (first["start_ms"], first["duration_ms"], second["start_ms"]) == (0.0, 200, 200.0)
        assert await pitch_of_next_sound(call) == pytest.approx(300, abs=8)


@pytest.mark.parametrize("late", [False, True])
async def test_a_program_that_raises_ends_its_call_and_says_so(
    late: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(call: Call) -> None:
        if late:
            await call.channels.wait_for("events")
        raise ValueError("what no client may read")

    async with calling(broken) as (call, server):
        channel = await call.open_channel("events")
        assert await told(channel, "program_failed") == {"type": "program_failed"}
        await call.wait_ended()
        assert "what no client may read" in caplog.text
        for _ in range(50):
            await asyncio.sleep(0.01)
            if not server.host.calls:
                break
        assert (await server.host.all_counters())["host.program_failed"] == 1


async def _leaves(call: Call) -> None:
    raise SystemExit(2)


async def _is_closed(call: Call) -> None:
    raise GeneratorExit


async def _awaits_what_is_cancelled(call: Call) -> None:
    work = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    work.cancel()
    await work


def _has_nothing(utterance: Utterance) -> object:
    return next(iter(()))


def _leaves_in_its_thread(utterance: Utterance) -> None:
    raise SystemExit(2)


@pytest.mark.parametrize(
    "broken", [_leaves, _is_closed, _awaits_what_is_cancelled, _has_nothing, _leaves_in_its_thread]
)
async def test_whatever_a_program_raises_ends_its_call_and_no_other(broken: Callable[..., Any]) -> None:
    async with calling(broken) as (call, server), dial(server.url) as other:
        channel = await call.open_channel("events")
        if broken in (_has_nothing, _leaves_in_its_thread):
            await channel.send(json.dumps({"type": "text", "text": "hello"}))
        assert await told(channel, "program_failed") == {"type": "program_failed"}
        await call.wait_ended()
        assert (await server.host.all_counters())["host.program_failed"] >= 1
        if broken in (_has_nothing, _leaves_in_its_thread):
            assert not other.call.ended, "it has said nothing yet"


async def test_a_client_without_a_channel_does_not_keep_a_failed_call() -> None:
    async def broken(call: Call) -> None:
        raise ValueError

    async with calling(broken) as (call, _):
        await call.wait_ended()


async def _writes_on(call: Call) -> None:
    while True:
        call.speaker.write(np.full(160, 1000, np.int16), 16_000)
        await call.speaker.drained()


async def _listens_on(call: Call) -> None:
    while True:
        async for _ in call.utterances():
            break


async def _replies_on(call: Call) -> None:
    while True:
        with suppress(CallEnded):
            async with call.reply() as reply:
                await reply.write(np.full(160, 1000, np.int16), 16_000)


async def _waits_on(call: Call) -> None:
    while True:
        await call.wait_ended()


async def _opens_on(call: Call) -> None:
    while True:
        with suppress(StackError):
            await call.channels.wait_for("none of this name")


@pytest.mark.parametrize("program", [_writes_on, _listens_on, _replies_on, _waits_on, _opens_on])
async def test_a_program_that_goes_on_after_its_call_does_not_hold_the_server(
    program: Callable[[Call], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never waits for anything any more; the server lives on, and ends it."""
    monkeypatch.setattr("stack.aio.program_runner.END_GRACE", 0.05)
    async with calling(program) as (call, server):
        call.hang_up()
        await asyncio.wait_for(call.wait_ended(), 10)
        async with asyncio.timeout(10):
            while server.host.calls:
                await asyncio.sleep(0.01)
