"""Recordings on a disk: whole files, a disk that is slow, one that refuses, and a crash."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stack.aio.recording import RecordingCommand, StartRecording, StopRecording, check_folder, file_name
from stack.aio.recording_writer import MAX_WAITING, RecordingWriter, find_writer
from stack.audio import AudioFrame, read_wav
from stack.core.errors import LocalError
from stack.session import Ended, EndReason
from stack.voice.audio_sender import SpokenFrame
from stack.voice.commands import ConversationCommand
from stack.voice.events import AudioReceived, UserIdle
from stack.voice.wire import ValueCodec, decode_result, encode_result

RATE = 16_000


def spoken(index: int, level: int = 3000) -> SpokenFrame:
    return SpokenFrame(index, np.full(320, level, np.int16), 0.0, index == 0, index * 320, index * 0.020)


def heard(index: int, level: int = 2000) -> AudioReceived:
    return AudioReceived(AudioFrame(np.full(320, level, np.int16), RATE, index * 0.020))


async def until(condition, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_recording_is_a_stereo_wav_and_a_file_of_json_lines(tmp_path: Path) -> None:
    recording = RecordingWriter(tmp_path / "call.wav", call_id="abcd", start=50.0, wall=1_700_000_000.0)
    await recording.wait_opened()
    for index in range(500):
        recording.event(heard(index), 50.0 + index * 0.020)
        recording.sent(spoken(index), RATE, 50.0 + index * 0.020)
    recording.event(UserIdle(), 55.0)
    recording.event(Ended(EndReason.HUNG_UP), 60.0)
    await recording.wait_finished()
    assert recording.is_finished
    samples, rate = read_wav(recording.path)
    assert (rate, samples.shape) == (RATE, (10 * RATE, 2))
    assert (samples[:, 0] == 2000).all()
    assert (samples[:, 1] == 3000).all()
    lines = [json.loads(line) for line in recording.events_path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["RecordingStarted", "UserIdle", "Ended", "RecordingStopped"]
    assert [line["at"] for line in lines] == [0.0, 5.0, 10.0, 10.0]
    assert lines[0]["call"] == "abcd"
    assert lines[1]["wall"] == "2023-11-14T22:13:25.000+00:00"
    assert lines[2]["reason"] == "hung_up"
    assert lines[3]["duration"] == recording.duration == 10.0
    assert lines[3]["dropped"] == 0
    for path in (recording.path, recording.events_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_file_that_is_still_written_can_be_read(tmp_path: Path) -> None:
    """What a crash leaves is what is there at any moment."""
    recording = RecordingWriter(tmp_path / "call.wav", call_id="abcd", start=0.0)
    for index in range(1000):
        recording.event(heard(index), index * 0.020)
    await until(lambda: len(read_wav(recording.path)[0]) > 15 * RATE if recording.path.exists() else False)
    shutil.copy(recording.path, tmp_path / "crashed.wav")
    samples, _ = read_wav(tmp_path / "crashed.wav")
    assert (samples[:, 0] == 2000).all()
    recording.close(20.0)
    await recording.wait_finished()
    assert len(read_wav(recording.path)[0]) == 20 * RATE


async def test_silence_at_the_end_and_in_between_is_as_long_as_it_was(tmp_path: Path) -> None:
    recording = RecordingWriter(tmp_path / "call.wav", call_id="abcd", start=0.0)
    recording.sent(spoken(0), RATE, 2.0)
    recording.sent(spoken(0)._replace(media_time=28.0), RATE, 30.0)
    recording.close(40.0)
    await recording.wait_finished()
    samples, _ = read_wav(recording.path)
    assert len(samples) == 40 * RATE
    assert set(np.flatnonzero(samples[:, 1]) // 320) == {100, 1500}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the slow disk is a FIFO")
@pytest.mark.real_clock
async def test_nobody_waits_for_a_disk_that_stands_still(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "call.jsonl")  # opening it waits for a reader
    recording = RecordingWriter(tmp_path / "call.wav", call_id="abcd", start=0.0)
    began = time.monotonic()
    for index in range(MAX_WAITING + 1000):
        recording.sent(spoken(index), RATE, index * 0.020)
    assert time.monotonic() - began < 5.0  # it would be for ever
    assert recording.dropped == 1000
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend((tmp_path / "call.jsonl").read_text().splitlines()))
    reader.start()
    recording.close((MAX_WAITING + 1000) * 0.020)
    await recording.wait_finished()
    await asyncio.to_thread(reader.join, 10)
    assert json.loads(lines[-1])["dropped"] == 1000
    samples, _ = read_wav(recording.path)
    assert len(samples) == (MAX_WAITING + 1000) * 320
    assert (samples[: MAX_WAITING * 320, 1] == 3000).all()  # what was kept stayed in its place
    assert not samples[MAX_WAITING * 320 :].any()


async def test_a_file_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    recording = RecordingWriter(tmp_path / "no" / "such.wav", call_id="abcd", start=0.0)
    with pytest.raises(LocalError, match=r"cannot record to .*such\.wav: No such file"):
        await recording.wait_opened()
    recording.event(heard(0), 1.0)  # whoever is tapped still does not notice
    recording.close(2.0)
    with pytest.raises(LocalError, match="cannot record"):
        await recording.wait_finished()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the full disk is /dev/full")
async def test_a_full_disk_ends_the_recording_and_no_other(tmp_path: Path, caplog) -> None:
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    full = RecordingWriter(tmp_path / "full.wav", call_id="full", start=0.0)
    healthy = RecordingWriter(tmp_path / "healthy.wav", call_id="healthy", start=0.0)
    for recording in (full, healthy):
        recording.event(heard(0), 0.0)
        recording.event(Ended(EndReason.HUNG_UP), 1.0)
    with pytest.raises(LocalError, match="No space left"):
        await full.wait_finished()
    await healthy.wait_finished()
    assert len(read_wav(healthy.path)[0]) == RATE
    assert "call full: cannot record" in caplog.text


def test_a_folder_is_made_or_refused(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="cannot record into"):
        check_folder(tmp_path / "file" / "folder")


def test_a_name_has_no_way_out_of_its_folder() -> None:
    assert file_name("../ab+c/d", 0.0) == "19700101T000000Z-___ab_c_d.wav"


CODEC: ValueCodec[ConversationCommand | RecordingCommand] = ValueCodec(ConversationCommand | RecordingCommand)


def crossed(command: RecordingCommand) -> RecordingCommand:
    return CODEC.decode(CODEC.encode(command))


async def test_recordings_are_begun_and_ended_by_values(tmp_path: Path) -> None:
    """The commands may come from another process: they name a recording, and hold none."""
    conversation: Any = SimpleNamespace(tap=None)
    first = StartRecording("call/1", str(tmp_path / "first.wav"), "call", 24_000)
    assert crossed(first) == first
    assert decode_result(first, encode_result(crossed(first).apply(conversation, 1.0))) is None
    recording = find_writer("call/1")
    assert recording is not None
    assert conversation.tap is recording
    assert (recording.call_id, recording.name) == ("call", "call/1")
    crossed(StopRecording("call/1")).apply(conversation, 3.0)
    assert conversation.tap is None
    await recording.wait_finished()
    assert recording.duration == 2.0
    crossed(StartRecording("call/2", str(tmp_path / "second.wav"), "call")).apply(conversation, 4.0)
    crossed(StopRecording("call/1")).apply(conversation, 5.0)  # late, and harmless
    second = find_writer("call/2")
    assert second is not None
    assert conversation.tap is second
    assert second.is_running
    crossed(StopRecording("call/2")).apply(conversation, 6.0)
    await second.wait_finished()


def test_a_recording_that_this_process_does_not_have() -> None:
    assert find_writer("elsewhere") is None
    StopRecording("elsewhere").apply(SimpleNamespace(tap=None), 1.0)  # type: ignore[arg-type]
    with pytest.raises(LocalError):
        StartRecording("odd", "odd.wav", "call", 44_100).apply(SimpleNamespace(tap=None), 1.0)  # type: ignore[arg-type]
