"""One program, which does all that a `Call` can do, beside the media and behind the backbone: it sees the same."""

from __future__ import annotations

import asyncio
import inspect
import json
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stack import Call
from stack.aio import HostConfig
from stack.aio.channel import Channels, DataChannel
from stack.aio.control import CallEnded
from stack.aio.recording import Recording
from stack.aio.reply import Reply
from stack.aio.speaker import Speaker
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
OF_THE_CALL = (Call, Speaker, Reply, Channels, DataChannel, Recording)
"""What a program holds of a call: each of their names is used, in both places."""
NOT_FOR_PROGRAMS = {
    "Speaker": {"note_written", "note_not_written", "note_drained", "note_earlier"},
    "Reply": {"note_over", "note_heard", "number"},
    "Channels": {"note_opened", "note_closed", "note_ended", "find", "open"},
    "DataChannel": {"deliver", "note_low", "note_closed"},
    "Recording": {"name", "note", "note_closed", "wait_opened"},
}
"""What the call's own parts ask of each other."""


class Seen:
    """A part of a call, and which of its names were used: noted in `used`, by the name of its class."""

    def __init__(self, part: Any, used: dict[str, set[str]]) -> None:
        self._part = part
        self._all_used = used

    def __getattr__(self, name: str) -> Any:
        self._all_used.setdefault(type(self._part).__name__, set()).add(name)
        return self._seen(getattr(self._part, name))

    def _seen(self, found: Any) -> Any:
        """Return what was found so that its names are noted, too; what a method returns as well."""
        if isinstance(found, OF_THE_CALL):
            return Seen(found, self._all_used)
        if inspect.ismethod(found) and isinstance(found.__self__, OF_THE_CALL):

            def called(*given: Any, **named: Any) -> Any:
                returned = found(*given, **named)
                return self._awaited(returned) if inspect.iscoroutine(returned) else self._seen(returned)

            return called
        return found

    async def _awaited(self, work: Any) -> Any:
        return self._seen(await work)

    async def __aenter__(self) -> Any:
        return self._seen(await self._part.__aenter__())

    async def __aexit__(self, *how: Any) -> Any:
        return await self._part.__aexit__(*how)

    def __aiter__(self) -> Any:
        return aiter(self._part)

    def __anext__(self) -> Any:
        return anext(self._part)

    def __iter__(self) -> Any:
        return (self._seen(each) for each in self._part)


