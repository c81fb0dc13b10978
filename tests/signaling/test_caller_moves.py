"""The command `call` where its server sends it to another machine: it calls there before it leaves."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from stack import Call
from stack.aio import HostConfig
from stack.audio import write_wav
from stack.signaling.caller import CallerConfig, place_call, render
from stack.signaling.server import ServeConfig, serving
from stack.voice.client import read_goaway

pytestmark = pytest.mark.real_clock


async def test_a_caller_follows_a_goaway_and_goes_on_speaking(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "stack.calls")
    write_wav(tmp_path / "tone.wav", (8000 * np.sin(np.arange(48_000) / 3)).astype(np.int16), 16_000)
    calls: dict[str, Call] = {}
    heard: dict[str, int] = {}

    async def program(call: Call) -> None:
        calls[call.id] = call
        async for frame in call.microphone:
            if not call.context.moved_from and call.id not in heard:
                call.tell({"type": "goaway", "pc_id": call.id, "seconds": 20})
            heard[call.id] = heard.get(call.id, 0) + int(np.abs(frame.samples).max() > 1000)
            call.speaker.write(frame)

    async with serving(program, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server:
        config = CallerConfig(server.url + "/", play=str(tmp_path / "tone.wav"))
        async with asyncio.timeout(60):
            report = await place_call(config)
    assert report["moved"] == 1
    assert len(calls) == 2
    first, second = calls
    told = [record.getMessage() for record in caplog.records]
    is_up = next(at for at, line in enumerate(told) if line.startswith(f"call {second} connected"))
    assert not any(line.startswith(f"call {first} ended") for line in told[:is_up]), "both were up for a moment"
    assert all(heard[name] for name in calls)
    assert report["heard_seconds"] > 1.0
    assert "moved   1 times" in render(report)


async def test_a_caller_calls_again_when_the_media_of_its_call_are_lost(tmp_path: Path) -> None:
    calls: dict[str, Call] = {}
    heard: dict[str, int] = {}
    enough = asyncio.Event()

    async def program(call: Call) -> None:
        calls[call.id] = call
        async for frame in call.microphone:
            call.speaker.write(frame)
            heard[call.id] = heard.get(call.id, 0) + 1
            if call.context.moved_from and heard[call.id] > 20:
                enough.set()
            if call.context.moved_from == "" and heard[call.id] == 20:
                worker = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
                for each in worker:
                    os.kill(int(each), signal.SIGKILL)

    write_wav(tmp_path / "tone.wav", (8000 * np.sin(np.arange(960_000) / 3)).astype(np.int16), 16_000)
    async with serving(program, ServeConfig(port=0, media=HostConfig(udp_port=0, workers=1))) as server:
        async with asyncio.timeout(60):
            report = await place_call(CallerConfig(server.url + "/", play=str(tmp_path / "tone.wav")), enough)
    assert report["moved"] == 1
    assert report["end"] == "hung up"
    former, *_, latter = calls
    assert calls[latter].context.moved_from == former


async def test_a_call_that_its_server_has_ended_is_not_made_again(tmp_path: Path) -> None:
    begun = 0

    async def program(call: Call) -> None:
        nonlocal begun
        begun += 1
        await call.wait_connected()

    async with serving(program, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server:
        async with asyncio.timeout(60):
            report = await place_call(CallerConfig(server.url + "/", duration=20.0))
    assert (report["moved"], report["end"], begun) == (0, "the peer closed", 1)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"type": "goaway"}', '{"type": "goaway", "pc_id": 7}', '{"type": "reply"}']
)
def test_what_is_no_goaway(text: str) -> None:
    assert read_goaway(text) == ""
