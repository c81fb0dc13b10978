"""A call as a recording: two lanes on one time axis, and a line of JSON for everything that happens.

    Conversation ──tap──> Recorder ──> Block (stereo int16, with its place)   left: the person, right: the program
                                  └──> lines (JSON)

Zero of the axis is the instant at which the recording begins, by our own clock at the network's edge:

- *Right* lies where it left: a talkspurt at the departure of its first packet, the rest of it by the RTP timeline.
  What was held, dropped or never sent is not there, because it is taken behind the audio sender.
- *Left* lies where it arrived by the fastest way of late, spaced by media time: what came late, or was repaired,
  stands where it belongs. The two clocks drift apart; that is made good in a quiet moment, 10 ms at a time.

So an answer that a program writes in the instant in which it hears a frame lies beside that frame.

A Transform: the caller says what time it is, drains blocks and lines, and keeps them wherever it likes
(`stack.aio.recording`: a WAV file and a file of JSON lines). A block carries its place, so whatever is between
blocks is silence, and a block that gets lost moves nothing.

Left out: encryption, which belongs to the disk or to the program that takes the files away.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from msgspec import structs

from stack.audio import AudioFrame, Resampler, Samples, to_int16
from stack.core.counters import Counters, declare
from stack.core.errors import LocalError
from stack.core.machine import Instant, Path
from stack.core.values import Value
from stack.sctp import MessageReceived
from stack.voice.audio_sender import SpokenFrame
from stack.voice.events import (
    AudioReceived,
    ContextAdded,
    ConversationEvent,
    KeyPressed,
    SessionUpdated,
    TurnPaused,
    Utterance,
)

DROPPED_SAMPLES_TOO_LATE = (
    declare(
        "recorder", "dropped_left_samples_too_late", "Samples of the person that came when their place was written"
    ),
    declare(
        "recorder",
        "dropped_right_samples_too_late",
        "Samples of the program that came when their place was written",
    ),
)
SAMPLE_RATES = (16_000, 24_000)
LOOK_AHEAD = 1.0
"""Seconds that a frame of the person waits, to learn how fast the way is that it came."""
_LOOK_BACK = 3.0
COMMIT_AFTER = 3.0
"""Seconds after which a place on the axis is final: what comes later still is counted and left out."""
BLOCK = 0.5
"""Seconds of the shortest block, but for the last."""
_SLACK = 0.010
"""Seconds by which the left lane may be off before it is moved in a quiet moment."""
_FORCE = 0.040
"""Seconds by which it may be off before it is moved in the middle of a word."""
_QUIET = 300
"""Peak of a frame in which a shift is not heard (of 32767)."""
_JOIN = 2
"""Samples by which the next frame may miss the end of the one before and still belong to it (rounding)."""
_LEFT, _RIGHT = 0, 1


class Tap(Protocol):
    """What is shown all that a conversation hears, says and reports. It must not block, and not raise."""

    def event(self, event: ConversationEvent, now: Instant) -> None:
        """Something happened; `AudioReceived` among them."""

    def sent(self, frame: SpokenFrame, sample_rate: int, now: Instant) -> None:
        """A frame has left."""


class RecordingOpened(Value, frozen=True):
    """The files of the recording `name` are there."""

    name: str


class RecordingFinished(Value, frozen=True):
    """The files of a recording are complete: its length in seconds, and what is not in them."""

    name: str
    duration: float
    dropped: int
    """Frames and events."""
    counters: Mapping[str, int]


class RecordingFailed(Value, frozen=True):
    """A recording could not be written, or not to its end."""

    name: str
    reason: str


RecordingEvent: TypeAlias = RecordingOpened | RecordingFinished | RecordingFailed
"""What becomes of a recording."""


class Block(NamedTuple):
    """A stretch of the recording: int16 of shape (n, 2), of which the first is sample `start` of each lane."""

    start: int
    samples: Samples


class Recorder:
    """Aligns and mixes what a conversation shows its tap; `start` is the zero of the axis.

    `epoch` is what the wall clock (seconds since 1970) said when the instants' clock stood at zero.
    """

    def __init__(self, start: Instant, *, sample_rate: int = 16_000, epoch: float = 0.0) -> None:
        if sample_rate not in SAMPLE_RATES:
            raise LocalError(f"a recording has one of {SAMPLE_RATES} samples a second, not {sample_rate}")
        self.sample_rate = sample_rate
        self.counters = Counters()
        self._start = start
        self._epoch = epoch
        self._canvas = _Canvas(round((COMMIT_AFTER + BLOCK + 1.0) * sample_rate))
        self._person = _PersonLane(_Lane(self._canvas, _LEFT, sample_rate, self.counters), start)
        self._program = _ProgramLane(_Lane(self._canvas, _RIGHT, sample_rate, self.counters), start)
        self._blocks: list[Block] = []
        self._lines: list[str] = []

    def event(self, event: ConversationEvent, now: Instant) -> None:
        """Take what a conversation reports."""
        self.advance(now)
        if isinstance(event, AudioReceived):
            self._person.heard(event.frame, now)
        else:
            self.note(type(event).__name__, describe(event), now)

    def sent(self, frame: SpokenFrame, sample_rate: int, now: Instant) -> None:
        """Take a frame that left."""
        self.advance(now)
        self._program.sent(frame, sample_rate, now)

    def note(self, name: str, values: Mapping[str, Any], now: Instant) -> None:
        """Write a line: `at` are seconds on the recording's axis, `instant` of the clock, `wall` is UTC."""
        wall = datetime.fromtimestamp(self._epoch + now, UTC).isoformat(timespec="milliseconds")
        at, instant = round(now - self._start, 6), round(now, 6)
        line = {"at": at, "instant": instant, "wall": wall, "event": name, **values}
        self._lines.append(json.dumps(line, separators=(",", ":"), ensure_ascii=False, default=str))

    def advance(self, now: Instant) -> None:
        """Time goes on: what is old enough becomes final."""
        self._person.place(now - LOOK_AHEAD)
        final = int((now - self._start - COMMIT_AFTER) * self.sample_rate)
        if final - self._canvas.start >= BLOCK * self.sample_rate:
            self._take(final)

    def finish(self, now: Instant) -> int:
        """The recording ends here: everything becomes final; return its length in samples."""
        self.advance(now)
        self._person.place(now)
        self._program.finish()
        end = max(0, round((now - self._start) * self.sample_rate))
        self._take(max(end, self._canvas.start))
        return end

    def drain_blocks(self) -> Sequence[Block]:
        """Return what has become final, in order; silence is left out."""
        blocks, self._blocks = self._blocks, []
        return blocks

    def drain_lines(self) -> Sequence[str]:
        """Return what has happened, each a JSON object without a newline."""
        lines, self._lines = self._lines, []
        return lines

    def _take(self, until: int) -> None:
        block = self._canvas.take(until)
        if block.samples.any():
            self._blocks.append(block)


