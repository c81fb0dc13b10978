"""Programs for the processes of a test: each says on a channel what it knows of its call."""

from __future__ import annotations

import json
import os

import numpy as np

from stack import Call


async def report(call: Call) -> None:
    """Tell who has the call, and speak until its end."""
    context = call.context
    channel = await call.open_channel("who")
    await channel.send(
        json.dumps({
            "pid": os.getpid(), "node": context.node, "region": context.region, "id": call.id,
            "continuation": context.continuation, "moved_from": context.moved_from, "remote": context.remote,
            "agent": context.headers.get("user-agent", ""), "ticket": bool(context.ticket),
        })
    )  # fmt: skip
    second = (9000 * np.sin(np.arange(16_000) * 440 * 2 * np.pi / 16_000)).astype(np.int16)
    while not call.ended:
        async with call.reply() as voice:
            await voice.write(second, 16_000)
