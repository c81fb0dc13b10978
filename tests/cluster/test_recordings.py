"""Recordings of programs behind the backbone: written by the node, and brought to the process that asked."""

from __future__ import annotations

import asyncio
import json
import tempfile
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stack import Call
from stack.cluster.messages import (
    RECORDING_ASKED,
    RECORDING_PART,
    BeginRecording,
    EndRecording,
    ForgetRecording,
    ReadRecording,
    RecordingAsked,
    RecordingPart,
    node_subject,
)
from stack.cluster.program_host import ProgramHost
from stack.core.errors import LocalError
from stack.signaling.client import dial
from tests.cluster.engine import Engine
from tests.cluster.test_calls import Told, agent, node
from tests.cluster.test_dialects import cut_off, doomed
from tests.listening import until

pytestmark = [pytest.mark.real_clock]
PATIENCE = 20.0
RATE = 16_000
TONE = (9000 * np.sin(np.arange(RATE) * 440 * 2 * np.pi / RATE)).astype(np.int16)


@pytest.fixture(autouse=True)
def spools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where nodes make their folders."""
    folder = tmp_path / "spools"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


class Speaking:
    """A program whose work is a function of the test's; what it raised is raised in the test."""

    def __init__(self, work: Callable[[Call], Awaitable[None]]) -> None:
        self._work = work
        self.failed: BaseException | None = None
        self.done = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._work(call)
        except Exception as error:
            self.failed = error
        finally:
            self.done.set()
        await call.wait_ended()

    async def end(self) -> None:
        await asyncio.wait_for(self.done.wait(), PATIENCE)
        if self.failed is not None:
            raise self.failed


def read(path: Path) -> tuple[float, int]:
    """Return how long a recording is, and the peak of the program's lane."""
    with wave.open(str(path)) as sound:
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").reshape(-1, 2)
        assert path.stat().st_size == 44 + 4 * len(samples)
        return len(samples) / sound.getframerate(), int(np.abs(samples[:, 1]).max(initial=0))


async def test_the_files_grow_here_and_are_whole_after_the_call(
    engine: Engine, tmp_path: Path, spools: Path
) -> None:
    path = tmp_path / "call.wav"
    seen: list[Any] = []

    async def work(call: Call) -> None:
        recording = await call.start_recording(path)
        seen.append(recording)
        call.speaker.write(np.tile(TONE, 6), RATE)
        await until(lambda: path.stat().st_size > 44 + 4 * RATE, PATIENCE)
        seen.append(read(path)[1])
        assert len(list(spools.rglob("*.wav"))) == 1

    program = Speaking(work)
    async with node(engine) as server, agent(engine, program), dial(server.url) as ours:
        await asyncio.wait_for(ours.call.wait_connected(), PATIENCE)
        await program.end()
        ours.call.hang_up()
        recording, peak = seen
        await asyncio.wait_for(recording.wait_finished(), PATIENCE)
        assert peak > 5000
        assert read(path) == (pytest.approx(recording.duration, abs=0.001), pytest.approx(9000, abs=3000))
        lines = [json.loads(line)["event"] for line in recording.events_path.read_text().splitlines()]
        assert (lines[0], lines[-1]) == ("RecordingStarted", "RecordingStopped")
        await until(lambda: not list(spools.rglob("*.*")), PATIENCE)  # the node has deleted what was fetched
    assert list(spools.iterdir()) == []


