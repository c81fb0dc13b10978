"""What writes recordings: a WAV file, and a file of JSON lines beside it, in the process of the media.

The media loop only appends to a bounded queue; one thread, which all recordings of the process share, aligns,
mixes (`stack.voice.recording`) and writes. When a disk is too slow, what does not fit into the queue is dropped
and counted, and the rest stays where it belongs. The WAV header is brought up to date every second, so that the
file can be read while it grows, and after a crash.

Files are made for their owner alone (mode 0600).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from struct import pack
from typing import BinaryIO, TextIO, TypeAlias
from weakref import WeakValueDictionary

from stack.aio.private_files import for_owner_alone
from stack.audio import Samples
from stack.audio.wav import FilePath
from stack.core.counters import Counters, declare
from stack.core.errors import LocalError
from stack.core.machine import Instant
from stack.session import Ended
from stack.voice.audio_sender import SpokenFrame
from stack.voice.events import ConversationEvent
from stack.voice.recording import Recorder, RecordingEvent, RecordingFailed, RecordingFinished, RecordingOpened

DROPPED_QUEUE_FULL = declare(
    "recorder", "dropped_queue_full", "Frames and events that came while the disk stood still"
)
DROPPED_BEYOND_WAV = declare("recorder", "dropped_beyond_wav", "Bytes of sound beyond what a WAV file can name")

log = logging.getLogger("stack.recording")

MAX_WAITING = 6000
"""Frames and events of one call (a minute of both lanes) that wait for the disk; what comes then is dropped."""
WRITE_EVERY = 0.1
"""Seconds between two looks at the queues."""
HEADER_EVERY = 1.0
"""Seconds after which a WAV header may be out of date."""
MAX_DATA = 0xFFFF_FFFF - 36
"""Bytes of sound that a WAV file can name: 18 hours at 16 kHz. What comes then is dropped and counted."""
_STEP = 500
"""Items that are taken from a queue before the next recording's turn."""
WAV_HEADER = 44
"""Bytes before the sound of the files that are written here."""
_FRAME_BYTES = 4

_Item: TypeAlias = "tuple[ConversationEvent | SpokenFrame | None, int, Instant]"


