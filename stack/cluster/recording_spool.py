"""Recordings that programs behind the backbone have begun: the node's files, until the programs have them.

A recording has both voices where they belong in time, and that is known beside the media alone: what left the
machine and when, by which way frames arrived. So the node writes, into a private folder of its own (`TMPDIR`),
and the process that asked reads it part by part (`recording_fetch.py`). A program names no file here.

Asked by requests of their own and not in the stream of the call: sound that is fetched keeps no command waiting,
and the last part is asked for when the call is over. Files are deleted when they were fetched, `KEEP` seconds
after a process was heard of that does not come for them, and with the node's process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from stack.aio.call import Call
from stack.aio.recording import Recording
from stack.aio.recording_writer import WAV_HEADER
from stack.aio.threads import in_thread
from stack.cluster.backbone import Backbone
from stack.cluster.messages import (
    RECORDING_ASKED,
    RECORDING_PART,
    BeginRecording,
    ForgetRecording,
    ReadRecording,
    RecordingAsked,
    RecordingPart,
    node_subject,
)
from stack.cluster.ordered import DROPPED_MALFORMED
from stack.core.counters import declare
from stack.core.errors import LocalError, ParseError, StackError
from stack.voice.recording import RecordingFailed, RecordingFinished

log = logging.getLogger("stack.cluster")

MAX_PART = 256 * 1024
"""Bytes of each file in one answer; NATS takes 1 MiB unless it is told otherwise."""
MAX_KEPT = 16
"""Recordings of one process's call that are not fetched."""
KEEP = 600.0
"""Seconds for which a recording is kept that no process asks for: an engine may be away."""
LOOK_EVERY = 5.0
"""Seconds between two looks at how long that is."""
STOP_GRACE = 3.0
"""Seconds for which a node that ends waits for recordings to be fetched."""

NOT_FETCHED = declare(
    "backbone", "recording_not_fetched", "Recordings deleted because no program process had come"
)

_Key = tuple[str, str]


class _Kept:
    """One recording on this node."""

    def __init__(self, call: Call, path: Path) -> None:
        self.call = call
        self.path = path
        self.recording: Recording | None = None
        self.begun: asyncio.Task[None] | None = None
        self.asked = asyncio.get_running_loop().time()
        """When a process asked for it last."""