async def test_an_engine_that_was_away_costs_a_recording_nothing(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    begun, back = asyncio.Event(), asyncio.Event()
    lengths: list[float] = []

    async def work(call: Call) -> None:
        recording = await call.start_recording(path)
        call.speaker.write(np.tile(TONE, 2), RATE)  # which is said while the engine is away
        begun.set()
        await back.wait()
        await call.speaker.drained()
        await call.stop_recording()
        lengths.extend([recording.duration, *read(path)])

    program = Speaking(work)
    async with node(engine) as server, agent(engine, program) as process, dial(server.url):
        await asyncio.wait_for(begun.wait(), PATIENCE)
        engine.stop()
        await until(lambda: not process.backbone.is_up, PATIENCE)
        engine.start()
        await until(lambda: process.backbone.is_up, PATIENCE)
        back.set()
        await program.end()
    told, found, peak = lengths
    assert found == pytest.approx(told, abs=0.001)
    assert found > 2.0
    assert peak > 5000


async def test_the_process_that_goes_on_records_anew(
    engine: Engine, tmp_path: Path, spools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the one before has not fetched is deleted after a while."""
    monkeypatch.setattr("stack.cluster.recording_spool.KEEP", 5.0)
    monkeypatch.setattr("stack.cluster.recording_spool.LOOK_EVERY", 0.05)

    async def work(call: Call) -> None:
        path = tmp_path / f"{call.context.continuation}.wav"
        recording = await call.start_recording(path)
        call.speaker.write(np.tile(TONE, 2 if call.context.continuation else 6), RATE)
        if call.context.continuation:
            await call.speaker.drained()
            await call.stop_recording()
            assert recording.duration > 1.0
        else:
            await until(lambda: path.stat().st_size > 44 + 4 * RATE, PATIENCE)

    first, second = Speaking(work), Speaking(work)
    async with node(engine) as server, doomed(engine, first) as dying, dial(server.url) as ours:
        await asyncio.wait_for(ours.call.wait_connected(), PATIENCE)
        await first.end()
        async with agent(engine, second):
            await cut_off(dying)
            await second.end()
            await until(lambda: not list(spools.rglob("*.wav")), PATIENCE)
            assert (await server.host.all_counters())["backbone.recording_not_fetched"] == 1
    assert read(tmp_path / "0.wav")[1] > 5000  # what it had until then can be read
    assert read(tmp_path / "1.wav")[1] > 5000


@pytest.mark.parametrize("where", ["here", "there", "records itself"])
async def test_what_cannot_be_recorded_is_one_clear_error(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path, settings = tmp_path / "call.wav", {}
    if where == "here":
        path.symlink_to("/dev/full")
    elif where == "there":
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    else:
        settings["record_dir"] = tmp_path / "all"
    refusals: list[str] = []

    async def work(call: Call) -> None:
        with pytest.raises(LocalError) as refused:
            await call.start_recording(path)
        refusals.append(str(refused.value))
        assert call.recording is None
        assert (await call.stats()).session is not None  # the call goes on

    program = Speaking(work)
    async with node(engine, **settings) as server, agent(engine, program), dial(server.url) as ours:
        await asyncio.wait_for(ours.call.wait_connected(), PATIENCE)
        await program.end()
    assert refusals == [
        {
            "here": f"cannot record to {path}: No space left on device",
            "there": "the media node cannot record: No such file or directory",
            "records itself": "the media node records the call itself (--record-dir)",
        }[where]
    ]


async def ask(process: ProgramHost, asked: RecordingAsked) -> RecordingPart:
    answer = await process.backbone.request(node_subject("n1", "recording"), RECORDING_ASKED.encode(asked), 5.0)
    return RECORDING_PART.decode(answer)


async def test_a_node_answers_for_the_calls_that_a_process_has(engine: Engine) -> None:
    remote = Told()
    async with node(engine) as server, agent(engine, remote) as process, dial(server.url) as ours:
        await asyncio.wait_for(ours.call.wait_connected(), PATIENCE)
        await until(lambda: bool(remote.calls), PATIENCE)
        (attachment,) = process._links
        former = f"{ours.name}-7"
        assert "another process's" in (await ask(process, BeginRecording(former, "a", RATE))).error
        for asked in (ReadRecording(attachment, "a", 0, 0), EndRecording(attachment, "a")):
            assert "no such recording" in (await ask(process, asked)).error
        assert (await ask(process, ForgetRecording(attachment, "a"))).error == ""
        both = await asyncio.gather(*(ask(process, BeginRecording(attachment, "a", RATE)) for _ in range(2)))
        assert [part.error for part in both] == ["", ""]  # asked again, as after a lost answer
        assert both[0].header[:4] == b"RIFF"
        far = await ask(process, ReadRecording(attachment, "a", 1 << 40, 1 << 40))
        assert (far.sound, far.lines, far.over) == (b"", b"", None)
        assert (await ask(process, ReadRecording(attachment, "a", -5, -5))).lines.startswith(b"{")
        for number in range(1, 17):
            await ask(process, EndRecording(attachment, "a"))
            refused = await ask(process, BeginRecording(attachment, f"a{number}", RATE))
            if refused.error:
                break
            await ask(process, EndRecording(attachment, f"a{number}"))
        assert "have not been fetched" in refused.error
        process.backbone.post(node_subject("n1", "recording"), b"junk")
        await until(lambda: server.host.calls, PATIENCE)
        await ask(process, ForgetRecording(attachment, "a"))
        assert (await server.host.all_counters())["backbone.dropped_malformed"] == 1
