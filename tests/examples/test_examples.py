"""Each example at work, called by our own client."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import numpy as np
import pytest

from stack import Call
from stack.agents import bridge
from stack.aio import HostConfig
from stack.events import ReplyFinished
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, serving
from stack.testing import Caller, run_call
from stack.testing import calling as calling_program
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


TESTED = {
    "bridge_with_tools.py",
    "echo.py",
    "full_duplex.py",
    "http_bot.py",
    "in_fastapi.py",
    "push_to_talk.py",
    "transcriber.py",
}


def test_each_is_tested_here_and_short() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == TESTED
    short = [
        *EXAMPLES.glob("*.py"),
        EXAMPLES / "layers" / "sdp_alone.py",
        EXAMPLES / "layers" / "data_in_memory.py",
    ]
    assert [path.name for path in short if len(path.read_text("utf-8").splitlines()) >= 60] == []


EXTRAS = {"stack.agents.http": "voice-stack[http]", "stack.agents.speech": "voice-stack[demo]"}


@pytest.mark.parametrize("name", sorted(TESTED))
def test_one_that_needs_an_extra_says_so(name: str) -> None:
    text = (EXAMPLES / name).read_text("utf-8")
    needed = [extra for module, extra in EXTRAS.items() if f"from {module} import" in text]
    assert [extra for extra in needed if f"pip install '{extra}'" not in text.split('"""')[1]] == []


@pytest.mark.parametrize("name", ["http_bot", "bridge_with_tools"])
def test_one_that_needs_an_address_says_how_it_is_run(name: str) -> None:
    command, environment = (
        [sys.executable, EXAMPLES / f"{name}.py"],
        os.environ | {"PYTHONPATH": str(EXAMPLES.parent)},
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr.strip() == (load(name).__doc__ or "").strip()
    assert f"python examples/{name}.py " in done.stderr


def test_echo() -> None:
    async def scenario(caller: Caller) -> None:
        await caller.say((TONE, RATE))
        heard = await caller.reply_heard()
        assert heard.duration == pytest.approx(1.0, abs=0.1)
        assert heard.begin < 0.1

    run_call(load("echo").echo, scenario)


def test_full_duplex() -> None:
    async def scenario(caller: Caller) -> None:
        await caller.say((np.tile(TONE, 3), RATE), silence=0.1)
        clicks = await caller.reply_heard()  # four a second: closer than what would part them
        assert clicks.duration > 2.0

    run_call(load("full_duplex").metronome, scenario)


async def test_http_bot() -> None:
    pytest.importorskip("openai", reason="openai is not installed")
    from tests.agents.http.model_server import events, model_server, words

    call = {"index": 0, "id": "a", "function": {"name": "light", "arguments": '{"room": "hall", "on": true}'}}
    async with model_server() as models:
        models.chats += [
            lambda _: events({"tool_calls": [call]}, finish="tool_calls"),
            lambda _: words("It is on."),
        ]
        module = load("http_bot")
        async with asyncio.timeout(40), calling_program(module.make(models.url)) as caller:
            assert (await caller.reply_heard()).duration > 0.3  # the greeting
            await caller.say((TONE, RATE))
            await caller.wait_for(ReplyFinished)
            await caller.type_text("light in the hall!")
            await caller.until(lambda: "It is on." in caller.text)
        assert module.ROOMS == {"hall": True}
        assert models.of("/chat/completions")[-1].json["messages"][-1]["content"] == '{"hall":true}'


async def test_in_fastapi(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    from tests.embedding.serving import uvicorn_runs

    monkeypatch.setenv("TOKENS", "ada=secret")
    monkeypatch.setenv("UDP_PORT", "0")
    offer = (EXAMPLES.parent / "tests/vectors/offers/chromium156-audio_dc.sdp").read_text()
    sdp = {"Content-Type": "application/sdp"}
    module = load("in_fastapi")
    async with uvicorn_runs(module.app) as url, aiohttp.ClientSession() as http:
        for path in ("/voice/", "/voice/static/app.js", "/voice/?token=secret", "/login?token=wrong"):
            async with http.get(url + path) as response:
                assert response.status == 401
        for header, status in (({}, 401), ({"Authorization": "Bearer secret"}, 201)):
            async with http.post(f"{url}/voice/whip", data=offer, headers={**sdp, **header}) as response:
                assert response.status == status
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:  # an IP address
            async with browser.get(f"{url}/login?token=secret") as response:
                assert (response.status, response.url.path) == (200, "/voice/")
            async with browser.get(f"{url}/voice/static/app.js") as response:
                assert response.status == 200
        async with http.get(url) as response:
            assert await response.json() == {"calls": 1}
        (call,) = module.voice.host.calls.values()
        assert call.context.state["user"] == "ada"


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


async def test_transcriber(capsys: pytest.CaptureFixture[str]) -> None:
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
        items: list[dict[str, Any]] = []
        async for message in channel:
            event = json.loads(message)
            if event["type"] == "conversation.item.done":
                items.append(event["item"])
                if len(items) == 2:
                    await channel.send(json.dumps({"type": "response.create"}))
            elif event["type"] == "conversation.item.input_audio_transcription.completed":
                break
        printed = ""
        while "go forward" not in printed:  # what was typed reached the program, too
            await asyncio.sleep(0.01)
            printed += capsys.readouterr().out
    assert [item["content"][0]["type"] for item in items] == ["input_audio", "input_text"]
    assert event["item_id"] == items[0]["id"]


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
