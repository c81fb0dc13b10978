"""The local assistant on real calls over loopback, with a process that stands in for its models."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from stack.agents import AGENTS
from stack.agents.local.agent import BUSY, LONGEST, TurnAudio, local_assistant
from stack.agents.local.draft import AHEAD, Draft
from stack.agents.local.text import GREETING
from stack.aio import HostConfig
from stack.audio import AudioFrame
from stack.core.errors import LocalError
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, serving
from stack.voice.conversation import ConversationConfig
from stack.voice.turns import TurnSettings

RATE = 16_000


def speech(seconds: float) -> np.ndarray:
    """A harmonic sound, which the energy detector takes for speech."""
    at = np.arange(round(seconds * RATE)) / RATE
    return (3000 * sum(np.sin(2 * np.pi * 200 * k * at) / k for k in range(1, 6))).astype(np.int16)


def hush(seconds: float) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 10, round(seconds * RATE)).astype(np.int16)


class Person:
    """Calls the assistant, and reads what the page would."""

    def __init__(self, call, events):
        self.call, self._events = call, events
        self.told = []

    def say(self, *parts):
        self.call.speaker.write(np.concatenate(parts), RATE)

    async def until(self, kind, **fields):
        async for message in self._events:
            told = json.loads(message)
            self.told.append(told)
            if told["type"] == kind and all(told.get(key) == value for key, value in fields.items()):
                return told
        raise AssertionError(f"the call ended before {kind} {fields}")


@asynccontextmanager
async def calling(worker, monkeypatch) -> AsyncIterator[Person]:
    monkeypatch.setattr("stack.agents.local.agent.start", lambda: worker)

    async def program(call):
        await local_assistant(call)

    turns = TurnSettings(silence_duration_ms=400, resume_after_ms=None)
    media = HostConfig(udp_port=0, conversation=ConversationConfig(detector="energy", echo="off", turns=turns))
    async with (
        asyncio.timeout(60),
        serving(program, ServeConfig(port=0, media=media)) as server,
        dial(server.url) as placed,
    ):
        await placed.call.wait_connected()
        yield Person(placed.call, await placed.call.open_channel("events"))


def thought_about(asked):
    """The conversations that the model was asked to go on from, without those that it only had to read."""
    return [head["messages"] for head in asked() if head.get("type") == "generate" and head["tokens"] > 1]


@pytest.mark.real_clock
async def test_a_conversation_with_an_interruption(worker, asked, monkeypatch):
    async with calling(worker, monkeypatch) as person:
        await person.until("reply_finished")  # the greeting
        person.say(hush(0.3), speech(1.0), hush(0.8))
        assert (await person.until("transcript", role="user"))["text"].startswith("I spoke for")
        timing = await person.until("timing")
        assert timing["drafted"], "what is said in silence is drafted at the pause"
        assert {"recognition_ms", "first_token_ms", "first_sentence_ms", "synthesis_ms"} <= timing.keys()
        first = await person.until("transcript", role="agent")
        assert (first["text"], first["start_ms"]) == ("This is number 0.", 0)
        second = await person.until("transcript", role="agent")
        assert second["start_ms"] == first["duration_ms"] == 40 * len(first["text"])
        person.say(hush(0.5), speech(1.0), hush(1.0))
        interrupted = await person.until("reply_interrupted")
        assert not (await person.until("timing"))["drafted"], "what is said over a reply waits for its clean sound"
        await person.until("reply_finished")
    _, again = thought_about(asked)
    assert [turn["role"] for turn in again] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert again[2]["content"] == GREETING
    whole = "This is number 0. This is number 1. This is number 2."
    heard = again[4]["content"]
    assert heard
    assert heard != whole
    assert whole.startswith(heard), "what was not heard was not said"
    assert len(heard) * 40 == pytest.approx(interrupted["heard_ms"], abs=250)
    assert any("stopped" in head for head in asked()), "three sentences are enough, the model was stopped"


@pytest.mark.real_clock
async def test_a_pause_that_is_none_drops_the_draft_and_the_whole_turn_is_answered(worker, asked, monkeypatch):
    async with calling(worker, monkeypatch) as person:
        await person.until("reply_finished")
        person.say(hush(0.3), speech(1.0), hush(0.3), speech(1.0), hush(0.9))
        heard = await person.until("transcript", role="user")
        assert (await person.until("timing"))["drafted"]
    questions = [messages[-1]["content"] for messages in thought_about(asked)]
    assert len(questions) == 2, "one for each pause"
    assert questions[-1] == heard["text"]
    assert questions[0] != questions[1], "the second draft heard both parts"
    assert all(len(messages) == 4 for messages in thought_about(asked)), "the dropped one is not remembered"


@pytest.mark.real_clock
async def test_the_call_ends_in_the_middle_and_the_room_is_free_again(worker, asked, monkeypatch):
    for _ in range(3):  # there is room for two
        async with calling(worker, monkeypatch) as person:
            await person.until("reply_started")
    assert sorted([worker.lease(), worker.lease()]) == [0, 1]


@pytest.mark.real_clock
async def test_who_finds_no_room_is_told_so(worker, asked, monkeypatch):
    worker.lease(), worker.lease()
    async with calling(worker, monkeypatch) as person:
        await person.call.wait_ended()
    assert [head["text"] for head in asked() if head["type"] == "synthesise"] == [BUSY]


def test_it_is_known_by_name_and_loads_before_the_first_call():
    assert AGENTS["local"] is local_assistant
    assert callable(local_assistant.prepare)


class TestDraft:
    @staticmethod
    def prompt(words):
        return [{"role": "user", "content": words}]

    async def test_from_sound_to_sound(self, worker):
        noted = []
        draft = Draft(worker, 0, self.prompt, np.zeros(2 * RATE, np.int16), note=noted.append)
        assert await draft.words() == "I spoke for 2 seconds."
        assert noted == ["I spoke for 2 seconds."]
        sounds = [sound async for sound in draft.sounds()]
        assert [sound.text for sound in sounds] == [f"This is number {index}." for index in range(3)]
        assert sounds[0].milliseconds == 40 * len("This is number 0.")

    async def test_it_does_not_run_ahead(self, worker, asked):
        draft = Draft(worker, 0, self.prompt, np.zeros(0, np.int16), "Hello?")
        other = Draft(worker, 1, self.prompt, np.zeros(2 * RATE, np.int16))
        spoken = [sound async for sound in other.sounds()]  # meanwhile, the first could be made to its end
        said = sum(head.get("type") == "synthesise" for head in asked())
        assert 0 < said - len(spoken) <= AHEAD + 1
        draft.drop()

    async def test_what_went_wrong_is_raised_where_it_is_used(self, worker):
        draft = Draft(worker, 0, self.prompt, np.zeros(0, np.int16), "Fail.")
        with pytest.raises(LocalError, match="it hurts"):
            [sound async for sound in draft.sounds()]
        with pytest.raises(LocalError, match="it hurts"):
            await draft.words()


class TestEars:
    @staticmethod
    def add(audio, start, seconds, value=1):
        for index in range(round(seconds / 0.02)):
            audio.add(AudioFrame(np.full(320, value, np.int16), RATE, start + index * 0.02, False))

    def test_from_where_the_turn_begins(self):
        audio = TurnAudio()
        self.add(audio, 0.0, 1.0, value=1)
        self.add(audio, 1.0, 1.0, value=2)
        audio.speech_started(1.0, over_reply=False)
        sound = audio.speech()
        assert len(sound) == RATE
        assert set(sound) == {2}
        audio.speech_started(1.5, over_reply=False)  # after a pause
        assert audio.begins == 1.0

    def test_not_what_is_said_over_a_reply(self):
        audio = TurnAudio()
        self.add(audio, 0.0, 1.0)
        audio.speech_started(0.5, over_reply=True)
        assert audio.speech() is None
        audio.turn_over()
        audio.speech_started(0.5, over_reply=False)
        assert audio.speech() is not None

    def test_a_hole_is_silence_and_so_is_what_was_before_the_stream(self):
        audio = TurnAudio()
        audio.speech_started(-0.1, over_reply=False)
        self.add(audio, 0.0, 0.2)
        self.add(audio, 0.3, 0.2)
        sound = audio.speech()
        assert len(sound) == 0.6 * RATE
        assert [sound[round(at * RATE)] for at in (0.05, 0.15, 0.35, 0.45)] == [0, 1, 0, 1]

    def test_not_a_part_of_a_turn(self):
        audio = TurnAudio()
        assert audio.speech() is None
        audio.speech_started(0.0, over_reply=False)
        assert audio.speech() is None
        self.add(audio, 0.0, LONGEST + 2.0)
        assert audio.speech() is None

    def test_other_rates(self):
        audio = TurnAudio()
        audio.speech_started(0.0, over_reply=False)
        audio.add(AudioFrame(np.zeros(480, np.int16), 24_000, 0.0, False))
        assert len(audio.speech()) == 320
