"""Each example at work, called by our own client."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from stack import Call
from stack.agents import bridge
from stack.aio import HostConfig
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, serving
from tests.agents.upstream import scripted, tone

pytestmark = pytest.mark.real_clock

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
RATE = 16_000
TONE = (9000 * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)).astype(np.int16)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def calling(program: Any, path: str = "/", **config: Any) -> AsyncIterator[Call]:
    async with (
        asyncio.timeout(40),
        serving(program, ServeConfig(port=0, media=HostConfig(udp_port=0), **config)) as server,
        dial(server.url + path) as placed,
    ):
        await placed.call.wait_connected()
        yield placed.call


async def loud_seconds(call: Call, enough: float) -> float:
    """Listen until so much sound was heard."""
    loud = 0
    async for frame in call.microphone:
        if np.abs(frame.samples).max() > 1000:
            loud += len(frame.samples)
        if loud >= enough * RATE:
            break
    return loud / RATE


def test_there_are_five_and_each_is_short() -> None:
    found = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert found == ["bridge_with_tools.py", "echo.py", "full_duplex.py", "push_to_talk.py", "transcriber.py"]
    assert all(len((EXAMPLES / name).read_text().splitlines()) <= 60 for name in found)


async def test_echo() -> None:
    async with calling(load("echo").echo) as call:
        call.speaker.write(TONE, RATE)
        assert await loud_seconds(call, 0.6) >= 0.6


async def test_full_duplex() -> None:
    async with calling(load("full_duplex").metronome) as call:
        call.speaker.write(np.tile(TONE, 3), RATE)
        assert await loud_seconds(call, 0.06) >= 0.06  # three clicks


async def test_push_to_talk() -> None:
    async with calling(load("push_to_talk").walkie_talkie) as call:
        events = await call.open_channel("events")
        call.speaker.write(TONE[: RATE // 2], RATE)
        await call.speaker.drained()
        await events.send(json.dumps({"type": "push_to_talk", "pressed": True}))
        call.speaker.write(TONE[: RATE * 4 // 5], RATE)
        await call.speaker.drained()
        await events.send(json.dumps({"type": "push_to_talk", "pressed": False}))
        assert await loud_seconds(call, 0.4) >= 0.4


async def test_transcriber() -> None:
    pytest.importorskip("pocketsphinx", reason="the demo extra is not installed")
    async with calling(load("transcriber").transcribe, "/v1/realtime/calls") as call:
        channel = await call.open_channel("oai-events")
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go forward"}]}
        manual = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
        await channel.send(json.dumps({"type": "session.update", "session": manual}))
        call.speaker.write(TONE, RATE)
        await call.speaker.drained()
        await channel.send(json.dumps({"type": "input_audio_buffer.commit"}))
        await channel.send(json.dumps({"type": "conversation.item.create", "item": item}))
        items, transcripts = 0, []
        async for message in channel:
            event = json.loads(message)
            if event["type"] == "conversation.item.done":
                items += 1
                if items == 2:
                    await channel.send(json.dumps({"type": "response.create"}))
            elif event["type"] == "conversation.item.input_audio_transcription.completed":
                transcripts.append(event["transcript"])
                if len(transcripts) == 2:
                    break
    assert transcripts[-1] == "go forward"


async def test_bridge_with_tools() -> None:
    module = load("bridge_with_tools")
    async with scripted() as upstream:
        program = bridge(module.make(upstream.url, "sk-test"))
        async with calling(program, "/v1/realtime/calls", program_passes_events=True) as call:
            first = await upstream.wait_for("session.update")
            assert first["session"]["tools"][0]["name"] == "clock"
            item = {"type": "function_call", "call_id": "c", "name": "clock", "arguments": "{}"}
            await upstream.send("response.done", response={"id": "r", "status": "completed", "output": [item]})
            told = await upstream.wait_for("conversation.item.create")
            assert ":" in told["item"]["output"]
            await upstream.speak(tone(1.0).tobytes())
            assert await loud_seconds(call, 0.5) >= 0.5
