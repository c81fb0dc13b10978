"""The program's side of a recording whose call has its media elsewhere: the two files, brought here as they grow.

`call.start_recording(path)` means a path of the machine that the program runs on. The media node writes (it has
both voices in their places; see `recording_spool.py`), and this process asks it once a second for what is new.
So the files here are what they are beside the media, a second behind; the last part comes when the recording is
over, which may be after the call, and after an engine that was away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from struct import pack
from typing import BinaryIO

from msgspec import structs

from stack.aio.private_files import for_owner_alone
from stack.aio.recording import StartRecording
from stack.aio.recording_writer import WAV_HEADER
from stack.aio.threads import in_thread
from stack.cluster.backbone import Backbone, BackboneError
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
from stack.core.errors import LocalError, ParseError
from stack.voice.recording import RecordingEvent, RecordingFailed, RecordingOpened

log = logging.getLogger("stack.cluster")

FETCH_EVERY = 1.0
"""Seconds between two looks at what is new."""
HURRY = 0.05
"""The same once the recording was ended."""
ANSWER_TIMEOUT = 2.0
"""Seconds that the node has to answer."""
BEGIN_PATIENCE = 5.0
"""Seconds in which it has to begin."""
PATIENCE = 300.0
"""Seconds without an answer after which the rest of a recording is given up."""
ASK_AGAIN = 0.5
"""Seconds before the node is asked again that has not answered."""


class _Refused(LocalError):
    """The node has no such recording, or does not make one."""


class FetchedRecording:
    """One recording. Use `begin`, then `run` in a task; `note` is told what becomes of it."""

    def __init__(
        self,
        backbone: Backbone,
        node: str,
        attachment: str,
        wanted: StartRecording,
        note: Callable[[RecordingEvent], None],
    ) -> None:
        self._backbone = backbone
        self._node = node
        self._attachment = attachment
        self._wanted = wanted
        self._note = note
        self._files: _Files | None = None
        self._ending = False
        self._hurry = asyncio.Event()

    async def begin(self) -> None:
        """Have the node record, and make the files; raises `LocalError` if one or the other cannot be."""
        wanted, name = self._wanted, self._wanted.name
        asked = BeginRecording(self._attachment, name, wanted.sample_rate)
        try:
            part = await self._ask(asked, BEGIN_PATIENCE)
            self._files = await in_thread(_Files, wanted.path)
            await in_thread(self._files.write, part)
        except BackboneError as error:
            raise LocalError(f"cannot record to {wanted.path}: the media node does not answer") from error
        except OSError as error:
            if self._files is not None:
                self._files.close()
            await self._forget()
            raise LocalError(f"cannot record to {wanted.path}: {error.strerror or error}") from error
        except asyncio.CancelledError:
            self._backbone.post(self._subject, RECORDING_ASKED.encode(ForgetRecording(self._attachment, name)))
            raise
        self._note(RecordingOpened(name))

    def end(self) -> None:
        """Record no more; what is missing of the files is fetched."""
        self._ending = True
        self._hurry.set()

    def note_lost(self) -> None:
        """The call is over for this process: the node ends the recording by itself."""
        self._hurry.set()

    async def run(self) -> None:
        """Fetch until the recording is complete."""
        assert self._files is not None
        name = self._wanted.name
        try:
            over = await self._fetch_all(self._files)
        except (LocalError, BackboneError, OSError) as error:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            log.error("call %s: the recording %s broke off: %s", self._wanted.call_id, self._wanted.path, reason)
            over = RecordingFailed(name, f"cannot record to {self._wanted.path}: {reason}")
        except asyncio.CancelledError:
            self._note(RecordingFailed(name, f"the recording {self._wanted.path} broke off"))
            raise
        finally:
            self._files.close()
        self._note(over)
        await self._forget()

    async def _fetch_all(self, files: _Files) -> RecordingEvent:
        has_told_end = False
        while True:
            if self._ending and not has_told_end:
                await self._ask(EndRecording(self._attachment, self._wanted.name), PATIENCE)
                has_told_end = True
            asked = ReadRecording(self._attachment, self._wanted.name, files.sound_size, files.lines_size)
            part = await self._ask(asked, PATIENCE)
            await in_thread(files.write, part)
            if part.sound or part.lines:
                continue  # there may be more
            if part.over is not None:
                return _with_name(part.over, self._wanted.name)
            await self._wait()

    async def _wait(self) -> None:
        if self._hurry.is_set():
            await asyncio.sleep(HURRY)
            return
        try:
            await asyncio.wait_for(self._hurry.wait(), FETCH_EVERY)
        except TimeoutError:
            return

    @property
    def _subject(self) -> str:
        return node_subject(self._node, "recording")

    async def _ask(self, asked: RecordingAsked, patience: float) -> RecordingPart:
        """Ask the node, again and again while it does not answer; raises `BackboneError`, and what it refuses."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while True:
            try:
                answer = await self._backbone.request(self._subject, RECORDING_ASKED.encode(asked), ANSWER_TIMEOUT)
                part = RECORDING_PART.decode(answer)
                break
            except (BackboneError, ParseError) as error:
                if loop.time() > deadline:
                    raise BackboneError(f"the media node does not answer: {error}") from error
                await asyncio.sleep(ASK_AGAIN)
        if part.error:
            raise _Refused(part.error)
        return part

    async def _forget(self) -> None:
        """Let the node delete its files; if it does not hear it, it does so later."""
        try:
            await self._ask(ForgetRecording(self._attachment, self._wanted.name), 0.0)
        except (BackboneError, LocalError) as error:
            log.debug("the node keeps the recording %s for now: %s", self._wanted.path, error)


class _Files:
    """The two files here. Everything may block, and raise `OSError`."""

    def __init__(self, path: str) -> None:
        self.sound_size = self.lines_size = 0
        self._sound: BinaryIO = open(path, "wb", opener=for_owner_alone)  # noqa: SIM115 - open for as long as the call
        try:
            self._lines: BinaryIO = open(Path(path).with_suffix(".jsonl"), "wb", opener=for_owner_alone)  # noqa: SIM115
        except OSError:
            self._sound.close()
            raise

    def write(self, part: RecordingPart) -> None:
        """Add a part; the header last, so that it never tells of what is not there."""
        self._sound.seek(WAV_HEADER + self.sound_size)
        self._sound.write(part.sound)
        self.sound_size += len(part.sound)
        if part.over is not None and self.sound_size > part.sound_size:  # it was cut at its end
            self.sound_size = part.sound_size
            self._sound.truncate(WAV_HEADER + self.sound_size)
        self._sound.flush()
        if len(part.header) == WAV_HEADER:
            self._sound.seek(0)
            self._sound.write(_header_of(part.header, self.sound_size))
            self._sound.flush()
        self._lines.write(part.lines)
        self._lines.flush()
        self.lines_size += len(part.lines)

    def close(self) -> None:
        """Close both."""
        for file in (self._sound, self._lines):
            try:
                file.close()
            except OSError:  # what could not be written cannot be flushed either
                log.debug("closing %s failed, too", file.name)


def _header_of(header: bytes, size: int) -> bytes:
    """Return the header of the node's WAV file as one of `size` bytes of sound."""
    whole = size - size % 4  # a sample of both lanes
    return header[:4] + pack("<I", 36 + whole) + header[8:40] + pack("<I", whole)


def _with_name(event: RecordingEvent, name: str) -> RecordingEvent:
    """Return what the node says of its recording, as said of ours."""
    return structs.replace(event, name=name)


__all__ = ["FetchedRecording"]