class _Canvas:
    """The part of both lanes that may still change. Its length is fixed, whatever the peer sends."""

    def __init__(self, length: int) -> None:
        self.start = 0
        self._samples: Samples = np.zeros((length, 2), np.int16)

    def put(self, lane: int, position: int, samples: Samples) -> int:
        """Lay samples down; return how many of them lie outside and were left out."""
        first = position - self.start
        begin, end = max(first, 0), min(first + len(samples), len(self._samples))
        if begin >= end:
            return len(samples)
        self._samples[begin:end, lane] = samples[begin - first : end - first]
        return len(samples) - (end - begin)

    def take(self, until: int) -> Block:
        """Give away everything before `until`."""
        count = min(until - self.start, len(self._samples))
        block = Block(self.start, self._samples[:count].copy())
        left = len(self._samples) - count
        self._samples[:left] = self._samples[count:]
        self._samples[left:] = 0
        self.start = until
        return block


class _Lane:
    """One side at the recording's rate: frames that follow on each other are joined without a seam."""

    def __init__(self, canvas: _Canvas, column: int, sample_rate: int, counters: Counters) -> None:
        self.canvas = canvas
        self.sample_rate = sample_rate
        self.counters = counters
        self._column = column
        self._resampler = Resampler(sample_rate, sample_rate, causal=True)
        self._running = False  # something may follow on
        self._cursor = 0  # where the next sample goes that the resampler gives
        self._lead = 0  # samples that it gives before the first of the sound
        self.next = 0
        """Where the next frame goes, if it follows on the one before."""

    def put(self, position: int, samples: Samples, rate: int) -> None:
        """Lay a frame down at `position`; what is there already gives way."""
        if rate != self._resampler.rate_in or abs(position - self.next) > _JOIN:
            self.flush()
            if rate != self._resampler.rate_in:
                self._resampler = Resampler(rate, self.sample_rate, causal=True)
            self.next = position
        if not self._running:
            self._running = True
            self._cursor = self.next
            self._lead = round(self._resampler.delay * self.sample_rate)
        self.next += round(len(samples) * self.sample_rate / rate)
        self._lay(self._resampler.process(samples))

    def flush(self) -> None:
        """Nothing follows on: lay down what the resampler keeps."""
        if self._running:
            self._running = False
            self._lay(self._resampler.flush())

    def _lay(self, samples: Samples) -> None:
        skipped = min(self._lead, len(samples))
        self._lead -= skipped
        outside = self.canvas.put(self._column, self._cursor, samples[skipped:])
        if outside:
            self.counters.add(DROPPED_SAMPLES_TOO_LATE[self._column], outside)
        self._cursor += len(samples) - skipped