class RecordingWriter:
    """What writes one call's recording: the tap of its conversation, and the two files."""

    def __init__(
        self,
        path: FilePath,
        *,
        call_id: str,
        start: Instant,
        sample_rate: int = 16_000,
        wall: float | None = None,
        name: str = "",
    ) -> None:
        self.path = Path(path)
        self.events_path = self.path.with_suffix(".jsonl")
        self.call_id = call_id
        self.name = name
        """What commands call it."""
        self.dropped = 0
        """Frames and events that the queue had no room for."""
        self.duration = 0.0
        """Seconds, known at the end."""
        epoch = (time.time() if wall is None else wall) - start
        self._recorder = Recorder(start, sample_rate=sample_rate, epoch=epoch)
        self._start = start
        self._queue: deque[_Item] = deque()
        self._closed = False
        self._opened: Future[None] = Future()
        self._finished: Future[None] = Future()
        self._wav: _WavFile | None = None
        self._lines: TextIO | None = None
        _writer.add(self)

    def __repr__(self) -> str:
        return f"<RecordingWriter {self.path}: {'running' if self.is_running else 'over'}>"

    # -- the media loop's side: never waits ----------------------------------------------------------------

    def event(self, event: ConversationEvent, now: Instant) -> None:
        """Take what a conversation reports; the end of the call ends the recording."""
        self._put((event, 0, now))
        if isinstance(event, Ended):
            self.close(now)

    def sent(self, frame: SpokenFrame, sample_rate: int, now: Instant) -> None:
        """Take a frame that left."""
        self._put((frame, sample_rate, now))

    def close(self, now: Instant) -> None:
        """The recording ends here; harmless when it has ended."""
        if not self._closed:
            self._closed = True
            self._queue.append((None, 0, now))
            _writer.wake()

    def _put(self, item: _Item) -> None:
        if self._closed:
            return
        if len(self._queue) >= MAX_WAITING:
            self.dropped += 1
            return
        self._queue.append(item)

    # -- for who wants to know -----------------------------------------------------------------------------

    def watch(self, notify: Callable[[RecordingEvent], None]) -> None:
        """Have `notify` told what becomes of the recording, in the thread that writes; also what has by now."""

        def opened(future: Future[None]) -> None:
            if future.exception() is None:
                notify(RecordingOpened(self.name))

        def finished(future: Future[None]) -> None:
            failure = future.exception()
            if failure is not None:
                notify(RecordingFailed(self.name, str(failure)))
            else:
                counted = dict(self.counters.snapshot())
                notify(RecordingFinished(self.name, self.duration, self.dropped, counted))

        self._opened.add_done_callback(opened)
        self._finished.add_done_callback(finished)

    @property
    def counters(self) -> Counters:
        """What is not in the files; complete once the recording is finished."""
        total = Counters()
        total.merge(self._recorder.counters)
        total.add(DROPPED_QUEUE_FULL, self.dropped)
        total.add(DROPPED_BEYOND_WAV, self._wav.dropped if self._wav is not None else 0)
        return total

    @property
    def is_running(self) -> bool:
        """True until the recording is closed, the call is over, or writing has failed."""
        return not self._closed

    @property
    def is_finished(self) -> bool:
        """True once both files are complete, or writing has failed."""
        return self._finished.done()

    async def wait_opened(self) -> None:
        """Wait until the files are there; raises `LocalError` if they cannot be made."""
        await asyncio.shield(asyncio.wrap_future(self._opened))

    async def wait_finished(self) -> None:
        """Wait until both files are complete; raises `LocalError` if writing has failed."""
        await asyncio.shield(asyncio.wrap_future(self._finished))

    # -- the writer thread's side --------------------------------------------------------------------------

    def work(self) -> bool:
        """Write what has come; return whether there is more to be done at once."""
        try:
            if self._wav is None:
                self._open()
            ended = self._take()
            self._write()
            if ended is not None:
                self._finish(ended)
        except OSError as error:
            self._fail(error.strerror or str(error))
        except Exception as error:  # one recording may not take the others down
            log.exception("the recording of call %s failed", self.call_id)
            self._fail(repr(error))
        return bool(self._queue) and not self.is_finished

    def _open(self) -> None:
        # Both stay open until the recording ends.
        lines = self._lines = open(self.events_path, "w", encoding="utf-8", opener=for_owner_alone)  # noqa: SIM115
        sound = open(self.path, "wb", opener=for_owner_alone)  # noqa: SIM115
        self._wav = _WavFile(sound, self._recorder.sample_rate)
        values = {"call": self.call_id, "wav": self.path.name, "sample_rate": self._recorder.sample_rate}
        self._recorder.note("RecordingStarted", values, self._start)
        lines.flush()
        self._opened.set_result(None)

    def _take(self) -> Instant | None:
        """Hand what waits to the recorder; return when the recording ended, if it has."""
        for _ in range(min(len(self._queue), _STEP)):
            item, rate, now = self._queue.popleft()
            if item is None:
                return now
            if isinstance(item, SpokenFrame):
                self._recorder.sent(item, rate, now)
            else:
                self._recorder.event(item, now)
        return None

    def _write(self) -> None:
        assert self._wav is not None
        assert self._lines is not None
        for block in self._recorder.drain_blocks():
            self._wav.write(block.start, block.samples)
        if lines := self._recorder.drain_lines():
            self._lines.write("".join(line + "\n" for line in lines))
            self._lines.flush()
        self._wav.refresh(time.monotonic())

    def _finish(self, ended: Instant) -> None:
        assert self._wav is not None
        assert self._lines is not None
        length = self._recorder.finish(ended)
        self.duration = length / self._recorder.sample_rate
        counts = {"dropped": self.dropped, "beyond_wav": self._wav.dropped, **self._recorder.counters.snapshot()}
        self._recorder.note("RecordingStopped", {"duration": self.duration, **counts}, ended)
        self._write()
        self._wav.close(length)
        self._lines.close()
        self._finished.set_result(None)

    def _fail(self, reason: str) -> None:
        """The call goes on without a recording."""
        self._closed = True
        self._queue.clear()
        for file in (self._wav, self._lines):
            try:
                if file is not None:
                    file.close()
            except OSError:  # what could not be written cannot be flushed either
                log.debug("closing %s failed, too", self.path)
        failure = LocalError(f"cannot record to {self.path}: {reason}")
        log.error("call %s: %s", self.call_id, failure)
        if not self._opened.done():
            self._opened.set_exception(failure)
        self._finished.set_exception(failure)


