"""The program of `python -m bench cluster`, for `serve` and for processes behind NATS: it speaks and listens.

`BENCH_SOUND` names what it says: a WAV file, 16 bit, mono.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from bench.servers._common import read_sound, speak

_begun = 0


async def speaking(call: Any) -> None:
    """Always speak, and take what the caller says, as a program does that hands it to a model."""
    global _begun
    _begun += 1
    samples, rate = read_sound(os.environ["BENCH_SOUND"])
    speaking = asyncio.create_task(speak(call, samples, rate, _begun * 7919 % (len(samples) // 2)))
    try:
        async for _ in call.microphone:
            pass
    finally:
        speaking.cancel()
