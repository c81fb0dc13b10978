"""A program that always speaks, and begins anew when it is interrupted: what a page plays of it can be measured.

Each of its replies is another piece of recorded speech without pauses, so that a recording tells which reply, and
which moment of it, was heard. `python -m stack serve --agent interop.monologue:monologue`.
"""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

import numpy as np

from stack.aio import Call
from stack.audio import Samples, read_wav
from stack.core.errors import LocalError
from stack.voice import TurnSettings

RECORDINGS = Path("/usr/share/pocketsphinx/test/data")
RATE = 16_000
LENGTH = 8.0
"""Seconds of a reply."""
AFTER = 0.050
"""Seconds from the end of one reply to the next."""
WORDS = "This is one long sentence that goes on and on until a person interrupts it at last."
_STEP = 0.731  # seconds by which each reply begins earlier in the speech: it is in none that goes before
_BLOCK = 320


@cache
def _speech() -> Samples:
    files = sorted((RECORDINGS / "librivox").glob("*.wav"))
    if not files:
        raise LocalError("no recorded speech: apt-get install pocketsphinx-testdata")
    sound = np.concatenate([read_wav(path)[0] for path in files])
    blocks = sound[: len(sound) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    power = (blocks.astype(float) ** 2).mean(axis=1)
    loud: Samples = blocks[power > power.max() / 300].reshape(-1)
    return loud


def reply_sound(number: int) -> Samples:
    """Return what is said in reply `number`, at `RATE`; it has no pauses and begins loud."""
    speech = _speech()
    start = -round(number * _STEP * RATE) % len(speech)
    blocks = np.roll(speech, -start)[:RATE].reshape(-1, _BLOCK).astype(float)
    loud = int(np.argmax((blocks**2).mean(axis=1) > (speech.astype(float) ** 2).mean()))
    return np.roll(speech, -start - loud * _BLOCK)[: int(LENGTH * RATE)]


def microphone(bursts: int, seed: int, *, quiet: float = 3.0, lead: float = 5.0) -> Samples:
    """Return a person of few words, at `RATE`: recorded speech of another voice, with about `quiet` s between."""
    files = sorted((RECORDINGS / "cards").glob("*.wav"))
    if not files:
        raise LocalError("no recorded speech: apt-get install pocketsphinx-testdata")
    random = np.random.default_rng(seed)
    parts = [np.zeros(int(lead * RATE), np.int16)]
    for index in range(bursts):
        parts.append(read_wav(files[index % len(files)])[0])
        parts.append(np.zeros(int(random.uniform(quiet - 0.5, quiet + 0.5) * RATE), np.int16))
    return np.concatenate(parts)


async def monologue(call: Call) -> None:
    """Speak without end; every interruption is final at once."""
    await call.channels.wait_for("events")
    call.configure_turns(TurnSettings(resume_after_ms=None))
    await asyncio.sleep(1.5)  # so that the page's recorder has begun
    while True:
        async with call.reply() as voice:
            sound = reply_sound(voice.number)
            voice.write_text(WORDS, duration_ms=1000 * len(sound) / RATE)
            await voice.write(sound, RATE)
        await asyncio.sleep(AFTER)
