"""What the users of `bench world` call: `bench._world_program:answer`.

It speaks at once, and goes on until it is told otherwise on the channel `world`: `listen` has it answer each click
with a beep, and say when it heard the click (seconds, by the machine's monotonic clock, which all processes here
have in common); `speak` has it say one long reply, which the person may interrupt.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from itertools import cycle

import numpy as np

from bench._world_sound import RATE, ClickDetector, noise, tone
from stack import Call
from stack.aio import DataChannel

AHEAD, PIECE = 0.7, 0.1
"""Seconds of a reply that are written ahead, and at once."""
GREETING = tone(440, 0.3)
VOICE = noise(20.0)
BEEP = tone(600, 0.08)


async def answer(call: Call) -> None:
    """Speak, listen, or be interrupted, as the user says."""
    async with call.reply() as voice:
        await voice.write(GREETING, RATE)
    doing = asyncio.create_task(_speak_always(call))
    channel = await call.open_channel("world")
    try:
        async for message in channel:
            doing.cancel()
            with suppress(asyncio.CancelledError):
                await doing
            if message == "listen":
                call.interrupt()
                call.speaker.flush()
                doing = asyncio.create_task(_answer_clicks(call, channel))
            else:
                doing = asyncio.create_task(_speak(call))
    finally:
        doing.cancel()


async def _speak_always(call: Call) -> None:
    while not call.ended:
        await _speak(call)


async def _speak(call: Call) -> None:
    """Say a long reply, until it is interrupted or the call is over."""
    clock = asyncio.get_running_loop().time
    async with call.reply() as voice:
        begun, written = clock(), 0.0
        pieces = cycle(np.split(VOICE, round(len(VOICE) / RATE / PIECE)))
        while not call.ended:
            await voice.write(next(pieces), RATE)
            written += PIECE
            await asyncio.sleep(max(0.0, written - AHEAD - (clock() - begun)))


async def _answer_clicks(call: Call, channel: DataChannel) -> None:
    clicks = ClickDetector()
    async for frame in call.microphone:
        heard = time.monotonic()
        if clicks.hears(frame.samples):
            call.speaker.write(BEEP, RATE)
            await channel.send(repr(heard))
