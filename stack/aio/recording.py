"""Recordings as a program holds them, and the commands that begin and end one.

The conversation's side writes them (`recording_writer.py`), in the media thread or in a worker process; what
becomes of one comes back as values. Files are on the disk of this machine either way.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from stack.aio import recording_writer
from stack.audio.wav import FilePath
from stack.core.counters import Counters
from stack.core.errors import LocalError
from stack.core.machine import Instant
from stack.core.values import Value
from stack.voice.conversation import Conversation
from stack.voice.recording import RecordingEvent, RecordingFailed, RecordingFinished, RecordingOpened


class Recording:
    """One call's recording: where its two files are, and how far they are. It belongs to the program's loop."""

    def __init__(self, path: FilePath, *, call_id: str, name: str) -> None:
        self.path = Path(path)
        self.events_path = self.path.with_suffix(".jsonl")
        self.call_id = call_id
        self.name = name
        """What commands call it."""
        self.dropped = 0
        """Frames and events for which the queue of what writes had no room; known at the end."""
        self.duration = 0.0
        """Seconds, known at the end."""
        self._counted: Mapping[str, int] = {}
        self._failure: LocalError | None = None
        self._closed = False
        self._opened = asyncio.Event()
        self._finished = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Recording {self.path}: {'running' if self.is_running else 'over'}>"

    @property
    def counters(self) -> Counters:
        """What is not in the files; complete once the recording is finished."""
        return Counters.of(self._counted)

    @property
    def is_running(self) -> bool:
        """True until the recording is stopped, the call is over, or writing has failed."""
        return not self._closed

    @property
    def is_finished(self) -> bool:
        """True once both files are complete, or writing has failed."""
        return self._finished.is_set()

    async def wait_opened(self) -> None:
        """Wait until the files are there; raises `LocalError` if they cannot be made."""
        await self._opened.wait()
        if self._failure is not None:
            raise self._failure

    async def wait_finished(self) -> None:
        """Wait until both files are complete; raises `LocalError` if writing has failed."""
        await self._finished.wait()
        if self._failure is not None:
            raise self._failure

    def note(self, event: RecordingEvent) -> None:
        """Take what has become of it."""
        if isinstance(event, RecordingFinished):
            self.duration, self.dropped, self._counted = event.duration, event.dropped, event.counters
        elif isinstance(event, RecordingFailed):
            self._failure = LocalError(event.reason)
        self._opened.set()
        if not isinstance(event, RecordingOpened):
            self._closed = True
            self._finished.set()

    def note_closed(self) -> None:
        """Nothing more is recorded: it was stopped, or the call is over."""
        self._closed = True


def check_folder(folder: FilePath) -> None:
    """Make the folder if it is not there; raises `LocalError` if nothing can be recorded in it."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise LocalError(f"cannot record into {folder}: {error.strerror or error}") from error


def file_name(call_id: str, wall: float) -> str:
    """Return a name for the recording of a call that began at `wall` (seconds since 1970)."""
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(wall))
    return f"{when}-{''.join(c if c.isalnum() else '_' for c in call_id)}.wav"


# -- commands ----------------------------------------------------------------------------------------------


class StartRecording(Value, frozen=True):
    """The command that begins a recording of a call; see `Call.start_recording`.

    `name` is the caller's choice, and of one recording only.
    """

    name: str
    path: str
    call_id: str
    sample_rate: int = 16_000

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """Record from now on."""
        conversation.tap = recording_writer.begin(self.name, self.path, self.call_id, now, self.sample_rate)


class StopRecording(Value, frozen=True):
    """The command that ends the recording of this name; harmless when it has ended."""

    name: str

    def apply(self, conversation: Conversation, now: Instant) -> None:
        """Nothing is recorded from now on."""
        writer = recording_writer.find_writer(self.name)
        if writer is not None:
            writer.close(now)
            if conversation.tap is writer:
                conversation.tap = None


RecordingCommand: TypeAlias = StartRecording | StopRecording
"""What a conversation is told beside `ConversationCommand`, where there is a disk."""

__all__ = ["Recording", "RecordingCommand", "StartRecording", "StopRecording", "check_folder", "file_name"]