class RecordingSpool:
    """Of the node's loop. `find` returns the call that an attachment is up to."""

    def __init__(self, backbone: Backbone, node: str, find: Callable[[str], Call | None]) -> None:
        self._backbone = backbone
        self._node = node
        self._find = find
        self._kept: dict[_Key, _Kept] = {}
        self._folder: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen."""
        await self._backbone.subscribe(node_subject(self._node, "recording"), self._on_asked)
        self._begin_task(self._look())

    async def stop(self) -> None:
        """Wait a little for what is not fetched, and delete it all."""
        deadline = asyncio.get_running_loop().time() + STOP_GRACE
        while self._kept and self._backbone.is_up and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        await self._backbone.unsubscribe(node_subject(self._node, "recording"))
        for task in list(self._tasks):
            task.cancel()
        for _ in self._kept:
            self._backbone.counters.add(NOT_FETCHED)
        self._kept.clear()
        if self._folder is not None:
            await in_thread(shutil.rmtree, self._folder, True)

    def abandon(self, attachment: str) -> None:
        """The process has lost its call: its recordings end, and may still be fetched."""
        for (of, _), kept in list(self._kept.items()):
            if of == attachment:
                self._begin_task(self._end(kept))

    # -- what processes ask ----------------------------------------------------------------------------------

    def _begin_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_asked(self, subject: str, data: bytes, reply: str) -> None:
        try:
            asked = RECORDING_ASKED.decode(data)
        except ParseError:
            self._backbone.counters.add(DROPPED_MALFORMED)
            return
        self._begin_task(self._answer(asked, reply))

    async def _answer(self, asked: RecordingAsked, reply: str) -> None:
        try:
            part = await self._do(asked)
        except StackError as error:
            part = RecordingPart(error=str(error))
        except OSError as error:
            part = RecordingPart(error=f"the media node cannot record: {error.strerror or error}")
        if reply:
            self._backbone.post(reply, RECORDING_PART.encode(part))

    async def _do(self, asked: RecordingAsked) -> RecordingPart:
        key = asked.attachment, asked.name
        kept = self._kept.get(key)
        if isinstance(asked, BeginRecording):
            kept = kept or await self._make(key)
            await self._begin(key, kept, asked.sample_rate)
            return await in_thread(_read, kept.path, None, 0, 0)
        if kept is None or kept.recording is None:
            if isinstance(asked, ForgetRecording):
                return RecordingPart()
            raise LocalError("the media node has no such recording")
        kept.asked = asyncio.get_running_loop().time()
        if isinstance(asked, ReadRecording):
            return await in_thread(_read, kept.path, await _over(kept.recording), asked.sound, asked.lines)
        await self._end(kept)
        if isinstance(asked, ForgetRecording):
            self._kept.pop(key, None)
            await in_thread(_delete, kept.path)
        return RecordingPart()

    async def _make(self, key: _Key) -> _Kept:
        call = self._find(key[0])
        if call is None:
            raise LocalError("the call is over, or another process's")
        if call.recording is not None and call.recording.is_running and not self._is_kept(call.recording):
            raise LocalError("the media node records the call itself (--record-dir)")
        if sum(of == key[0] for of, _ in self._kept) >= MAX_KEPT:
            raise LocalError(f"{MAX_KEPT} recordings of this call have not been fetched from its media node")
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="voice-recordings-")
        kept = self._kept[key] = _Kept(call, Path(self._folder, f"{secrets.token_hex(8)}.wav"))
        return kept

    def _is_kept(self, recording: Recording) -> bool:
        return any(kept.recording is recording for kept in self._kept.values())

    async def _begin(self, key: _Key, kept: _Kept, sample_rate: int) -> None:
        """Begin to record; a process that asks again, as it heard no answer, waits for the same."""
        if kept.begun is None:
            kept.begun = asyncio.ensure_future(self._start(kept, sample_rate))
        try:
            await asyncio.shield(kept.begun)
        except StackError:
            self._kept.pop(key, None)
            raise

    async def _start(self, kept: _Kept, sample_rate: int) -> None:
        try:
            kept.recording = await kept.call.start_recording(kept.path, sample_rate=sample_rate)
        except LocalError as error:  # not with a path of this machine
            raise LocalError(str(error).replace(str(kept.path), "the media node's disk")) from error

    @staticmethod
    async def _end(kept: _Kept) -> None:
        if kept.recording is not None and kept.recording is kept.call.recording:
            with suppress(LocalError):  # what has become of it is told when it is read
                await kept.call.stop_recording()

    async def _look(self) -> None:
        """Delete what no process comes for."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = asyncio.get_running_loop().time()
            for key, kept in list(self._kept.items()):
                is_over = kept.call.ended or (kept.recording is not None and kept.recording.is_finished)
                if not is_over or now - kept.asked < KEEP:
                    continue
                log.warning("call %s: no process has fetched a recording of it: it is deleted", kept.call.id)
                self._backbone.counters.add(NOT_FETCHED)
                del self._kept[key]
                await in_thread(_delete, kept.path)


async def _over(recording: Recording) -> RecordingFinished | RecordingFailed | None:
    """Return how a recording ended, if it has: before its files are read, which then hold all of it."""
    if not recording.is_finished:
        return None
    try:
        await recording.wait_finished()
    except LocalError:
        return RecordingFailed(recording.name, "the media node could not write it")
    counters = recording.counters.snapshot()
    return RecordingFinished(recording.name, recording.duration, recording.dropped, counters)


def _read(
    path: Path, over: RecordingFinished | RecordingFailed | None, sound_at: int, lines_at: int
) -> RecordingPart:
    """Return what follows in both files. May block, and raise `OSError`."""
    with open(path, "rb") as sound:
        header = sound.read(WAV_HEADER)
        size = max(0, os.fstat(sound.fileno()).st_size - WAV_HEADER)
        sound.seek(WAV_HEADER + max(0, sound_at))
        part = sound.read(min(MAX_PART, max(0, size - sound_at)))
    with open(path.with_suffix(".jsonl"), "rb") as lines:
        lines.seek(max(0, lines_at))
        text = lines.read(MAX_PART)
    return RecordingPart(header, size, part, text, over)


def _delete(path: Path) -> None:
    for each in (path, path.with_suffix(".jsonl")):
        with suppress(OSError):
            each.unlink()


__all__ = ["RecordingSpool"]