def public(part: Any) -> set[str]:
    """Return the names that a program may use."""
    names = {name for name in (*dir(part), *vars(part)) if not name.startswith("_")}
    return names - NOT_FOR_PROGRAMS.get(type(part).__name__, set())


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

    def __init__(self, folder: Path) -> None:
        self.saw: dict[str, Any] = {}
        self.unused: dict[str, set[str]] = {}
        self.over = asyncio.Event()
        self._folder = folder
        self._parts: dict[str, Any] = {}

    async def __call__(self, call: Call) -> None:
        used: dict[str, set[str]] = {}
        seen: Any = Seen(call, used)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._set_up(seen)
                await self._record(seen)
                await self._turns(seen)
                await self._replies(seen)
                await self._end(seen)
        except Exception as error:
            self.saw["failed"] = repr(error)
            raise
        finally:
            parts = [call, call.speaker, call.channels, call.recording, *self._parts.values()]
            self.unused = {
                type(each).__name__: left
                for each in parts
                if (left := public(each) - used.get(type(each).__name__, set()))
            }
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
        self._parts["channel"] = channel._part
        saw["channel"] = (channel.label, channel.protocol, channel.ordered, channel.max_retransmits)
        saw["open"] = (channel.max_lifetime_ms, channel.closed, channel.id in {each.id for each in call.channels})
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

    async def _record(self, call: Any) -> None:
        """And ask for what the client of this dialect has none of: functions."""
        saw = self.saw
        saw["tools"] = call.tools
        with pytest.raises(LocalError, match="no function"):
            await call.call_tool("weather")
        with pytest.raises(LocalError, match="cannot record to"):
            await call.start_recording(self._folder / "missing" / "call.wav")
        with pytest.raises(LocalError, match="samples a second"):
            await call.start_recording(self._folder / "odd.wav", sample_rate=8000)
        assert call.recording is None or not call.recording.is_running
        recording = await call.start_recording(self._folder / "call.wav", sample_rate=24_000)
        with pytest.raises(LocalError, match="already"):
            await call.start_recording(self._folder / "second.wav")
        saw["recording"] = (
            recording.is_running,
            recording.is_finished,
            recording.path == self._folder / "call.wav",
        )
        call.speaker.write(TONE, RATE)
        await call.speaker.drained()
        await listen(call, 0.5)
        assert (await call.stop_recording())._part is call.recording._part
        await recording.wait_finished()
        saw["recorded"] = (
            recording.is_running,
            recording.is_finished,
            recording.dropped,
            recording.call_id == call.id,
        )
        with wave.open(str(recording.path)) as sound:
            form = (sound.getframerate(), sound.getnchannels())
            samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").reshape(-1, 2)
        lengths = {round(recording.duration, 3), round(len(samples) / form[0], 3)}
        loud = [bool(np.abs(samples[:, lane]).max() > 3000) for lane in (0, 1)]
        lines = [json.loads(line)["event"] for line in recording.events_path.read_text().splitlines()]
        saw["sound"] = (form, len(lengths), recording.duration > 1.0, loud)
        saw["lines"] = (lines[0], lines[-1], "recorder.dropped_queue_full" in recording.counters.snapshot())
        again = await call.start_recording(self._folder / "call.wav")  # over it, until the end of the call
        saw["again"] = again._part is call.recording._part

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
            self._parts["reply"] = voice._part
            voice.write_text("a tone")
            await voice.write(TONE[:3200], RATE)
        saw["reply"] = (voice.interrupted, round(voice.heard_ms))
        async with call.reply() as voice:
            await voice.write(np.tile(TONE, 5), RATE)
            call.interrupt()
            await asyncio.Event().wait()  # the interruption ends it
        saw["interrupted"] = (voice.interrupted, voice.heard_ms < 4000, await voice.heard() < 4000)
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
        await call.recording.wait_finished()
        saw["whole"] = (call.recording.path.stat().st_size > 44, call.recording.is_running)
        async for _ in call.microphone:  # what was heard before; it ends
            pass
        late = self._folder / "late.wav"
        for after in (
            call.stats,
            lambda: call.send_digits("1"),
            call.turn_settings,
            lambda: call.start_recording(late),
        ):
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
    where: Callable[[EveryThing, Engine], AbstractAsyncContextManager[str]], engine: Engine, tmp_path: Path
) -> None:
    program, person = EveryThing(tmp_path), Person()
    async with where(program, engine) as url:
        await asyncio.gather(person.call(url), asyncio.wait_for(program.over.wait(), PATIENCE))
    assert program.saw == {
        "connected": (True, True, None, False),
        "identity": (24, "127.0.0.1", "Python"),
        "session": {},
        "channel": ("both", "", False, None),
        "open": (None, False, True),
        "back": ["b'bytes'", "text"],
        "channels": ["both", "events", "theirs"],
        "theirs": "theirs",
        "frame": (16_000, (320,), np.dtype(np.int16)),
        "stats": True,
        "watched": True,
        "tools": (),
        "recording": (True, False, True),
        "recorded": (False, True, 0, True),
        "sound": ((24_000, 2), 1, True, [True, True]),
        "lines": ("RecordingStarted", "RecordingStopped", True),
        "again": True,
        "turns": TurnMode.MANUAL,
        "said": [("yes", RATE, True)] * 2,
        "reply": (False, 200),
        "interrupted": (True, True, True),
        "keys": ["5", "*"],
        "last": "last 42",
        "end": EndReason.HUNG_UP,
        "after": (EndReason.HUNG_UP, True),
        "whole": (True, False),
    }
    assert person.keys == ["1", "2", "#"]
    assert {"transcript", "mine"} <= set(person.told)
    assert program.unused == {}