class _WavFile:
    """A stereo WAV file that is written in places; what was skipped reads as silence."""

    def __init__(self, file: BinaryIO, sample_rate: int) -> None:
        self.dropped = 0
        """Bytes of sound that a WAV file cannot name any more."""
        self._file = file
        self._sample_rate = sample_rate
        self._size = self._named = 0  # bytes of sound that are there; that the header tells of
        self._refreshed = 0.0
        self._write_header()

    def write(self, start: int, samples: Samples) -> None:
        """Lay samples of shape (n, 2) down from sample `start` on."""
        place = start * _FRAME_BYTES
        data = samples.astype("<i2", copy=False).tobytes()
        room = max(0, (MAX_DATA - place) // _FRAME_BYTES * _FRAME_BYTES)
        self.dropped += max(0, len(data) - room)
        if room:
            self._file.seek(WAV_HEADER + place)
            self._file.write(data[:room])
            self._size = max(self._size, place + min(len(data), room))

    def refresh(self, now: Instant) -> None:
        """Bring the header up to date, if it is time."""
        if self._size > self._named and now - self._refreshed >= HEADER_EVERY:
            self._refreshed = now
            self._file.flush()  # the sound first: a header never tells of what is not there
            self._write_header()

    def close(self, length: int | None = None) -> None:
        """Close the file; with `length`, in samples, it is filled up with silence or cut to that."""
        if self._file.closed:
            return
        with self._file:
            self._file.flush()
            if length is not None:
                self._size = min(length * _FRAME_BYTES, MAX_DATA // _FRAME_BYTES * _FRAME_BYTES)
                self._file.truncate(WAV_HEADER + self._size)
            self._write_header()

    def _write_header(self) -> None:
        rate, size = self._sample_rate, self._size
        layout = (16, 1, 2, rate, rate * _FRAME_BYTES, _FRAME_BYTES, 16)
        self._file.seek(0)
        self._file.write(pack("<4sI4s", b"RIFF", 36 + size, b"WAVE"))
        self._file.write(pack("<4sIHHIIHH", b"fmt ", *layout) + pack("<4sI", b"data", size))
        self._file.flush()
        self._named = size


class _WriterThread:
    """The thread that writes: it begins with the first recording and ends with the last."""

    def __init__(self) -> None:
        self._recordings: list[RecordingWriter] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._running = False

    def add(self, recording: RecordingWriter) -> None:
        """Take care of a recording until it is finished."""
        with self._lock:
            self._recordings.append(recording)
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="recording", daemon=True).start()
        self._wake.set()

    def wake(self) -> None:
        """Something cannot wait."""
        self._wake.set()

    def unfinished(self) -> bool:
        """True while a recording is being written."""
        with self._lock:
            return any(not one.is_finished for one in self._recordings)

    def _run(self) -> None:
        busy = False
        while True:
            if not busy:
                self._wake.wait(WRITE_EVERY)
            self._wake.clear()
            with self._lock:
                self._recordings = [one for one in self._recordings if not one.is_finished]
                if not self._recordings:
                    self._running = False
                    return
                recordings = list(self._recordings)
            busy = sum(recording.work() for recording in recordings) > 0


_writer = _WriterThread()


def is_writing() -> bool:
    """True while a recording of this process is not complete."""
    return _writer.unfinished()


_named: WeakValueDictionary[str, RecordingWriter] = WeakValueDictionary()
"""Those that commands began in this process."""


def begin(name: str, path: str, call_id: str, start: Instant, sample_rate: int) -> RecordingWriter:
    """Begin a recording that commands call `name`; raises `LocalError` for an odd sample rate."""
    recording = _named[name] = RecordingWriter(
        path, call_id=call_id, start=start, sample_rate=sample_rate, name=name
    )
    return recording


def find_writer(name: str) -> RecordingWriter | None:
    """Return what writes the recording of this name; None if it is gone, or another process's."""
    return _named.get(name)
