"""Programs for pages under test: `python -m stack serve --agent interop.programs:answering`."""

from __future__ import annotations

import numpy as np

from stack.aio import Call
from stack.voice import TurnMode, TurnSettings

RATE = 16_000
TONE = (8000 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)).astype(np.int16)
ANSWER = "Two seconds of a tone."


async def answering(call: Call) -> None:
    """Take turns, spoken or typed, and answer each with two seconds of a tone, in words, too."""
    async for utterance in call.utterances():
        if not utterance.is_typed:
            call.transcribed("something was said")
        async with call.reply() as voice:
            for word in ANSWER.split(" "):
                voice.write_text(word if word == "Two" else f" {word}")
            await voice.write(TONE, RATE)


async def asking_for_a_key(call: Call) -> None:
    """Take turns that a key begins and ends."""
    call.configure_turns(TurnSettings(mode=TurnMode.MANUAL))
    await answering(call)


async def failing(call: Call) -> None:
    """Raise at once."""
    raise ValueError("a secret of the program")
