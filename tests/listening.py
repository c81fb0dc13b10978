"""Waiting by the sound of a call: a machine that stalls stalls this clock, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from stack import Call


async def listen(call: Call, seconds: float) -> None:
    """Return when so much more sound has come in; none comes while the other side sends nothing."""
    call.microphone.clear()
    heard = 0.0
    async for frame in call.microphone:
        heard += len(frame.samples) / frame.sample_rate
        if heard >= seconds:
            return


async def until_quiet(call: Call, seconds: float = 0.3) -> None:
    """Return when nothing has come in for so long."""
    with suppress(TimeoutError):
        while True:
            await asyncio.wait_for(anext(call.microphone), seconds)


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Return when the condition holds; raises `TimeoutError` if it does not within so many seconds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
