"""A real call through a loudspeaker that the microphone hears: late timers and all, which virtual time has not."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from interop import monologue
from stack import Call
from stack.aio import HostConfig
from stack.audio import read_wav
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, serving
from stack.voice.conversation import ConversationConfig
from stack.voice.events import ReplyHeld
from stack.voice.turns import TurnSettings

pytestmark = [
    pytest.mark.real_clock,
    pytest.mark.skipif(not monologue.RECORDINGS.exists(), reason="no recorded speech: pocketsphinx-testdata"),
]

FRAME = 320
ALONE = 9 * 50
"""Frames for which only the program is to be heard: nine seconds."""


async def in_a_room(call: Call, interruption: np.ndarray, alone: asyncio.Event) -> None:
    """Let the microphone hear the loudspeaker, 6 dB down and through a room, and after a while a person, too."""
    room = np.random.default_rng(1).standard_normal(800) * 10 ** (-np.arange(800) / 300)
    room *= 0.5 / np.sqrt((room**2).sum())
    past, frames = np.zeros(799), 0
    async for frame in call.microphone:
        sound = np.concatenate([past, frame.samples])
        past = sound[-799:]
        heard = np.convolve(sound, room, "valid")
        frames += bool(frames) or np.abs(frame.samples).max() > 500
        if frames > ALONE:
            alone.set()
            said, interruption = interruption[: len(heard)], interruption[len(heard) :]
            heard[: len(said)] += said
        call.speaker.write(np.clip(heard, -32768, 32767).astype(np.int16), frame.sample_rate)


async def test_a_program_does_not_interrupt_itself_and_a_person_does() -> None:
    held: list[bool] = []  # whether the person had spoken by then
    alone, over = asyncio.Event(), asyncio.Event()

    async def program(call: Call) -> None:
        async def watch() -> None:
            async for event in call.events:
                if isinstance(event, ReplyHeld):
                    held.append(alone.is_set())
                    over.set()

        watching = asyncio.create_task(watch())
        async with call.reply() as voice:
            await voice.write(np.tile(monologue.reply_sound(1), 2), monologue.RATE)
        watching.cancel()

    person = read_wav(sorted((monologue.RECORDINGS / "cards").glob("*.wav"))[0])[0].astype(float)
    turns = TurnSettings(resume_after_ms=None)
    media = HostConfig(udp_port=0, conversation=ConversationConfig(turns=turns))
    async with (
        asyncio.timeout(40),
        serving(program, ServeConfig(port=0, media=media)) as server,
        dial(server.url) as placed,
    ):
        await placed.call.wait_connected()
        room = asyncio.create_task(in_a_room(placed.call, person, alone))
        await over.wait()
        room.cancel()
    assert held == [True]
