"""Recordings of whole calls on loopback, and what /metrics says of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from stack import Call
from stack.agents import echo
from stack.aio import CallEnded, HostConfig
from stack.audio import read_wav
from stack.core.errors import LocalError
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, Serving, serving
from tests.listening import listen, until, until_quiet

pytestmark = pytest.mark.real_clock

RATE = 16_000
AT = np.arange(3 * RATE) / RATE
BEEPS = np.where(AT % 0.5 < 0.1, 8000 * np.sin(2 * np.pi * 1000 * AT), 0.0).astype(np.int16)
"""Six beeps of 100 ms, every half a second."""


def onsets(lane: np.ndarray) -> np.ndarray:
    """Where sound begins, in seconds."""
    envelope = np.abs(lane[: len(lane) // 80 * 80].astype(float)).reshape(-1, 80).max(axis=1)
    loud = np.flatnonzero(envelope > 1500)
    return np.array([i * 0.005 for k, i in enumerate(loud) if k == 0 or i - loud[k - 1] > 20])


def events_beside(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]


async def test_a_call_is_recorded_with_both_lanes_aligned(tmp_path: Path) -> None:
    media = HostConfig(udp_port=0, record_dir=tmp_path / "calls")
    async with (
        asyncio.timeout(60),
        serving(echo, ServeConfig(port=0, media=media)) as server,
        dial(server.url) as placed,
    ):
        await placed.call.wait_connected()
        placed.call.speaker.write(BEEPS, RATE)
        await placed.call.speaker.drained()
        await until_quiet(placed.call)  # the last of it comes back
        async with aiohttp.ClientSession() as session, session.get(server.url + "/metrics") as response:
            metrics = await response.text()
    (wav,) = (tmp_path / "calls").glob("*.wav")
    samples, rate = read_wav(wav)
    assert rate == RATE
    left, right = onsets(samples[:, 0]), onsets(samples[:, 1])
    assert len(left) == len(right) == 6
    assert left == pytest.approx(left[0] + 0.5 * np.arange(6), abs=0.020)
    assert right == pytest.approx(left, abs=0.020)  # the echo answers each frame in the instant in which it comes
    lines = events_beside(wav)
    names = [line["event"] for line in lines]
    assert names[0] == "RecordingStarted"
    assert names[-2:] == ["Ended", "RecordingStopped"]
    connected = next(line for line in lines if line["event"] == "Connected")
    assert 0 < connected["at"] < left[0] + 0.1
    assert lines[-1]["dropped"] == 0
    assert lines[-1]["duration"] == pytest.approx(len(samples) / RATE, abs=0.001)
    text = wav.with_suffix(".jsonl").read_text()
    assert "password" not in text
    sent = int(float(metrics.split("voice_frame_lateness_seconds_count ")[1].split()[0]))
    assert sent >= 140  # frames of the three seconds, each measured
    assert 'voice_frame_lateness_seconds_bucket{le="0.02"}' in metrics
    assert "voice_setup_seconds_count 1.0" in metrics


async def test_a_program_records_a_part_of_its_call(tmp_path: Path) -> None:
    path = tmp_path / "part.wav"
    problems: list[str] = []

    async def program(call: Call) -> None:
        assert await call.stop_recording() is None
        await call.start_recording(path, sample_rate=24_000)
        for wrong in (path, tmp_path / "another.wav"):
            with pytest.raises(LocalError, match="already"):
                await call.start_recording(wrong)
        await listen(call, 0.5)
        recording = await call.stop_recording()
        assert recording is not None
        problems.append(f"{recording.duration:.1f} {recording.dropped} {recording.is_finished}")
        with pytest.raises(LocalError, match="cannot record to"):
            await call.start_recording(tmp_path / "no" / "such.wav")
        await call.start_recording(tmp_path / "rest.wav")
        call.hang_up()
        await call.wait_ended()
        with pytest.raises(CallEnded):
            await call.start_recording(tmp_path / "late.wav")
        problems.append("done")

    async with (
        asyncio.timeout(30),
        serving(program, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server,
        dial(server.url) as placed,
    ):
        placed.call.speaker.write(BEEPS, RATE)
        await placed.call.wait_ended()
        await until(lambda: len(problems) == 2)
    assert problems[1] == "done"
    assert problems[0].endswith("0 True")
    samples, rate = read_wav(path)
    assert rate == 24_000
    assert 0.4 < len(samples) / rate < 5.0
    assert read_wav(tmp_path / "rest.wav")[1] == 16_000  # complete when the server has stopped


async def test_a_client_records_its_own_side(server: Serving, tmp_path: Path) -> None:
    path = tmp_path / "client.wav"
    async with asyncio.timeout(30), dial(server.url) as placed:
        await placed.call.wait_connected()
        await placed.call.start_recording(path)
        placed.call.speaker.write(BEEPS[:RATE], RATE)
        await placed.call.speaker.drained()
        await until_quiet(placed.call)
        await placed.call.stop_recording()
    samples, _ = read_wav(path)
    assert len(onsets(samples[:, 0])) == 2  # the echo is what this side hears
    assert len(onsets(samples[:, 1])) == 2


async def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    media = HostConfig(udp_port=0, record_dir=tmp_path / "file")
    with pytest.raises(LocalError, match="cannot record into"):
        async with serving(echo, ServeConfig(port=0, media=media)):
            pass
