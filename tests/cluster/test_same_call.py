"""One program, which does all that a `Call` can do, beside the media and behind the backbone: it sees the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import numpy as np
import pytest

from stack import Call
from stack.aio import HostConfig
from stack.aio.control import CallEnded
from stack.aio.transcription import Hypothesis
from stack.core.errors import LocalError
from stack.session import Connected, EndReason
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, serving
from stack.voice import TurnMode, TurnSettings
from stack.voice.events import KeyPressed
from tests.cluster.engine import Engine
from tests.cluster.test_calls import agent, node
from tests.listening import listen

pytestmark = [pytest.mark.real_clock]
PATIENCE = 30.0
RATE = 16_000
TONE = (9000 * np.sin(np.arange(RATE) * 440 * 2 * np.pi / RATE)).astype(np.int16)
NOT_BEHIND = {"tools", "call_tool", "start_recording", "stop_recording", "recording"}
"""What docs/scale.md says does not cross."""


class Seen:
    """A call, and which of its names were used."""

    def __init__(self, call: Call) -> None:
        self.used: set[str] = set()
        self._call = call

    def __getattr__(self, name: str) -> Any:
        self.used.add(name)
        return getattr(self._call, name)


def public(call: Call) -> set[str]:
    """Return the names of a call that a program may use."""
    return {name for name in (*dir(call), *vars(call)) if not name.startswith("_")}


class Words:
    """A transcriber of one word."""

    def push(self, samples: np.ndarray) -> None:
        pass

    def hypothesis(self) -> Hypothesis:
        return Hypothesis("yes", 1.0)

    def finish(self) -> str:
        return "yes"


class Judge:
    """An endpointer that is never asked: there are no pauses in `manual` mode."""

    def wait(self, pause: Any) -> float:
        raise AssertionError


class EveryThing:
    """The program; `saw` is what came of each thing."""

    def __init__(self) -> None:
        self.saw: dict[str, Any] = {}
        self.unused: set[str] = set()
        self.over = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        seen: Any = Seen(call)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._set_up(seen)
                await self._turns(seen)
                await self._replies(seen)
                await self._end(seen)
        except Exception as error:
            self.saw["failed"] = repr(error)
            raise
        finally:
            self.unused = public(call) - seen.used
            self.over.set()

    async def _set_up(self, call: Any) -> None:
        saw = self.saw
        watching = call.watch()
        connected = await call.wait_connected()
        await call.wait_authenticated()
        saw["connected"] = (isinstance(connected, Connected), call.connected == connected, call.end, call.ended)
        saw["identity"] = (len(call.id), call.context.remote, call.context.headers["user-agent"][:6])
        saw["session"] = dict(call.session)
        channel = await call.open_channel("both", ordered=False)
        await channel.send("text")
        await channel.send(b"bytes")
        saw["back"] = sorted([str(await anext(channel)), str(await anext(channel))])
        asked = await call.channels.wait_for("theirs")
        saw["theirs"] = await anext(asked)
        saw["channels"] = sorted(each.label for each in call.channels)
        asked.close()
        frame = await anext(aiter(call.microphone))
        saw["frame"] = (frame.sample_rate, frame.samples.shape, frame.samples.dtype)
        kinds = {part["type"] for part in (await call.stats()).as_webrtc()}
        saw["stats"] = {"inbound-rtp", "outbound-rtp", "transport", "candidate-pair"} <= kinds
        with pytest.raises(LocalError):
            await call.open_channel("x" * 70_000)
        call.unwatch(watching)
        saw["watched"] = "ChannelOpened" in {type(event).__name__ async for event in watching}

    async def _turns(self, call: Any) -> None:
        saw = self.saw
        call.listen()
        call.configure_turns(TurnSettings(mode=TurnMode.MANUAL, create_response=False))
        saw["turns"] = (await call.turn_settings()).mode
        call.use_endpointer(Judge())
        call.use_endpointer(None)
        turns = call.utterances(Words())
        for end in (lambda: call.push_to_talk(False), call.commit_utterance):
            call.push_to_talk(True)
            await listen(call, 0.4)
            end()
            turn = await anext(turns)
            saw.setdefault("said", []).append((turn.text, turn.sample_rate, len(turn.samples) > 1000))
            call.push_to_talk(False)
            call.transcribed(turn.text)

    async def _replies(self, call: Any) -> None:
        saw = self.saw
        async with call.reply() as voice:
            voice.write_text("a tone")
            await voice.write(TONE[:3200], RATE)
        saw["reply"] = (voice.interrupted, round(voice.heard_ms))
        async with call.reply() as voice:
            await voice.write(np.tile(TONE, 5), RATE)
            call.interrupt()
            await asyncio.Event().wait()  # the interruption ends it
        saw["interrupted"] = (voice.interrupted, voice.heard_ms < 4000)
        call.speaker.write(TONE[:1600], RATE)
        await call.speaker.drained()
        call.speaker.write(np.tile(TONE, 5), RATE)
        call.speaker.flush()
        await call.speaker.drained()
        await call.send_digits("12#")
        with pytest.raises(LocalError):
            await call.send_digits("x")
        keys = []
        async for event in call.events:
            if isinstance(event, KeyPressed):
                keys.append(event.digit)
                if len(keys) == 2:
                    break
        saw["keys"] = keys
        call.tell({"type": "mine", "answer": 42})

    async def _end(self, call: Any) -> None:
        saw = self.saw
        channel = next(each for each in call.channels if each.label == "both")
        saw["last"] = await anext(channel)  # the client has all
        call.hang_up()
        saw["end"] = (await call.wait_ended()).reason
        saw["after"] = (call.end.reason, call.ended)
        async for _ in call.microphone:  # what was heard before; it ends
            pass
        for after in (call.stats, lambda: call.send_digits("1"), call.turn_settings):
            with pytest.raises(CallEnded):
                await after()


class Person:
    """What the client does, and is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.keys: list[str] = []

    async def call(self, url: str) -> None:
        """Call, and do what the program waits for."""
        async with asyncio.timeout(PATIENCE), dial(url) as ours:
            await ours.call.wait_connected()
            tasks = [asyncio.create_task(each(ours.call)) for each in (self._speak, self._read, self._press)]
            both = await ours.call.channels.wait_for("both")
            for _ in range(2):
                await both.send(await anext(both))
            await (await ours.call.open_channel("theirs")).send("theirs")
            await ours.call.wait_ended()
            for task in tasks:
                task.cancel()

    async def _speak(self, call: Call) -> None:
        while not call.ended:
            call.speaker.write(TONE, RATE)
            await call.speaker.drained()

    async def _read(self, call: Call) -> None:
        async for text in await call.channels.wait_for("events"):
            said = json.loads(text)
            self.told.append(said["type"])
            if said["type"] == "mine":
                await next(each for each in call.channels if each.label == "both").send(f"last {said['answer']}")

    async def _press(self, call: Call) -> None:
        async for event in call.events:
            if isinstance(event, KeyPressed):
                self.keys.append(event.digit)
                if len(self.keys) == 3:
                    await call.send_digits("5*")


