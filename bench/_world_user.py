"""The user of one region under `bench world`: our own client, in a process and a network namespace of its own.

It answers each line on stdin, a question in JSON, with one line:

    {"do": "fetch", "url": U}                      {"body": …}
    {"do": "call", "url": U, "clicks": N}          {"set_up", "there", "back", "barge_in"} or {"failed": why}
    {"do": "hold", "urls": [U, …]}                 {} once the program is heard: the call goes on
    {"do": "watch"}                                {}: what follows is about the time from here on
    {"do": "heard"}                                {"longest": seconds without sound, "since": the last}
    {"do": "hang_up"}                              {}

Times are in seconds. The microphone sends a frame of 20 ms every 20 ms, some noise where nothing is said; what is
said begins where the frame begins that it is in. What is heard counts from where its packet is decoded: the delay
of sound cards comes on top, there and here.

A held call is made again as the page does it: after half a second without sound, at the nearest entry first, and
the old call stays until the new one is heard. There is no DNS: a user knows all entries.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any

import numpy as np

from bench._voices import first_sound, people
from bench._world_sound import FRAME, RATE, is_loud, tone
from interop.namespaces import fetch
from stack import Call
from stack.audio import Samples
from stack.core.errors import StackError
from stack.signaling.client import DialConfig, dial
from stack.voice.config import ConversationConfig

CONFIG = DialConfig(ConversationConfig(echo="off", detector="energy"))
CLICK = tone(1000, 0.06)
CALL_PATIENCE = 20.0
SOUND_PATIENCE = 5.0
NO_SOUND = 0.3
"""Seconds without a loud frame after which the program is silent."""
OVER_SPEECH = 2.5
"""Seconds for which the program speaks before the person does: for the first it is not known whether the
microphone has its echo, and a person has to be louder (docs/decisions/0010-echo-gate.md)."""
SPEECH = 2.5
AGAIN_AFTER = 0.5
"""Seconds without sound after which a held call is made again, as the page does."""
ENTRY_PATIENCE = 3.0
"""Seconds that a new call has to be heard before another entry is tried."""
REFUSED_PAUSE = 0.1
"""Seconds after an entry that refused."""


class OpenMicrophone:
    """A microphone that is always open."""

    def __init__(self, call: Call, seed: int) -> None:
        self._call = call
        self._noise = np.random.default_rng(seed)
        self._waiting = np.zeros(0, np.int16)
        self._begun: asyncio.Future[float] | None = None

    async def run(self) -> None:
        """Speak in real time from the connection on, until cancelled: what came before would wait in a queue."""
        await self._call.wait_connected()
        size = round(RATE * FRAME)
        due = time.monotonic()
        while True:
            frame = self._noise.normal(0, 10, size)
            said, self._waiting = self._waiting[:size], self._waiting[size:]
            frame[: len(said)] += said
            if len(said) and self._begun is not None:
                self._begun.set_result(time.monotonic() - FRAME)
                self._begun = None
            self._call.speaker.write(np.clip(frame, -32_768, 32_767).astype(np.int16), RATE)
            # What a stall has kept back is not said: it would be late for ever.
            due = max(due + FRAME, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def say(self, sound: Samples) -> float:
        """Say something, and return when it began."""
        self._begun = asyncio.get_running_loop().create_future()
        self._waiting = sound
        return await self._begun


class Listening:
    """When something was heard."""

    def __init__(self) -> None:
        self.loud: list[float] = []
        """When each loud frame came."""
        self._came = asyncio.Event()

    def note(self, instant: float) -> None:
        """Something is heard."""
        self.loud.append(instant)
        self._came.set()

    async def first_after(self, instant: float, patience: float) -> float:
        """Return when something was heard first after an instant. Raises `TimeoutError`."""
        async with asyncio.timeout(patience):
            while not self.loud or self.loud[-1] < instant:
                self._came.clear()
                await self._came.wait()
        return next(at for at in self.loud if at >= instant)

    async def last(self, patience: float) -> float:
        """Return when the sound ended that is to be heard now, once it has. Raises `TimeoutError`."""
        async with asyncio.timeout(patience):
            while self.loud and time.monotonic() - self.loud[-1] < NO_SOUND:
                await asyncio.sleep(0.01)
        return self.loud[-1] + FRAME if self.loud else 0.0

    def longest_silence(self, since: float) -> float:
        """Return the longest time without sound, up to now."""
        instants = [since, *(at for at in self.loud if at >= since), time.monotonic()]
        return max(later - earlier for earlier, later in pairwise(instants))


async def _listen(call: Call, heard: Sequence[Listening]) -> None:
    async for frame in call.microphone:
        if is_loud(frame.samples) and not frame.concealed:
            now = time.monotonic()
            for each in heard:
                each.note(now)


@asynccontextmanager
async def speaking(call: Call, heard: Sequence[Listening], seed: int) -> AsyncIterator[OpenMicrophone]:
    """Context: the user speaks and listens in a call."""
    microphone = OpenMicrophone(call, seed)
    tasks = [asyncio.create_task(microphone.run()), asyncio.create_task(_listen(call, heard))]
    try:
        yield microphone
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class User:
    """One person with one telephone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = np.random.default_rng(seed)
        sentence = people()[seed % len(people())]
        begins = first_sound(sentence)
        self._sentence = sentence[begins : begins + round(SPEECH * RATE)].astype(np.int16)
        self._heard = Listening()
        self._since = 0.0
        self._holding: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def carry_out(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer a question."""
        match question.pop("do"):
            case "fetch":
                return {"body": await fetch(question["url"])}
            case "call":
                try:
                    return await self.call(question["url"], question["clicks"])
                except (StackError, OSError, TimeoutError, ValueError) as error:
                    return {"failed": f"{type(error).__name__}: {error}"}
            case "hold":
                return await self.hold(question["urls"])
            case "watch":
                self._since = time.monotonic()
                return {}
            case "heard":
                since = time.monotonic() - self._heard.loud[-1] if self._heard.loud else None
                return {"longest": self._heard.longest_silence(self._since), "since": since}
            case _:
                await self.hang_up()
                return {}

    async def call(self, url: str, clicks: int) -> dict[str, Any]:
        """Make one call and measure everything in it. Raises `TimeoutError` for what is not heard."""
        heard = Listening()
        clicked = time.monotonic()
        async with dial(url, CONFIG) as placed, speaking(placed.call, [heard], self._seed) as microphone:
            set_up = await heard.first_after(clicked, CALL_PATIENCE) - clicked
            async with asyncio.timeout(CALL_PATIENCE):
                channel = await placed.call.channels.wait_for("world")
            await channel.send("listen")
            await heard.last(SOUND_PATIENCE)
            there, back = [], []
            for _ in range(clicks):
                await asyncio.sleep(float(self._random.uniform(0.1, 0.12)))
                began = await microphone.say(CLICK)
                heard_back = await heard.first_after(began, SOUND_PATIENCE)
                async with asyncio.timeout(SOUND_PATIENCE):
                    heard_there = float(await anext(aiter(channel)))
                there.append(heard_there - began)
                back.append(heard_back - heard_there)
                await heard.last(SOUND_PATIENCE)
            asked = time.monotonic()
            await channel.send("speak")
            await heard.first_after(asked, SOUND_PATIENCE)
            await asyncio.sleep(OVER_SPEECH)
            began = await microphone.say(self._sentence)
            barge_in = await heard.last(SOUND_PATIENCE) - began
        return {"set_up": set_up, "there": there, "back": back, "barge_in": barge_in}

    # -- a call that is held -------------------------------------------------------------------------------------

    async def hold(self, urls: Sequence[str]) -> dict[str, Any]:
        """Be in a call from now on. Raises `TimeoutError` if no program is heard."""
        began = time.monotonic()
        self._heard = Listening()
        self._holding = asyncio.create_task(self._hold(urls))
        await self._heard.first_after(began, CALL_PATIENCE)
        return {}

    async def hang_up(self) -> None:
        """Leave the call."""
        if self._holding is not None:
            self._holding.cancel()
            await asyncio.wait({self._holding})
            self._holding = None
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def _hold(self, urls: Sequence[str]) -> None:
        legs = [Leg(urls[0], self._heard, self._seed)]
        try:
            while True:
                await self._until_silent()
                for url in urls:
                    legs[1:] = [Leg(url, self._heard, self._seed)]
                    heard = await _first_heard(legs, ENTRY_PATIENCE)
                    left = [leg for leg in legs if leg is not (heard or legs[0])]
                    legs = [heard or legs[0]]
                    for leg in left:
                        self._leave(leg)
                    if heard is not None:
                        break
        finally:
            for leg in legs:
                self._leave(leg)

    async def _until_silent(self) -> None:
        began = time.monotonic()
        while True:
            last = max(began, self._heard.loud[-1] if self._heard.loud else 0.0)
            if time.monotonic() - last >= AGAIN_AFTER:
                return
            await asyncio.sleep(FRAME)

    def _leave(self, leg: Leg) -> None:
        leg.task.cancel()
        self._leaving.add(leg.task)
        leg.task.add_done_callback(self._leaving.discard)


class Leg:
    """A call of a person who may have two for a moment."""

    def __init__(self, url: str, all_of_them: Listening, seed: int) -> None:
        self.own = Listening()
        self._both = (all_of_them, self.own)
        self.task = asyncio.create_task(self._run(url, seed))

    async def _run(self, url: str, seed: int) -> None:
        with suppress(StackError, OSError, TimeoutError):
            async with dial(url, CONFIG) as placed, speaking(placed.call, self._both, seed):
                await placed.call.wait_ended()


async def _first_heard(legs: Sequence[Leg], patience: float) -> Leg | None:
    """Return the call in which something is heard first from now on; None if the last one fails, or none is."""
    began = time.monotonic()
    while time.monotonic() - began < patience:
        for leg in legs:
            if leg.own.loud and leg.own.loud[-1] >= began:
                return leg
        if legs[-1].task.done():
            await asyncio.sleep(REFUSED_PAUSE)
            return None
        await asyncio.sleep(FRAME / 2)
    return None


async def _serve(seed: int) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    user = User(seed)
    print(json.dumps({}), flush=True)
    while line := await reader.readline():
        try:
            answer = await user.carry_out(json.loads(line))
        except Exception as error:  # who has asked ends the world then
            answer = {"fault": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
