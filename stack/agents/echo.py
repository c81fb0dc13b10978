"""The echo: says everything back as soon as it has heard it."""

from __future__ import annotations

from stack.aio import Call


async def echo(call: Call) -> None:
    """Send every frame back."""
    async for frame in call.microphone:
        call.speaker.write(frame)