@asynccontextmanager
async def beside(program: EveryThing, _engine: Engine) -> AsyncIterator[str]:
    media = HostConfig(host="127.0.0.1", udp_port=0)
    async with serving(program, ServeConfig(port=0, media=media)) as server:
        yield server.url


@asynccontextmanager
async def behind(program: EveryThing, engine: Engine) -> AsyncIterator[str]:
    async with node(engine) as server, agent(engine, program):
        yield server.url


@pytest.mark.parametrize("where", [beside, behind])
async def test_a_program_sees_the_same_beside_the_media_and_behind_the_backbone(
    where: Callable[[EveryThing, Engine], AbstractAsyncContextManager[str]], engine: Engine
) -> None:
    program, person = EveryThing(), Person()
    async with where(program, engine) as url:
        await asyncio.gather(person.call(url), asyncio.wait_for(program.over.wait(), PATIENCE))
    assert program.saw == {
        "connected": (True, True, None, False),
        "identity": (24, "127.0.0.1", "Python"),
        "session": {},
        "back": ["b'bytes'", "text"],
        "channels": ["both", "events", "theirs"],
        "theirs": "theirs",
        "frame": (16_000, (320,), np.dtype(np.int16)),
        "stats": True,
        "watched": True,
        "turns": TurnMode.MANUAL,
        "said": [("yes", RATE, True)] * 2,
        "reply": (False, 200),
        "interrupted": (True, True),
        "keys": ["5", "*"],
        "last": "last 42",
        "end": EndReason.HUNG_UP,
        "after": (EndReason.HUNG_UP, True),
    }
    assert person.keys == ["1", "2", "#"]
    assert {"transcript", "mine"} <= set(person.told)
    assert program.unused == NOT_BEHIND
