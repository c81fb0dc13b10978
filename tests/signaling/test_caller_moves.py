"""The command `call` where its server sends it to another machine: it calls there before it leaves."""

from __future__ import annotations

import asyncio
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


async def test_a_caller_follows_a_goaway_and_goes_on_speaking(tmp_path: Path) -> None:
    write_wav(tmp_path / "tone.wav", (8000 * np.sin(np.arange(48_000) / 3)).astype(np.int16), 16_000)
    calls: dict[str, Call] = {}
    heard: dict[str, int] = {}
    both_up = False

    async def program(call: Call) -> None:
        nonlocal both_up
        calls[call.id] = call
        former = calls.get(call.context.moved_from)
        if former is None:
            call.tell({"type": "goaway", "pc_id": call.id, "seconds": 20})
        else:
            both_up = not former.ended
        async for frame in call.microphone:
            heard[call.id] = heard.get(call.id, 0) + int(np.abs(frame.samples).max() > 1000)
            call.speaker.write(frame)

    async with serving(program, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server:
        config = CallerConfig(server.url + "/", play=str(tmp_path / "tone.wav"))
        async with asyncio.timeout(60):
            report = await place_call(config)
    assert report["moved"] == 1
    assert both_up
    assert len(calls) == 2
    assert all(heard[name] for name in calls)
    assert report["heard_seconds"] > 1.0
    assert "moved   1 times" in render(report)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"type": "goaway"}', '{"type": "goaway", "pc_id": 7}', '{"type": "reply"}']
)
def test_what_is_no_goaway(text: str) -> None:
    assert read_goaway(text) == ""