class _PersonLane:
    """Media time laid onto our clock: by the fastest way of the packets just before and after."""

    def __init__(self, lane: _Lane, start: Instant) -> None:
        self._lane = lane
        self._start = start
        self._pending: deque[tuple[Instant, AudioFrame]] = deque()
        self._transits: deque[tuple[Instant, float]] = deque()
        self._offset: int | None = None  # of media time on the axis, in samples

    def heard(self, frame: AudioFrame, now: Instant) -> None:
        self._pending.append((now, frame))
        self._transits.append((now, now - frame.media_time))

    def place(self, until: Instant) -> None:
        """Lay down the frames that arrived by then."""
        while self._pending and self._pending[0][0] <= until:
            arrival, frame = self._pending.popleft()
            self._place(frame, arrival)
        if not self._pending:
            self._lane.flush()

    def _place(self, frame: AudioFrame, arrival: Instant) -> None:
        lane = self._lane
        while self._transits[0][0] < arrival - _LOOK_BACK:
            self._transits.popleft()
        media = round(frame.media_time * lane.sample_rate)
        wanted = self._fastest()
        if self._offset is None or self._may_move(wanted - self._offset, frame, media + self._offset):
            self._offset = wanted
        if media + self._offset < lane.canvas.start:
            # Later than anything can be: another source, whose media time did not count the pause before it.
            while self._transits[0][0] < arrival:
                self._transits.popleft()
            self._offset = self._fastest()
        lane.put(media + self._offset, frame.samples, frame.sample_rate)

    def _fastest(self) -> int:
        return round((min(transit for _, transit in self._transits) - self._start) * self._lane.sample_rate)

    def _may_move(self, shift: int, frame: AudioFrame, position: int) -> bool:
        off = abs(shift) / self._lane.sample_rate
        if off <= _SLACK:
            return False
        after_a_gap = abs(position - self._lane.next) > _JOIN
        return off > _FORCE or after_a_gap or int(np.abs(frame.samples.astype(np.int32)).max(initial=0)) < _QUIET


class _ProgramLane:
    """What left, by the RTP timeline from the beginning of each talkspurt on."""

    def __init__(self, lane: _Lane, start: Instant) -> None:
        self._lane = lane
        self._start = start
        self._offset: int | None = None

    def sent(self, frame: SpokenFrame, rate: int, now: Instant) -> None:
        lane = self._lane
        media = round(frame.media_time * lane.sample_rate)
        if self._offset is None or frame.marker:
            begin = now - frame.leads_in * len(frame.samples) / rate  # the sound behind it is of now
            self._offset = max(round((begin - self._start) * lane.sample_rate), lane.next) - media
        lane.put(media + self._offset, to_int16(frame.samples), rate)  # stereo is mixed down: it is one lane

    def finish(self) -> None:
        self._lane.flush()


def describe(event: object) -> dict[str, Any]:
    """Return the fields of an event as JSON can say them.

    What may be a secret stays out: messages, typed words (their size is told) and instructions, telephone keys
    (PINs and card numbers are typed there), channels' protocols (tokens travel in them), and sound, which is in
    the recording.
    """
    if isinstance(event, MessageReceived):
        return {"channel": event.channel, "text": isinstance(event.data, str), "size": len(event.data)}
    if isinstance(event, KeyPressed | SessionUpdated):
        return {}
    if isinstance(event, ContextAdded):
        return {"role": event.role, "typed": len(event.text)}
    if isinstance(event, TurnPaused):
        return {"number": event.number}
    if not isinstance(event, Value):
        return {}
    named = structs.asdict(event)
    if isinstance(event, Utterance):
        named["duration"] = event.duration
        named["typed"] = len(named.pop("text"))
        del named["request"]
    named.pop("protocol", None)
    return {name: _plain(value) for name, value in named.items() if not isinstance(value, np.ndarray | bytes)}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, int | str | bool) or value is None:
        return value
    if isinstance(value, Path):
        return f"{value.protocol} {value.local} {value.remote}"
    return str(value)
