"""Our own client under `bench setup`: a process that places a call for each line `{"url"}` on stdin.

It answers with one line: `{"connected", "voice", "channel"}`, each in seconds since 1970, or `{"error"}`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import numpy as np

from stack.signaling.client import DialConfig, dial

RATE = 16_000
PATIENCE = 15.0
TONE = np.asarray(8000 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.int16)


async def _note(into: dict[str, float], name: str, happens: Any) -> None:
    await happens
    into[name] = time.time()


async def call(url: str) -> dict[str, float]:
    """Place one call; return when each thing happened."""
    times: dict[str, float] = {}
    async with dial(url, DialConfig()) as placed:
        placed.call.speaker.write(TONE, RATE)
        await asyncio.wait_for(
            asyncio.gather(
                _note(times, "connected", placed.call.wait_connected()),
                _note(times, "voice", anext(aiter(placed.call.microphone))),
                _note(times, "channel", placed.call.open_channel("events")),
            ),
            PATIENCE,
        )
        await asyncio.sleep(0.2)  # until our sound is there, too
    return times


async def main() -> None:
    """Call until stdin closes."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        order = json.loads(line)
        try:
            said: dict[str, Any] = await call(order["url"])
        except Exception as error:  # a call that fails is a result
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
