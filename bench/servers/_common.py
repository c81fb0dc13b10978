"""What the servers in Python share: their arguments, their first line, and what keeps the loop busy."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
import wave
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from aiohttp import web

CHUNK = 0.2
"""Seconds of sound in each write of a program that speaks."""
BUSY = 0.2
"""Seconds of each second for which the program computes."""
HEAP = 700_000
"""Entries, three objects each, of the heap that the collector walks: a program that keeps many things."""
BESIDE = ("idle", "sleep", "numpy", "python", "collector")


def arguments(modes: tuple[str, ...], checkout: bool = False) -> argparse.Namespace:
    """Return what a server was told to do."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=modes)
    parser.add_argument("--beside", choices=BESIDE, default="idle", help="what the program does besides")
    parser.add_argument("--sound", help="what a program says: a WAV file, 16 bit, mono")
    if checkout:
        parser.add_argument("--workers", type=int, default=0, help="processes that carry the media; 0: a thread")
        parser.add_argument("--tickets", action="store_true", help="answer by tickets, as `serve` does")
        parser.add_argument("--forwarder", action="store_true", help="a process in front of several workers")
        parser.add_argument("--checkout", help="the folder whose `stack` serves; default: the one beside `bench`")
    return parser.parse_args()


def announce(port: int) -> None:
    """Say that the server listens."""
    print(json.dumps({"offer": f"http://127.0.0.1:{port}/api/offer"}), flush=True)


def read_sound(path: str) -> tuple[np.ndarray, int]:
    """Return the samples (int16) and the rate of a WAV file."""
    with wave.open(path) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()


async def speak(call: Any, samples: np.ndarray, rate: int, place: int) -> None:
    """Say recorded sound from a place on, again and again, until the call's end."""
    size = int(rate * CHUNK)
    await call.wait_connected()
    due = asyncio.get_running_loop().time()
    call.speaker.write(samples[place : place + size], rate)  # one chunk ahead of time
    while not call.ended:
        place = (place + size) % (len(samples) - size)
        call.speaker.write(samples[place : place + size], rate)
        due += CHUNK
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))


async def serve_offers(accept: Callable[[str], Awaitable[str]]) -> None:
    """Answer offers by HTTP, for ever; `accept` takes the SDP of an offer and returns that of the answer."""

    async def offered(request: web.Request) -> web.Response:
        return web.json_response({"sdp": await accept((await request.json())["sdp"]), "type": "answer"})

    await serve_app(offered)


async def serve_app(offered: Callable[[web.Request], Awaitable[web.Response]]) -> None:
    """Listen for the POST of offers, for ever."""
    app = web.Application()
    app.router.add_post("/api/offer", offered)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    announce(runner.addresses[0][1])
    await asyncio.Event().wait()


async def keep_busy(beside: str) -> None:
    """Do on the program's loop what `beside` names, in each second again."""
    matrix = np.random.default_rng(0).random((256, 256), np.float32)
    heap = [[i, {"a": i}, (i, str(i))] for i in range(HEAP)] if beside == "collector" else []
    while beside != "idle":
        await asyncio.sleep(1.0 - BUSY)
        until = time.perf_counter() + BUSY
        if beside == "sleep":
            time.sleep(BUSY)
        elif beside == "collector":
            gc.collect()
            print(
                f"one collection: {(time.perf_counter() - until + BUSY) * 1e3:.0f} ms", len(heap), file=sys.stderr
            )
        elif beside == "numpy":
            while time.perf_counter() < until:
                matrix @ matrix
        else:
            x = 0
            while time.perf_counter() < until:
                x = (x * 31 + 7) & 0xFFFFF


class Companion:
    """Starts `keep_busy` with the first call, once."""

    def __init__(self, beside: str) -> None:
        self._beside = beside
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Say that a call has begun."""
        if self._task is None and self._beside != "idle":
            self._task = asyncio.create_task(keep_busy(self._beside))
