"""What a program says, on its way to the network: queued as written, cut into frames, paced, dropped at once.

A program writes any length at any rate, far faster than real time, and is interrupted all the time. So `write`
only stores; sound is converted and resampled one frame ahead of its departure; and `flush` forgets the rest at
once and says how much that was. Frames are due on a grid that starts with the first frame of a talkspurt and is
computed, never accumulated, so the pace does not drift however late the ticks are.

    write ──> chunks as written ──> one frame at the codec's rate ──> take(now) ──> encoder

- A program that writes late by less than `CATCH_UP` frames is caught up with: the frames that are due leave
  together and the RTP timestamps stay contiguous. So is a tick that comes late by less than `MAX_BURST` frames
  although there was something to say: the listener bears a burst better than a hole in the middle of a word.
- Anything longer is a gap: the timeline moves on by itself (RFC 3550 §5.1: the timestamp counts silence too), the
  next frame leaves at once and carries the marker bit (RFC 3551 §4.1).
- A decoder that had nothing to play fades in what comes next, and a codec's encoder still holds the end of what it
  was given last. Both would spoil the first sound; so a talkspurt can be led in by silence, sent along with it.
- The last, partial frame of a talkspurt waits `HOLD` for more to be written, then goes out filled up with silence.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import NamedTuple

import numpy as np

from stack.audio.codec import Samples
from stack.audio.frame import AudioFrame, Pcm, PcmArray, as_array, to_int16
from stack.audio.resample import Resampler
from stack.core.counters import Counters, declare
from stack.core.errors import LocalError
from stack.core.machine import Instant

DROPPED_SAMPLES_FLUSHED = declare(
    "playout", "dropped_samples_flushed", "Samples that an interruption took back before they were sent"
)
SLOTS_SKIPPED = declare("playout", "slots_skipped", "Frame times without a frame: the program said nothing")
SAMPLES_PADDED = declare(
    "playout", "samples_padded", "Samples of silence that filled the last frame of what was said"
)
FRAMES_SENT = declare("playout", "frames_sent", "Frames that were encoded")

FRAME = 0.020
"""Seconds of sound in a packet, unless the peer asks for something else."""
CATCH_UP = 3
"""So many frames leave together, at most, when a tick was late (and `lead` more at the start of a talkspurt)."""
MAX_BURST = 10
"""So many frames leave together, at most, when the machine stalled while there was something to say."""
HOLD = 0.020
"""Seconds that a partial frame waits for the rest of it to be written."""
MAX_QUEUED = 3600.0
"""Seconds of sound that may wait; a program that writes more has lost its head."""
MAX_REWOUND = 100
"""Frames that left and are kept for `rewind`: two seconds of 20 ms each."""


class PlayoutFrame(NamedTuple):
    """One frame that leaves now, or `lead` frames later."""

    samples: Samples
    timestamp: int
    """Ticks of the codec's clock since the timeline's start; grows without wrapping."""
    marker: bool
    """First of a talkspurt."""
    position: int
    """How many samples of what the program wrote left before this frame."""
    due: Instant
    """When it is to leave: its place on the grid, or the instant at which it was there, if that is later."""
    leads_in: int = 0
    """Silence before a talkspurt, of which the program knows nothing: so many frames of it, with this one."""


class Lateness:
    """How late frames left, as a histogram: `counts[i]` by at most `BOUNDS[i]` seconds, the last by more."""

    BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.010, 0.020, 0.040, 0.060, 0.100, 0.200, 0.500)
    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(self.BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one frame."""
        self.counts[bisect_left(self.BOUNDS, seconds)] += 1
        self.total += seconds

    def merge(self, other: Lateness) -> None:
        """Add everything that `other` counted."""
        self.counts = [ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class _Departure(NamedTuple):
    position: int
    samples: Samples
    """What the program wrote, without padding."""


class PlayoutQueue:
    """The queue and pacer of one outgoing stream.

    `lead` whole frames are handed out before they are due, so that a media plane can send them by itself;
    `lead_in` frames of silence leave together with the first frame of a talkspurt that follows a gap. `frame` is
    how many seconds a packet holds; the limits above stay what they are in time.
    """

    def __init__(
        self,
        sample_rate: int = 48_000,
        channels: int = 1,
        clock_rate: int = 48_000,
        *,
        lead: int = 0,
        lead_in: int = 0,
        frame: float = FRAME,
    ) -> None:
        self.sample_rate = sample_rate
        self.channels = channels
        self.lead = lead
        self._lead_in = lead_in
        self._next_lead_in = lead_in
        self._leading = 0  # frames of it that are still to leave
        self.counters = Counters()
        self._frame = frame
        self._frame_samples = round(sample_rate * frame)
        self._frame_ticks = round(clock_rate * frame)
        self._chunks: deque[tuple[PcmArray, int]] = deque()
        self._waiting = 0.0  # seconds of sound in `_chunks`
        # At the codec's rate; after any call at least one frame, unless all is there.
        self._ready = self._silence(0)
        self._resampler = Resampler(sample_rate, sample_rate, channels, causal=True)
        self._written_at: Instant = 0.0
        self._ready_at: Instant = 0.0  # when the queue last ceased to be short of a frame
        self._origin: Instant | None = None  # of timestamp 0
        self._anchor: Instant = 0.0  # departure of slot `_anchor_slot`
        self._anchor_slot = 0
        self._slot = 0  # of the next frame
        self._due: Instant = 0.0  # of the next frame, on the grid
        self._position = 0
        self._departures: deque[_Departure] | None = None

    # What the program does

    def write(self, pcm: Pcm | AudioFrame, sample_rate: int | None, now: Instant) -> None:
        """Append sound; an `AudioFrame` brings its own sample rate.

        `LocalError` for what is not PCM, an unusable rate, or more than `MAX_QUEUED` seconds in all.
        """
        if isinstance(pcm, AudioFrame):
            return self.write(pcm.samples, pcm.sample_rate, now)
        if not sample_rate:
            raise LocalError("what is the sample rate of this sound?")
        if sample_rate != self._resampler.rate_in:
            Resampler(sample_rate, self.sample_rate)  # raises here, to the writer, if there is no such rate
        array = as_array(pcm)
        if len(array) == 0:
            return
        duration = len(array) / sample_rate
        if self.queued + duration > MAX_QUEUED:
            raise LocalError(f"more than {MAX_QUEUED:g} s of sound would wait to be played")
        short = self.queued < self._frame
        self._chunks.append((array, sample_rate))
        self._waiting += duration
        self._written_at = now
        if short:
            self._ready_at = now
        self._prepare()

    def flush(self) -> int:
        """Forget everything that has not left; return how many samples per channel that was, at `sample_rate`."""
        dropped = len(self._ready) + round(self._waiting * self.sample_rate)
        self._chunks.clear()
        self._waiting = 0.0
        self._ready = self._silence(0)
        self._resampler.reset()
        self.counters.add(DROPPED_SAMPLES_FLUSHED, dropped)
        return dropped

    @property
    def queued(self) -> float:
        """Seconds of sound that are written and have not left."""
        return self._waiting + len(self._ready) / self.sample_rate

    @property
    def position(self) -> int:
        """Samples of what the program wrote that have left, per channel."""
        return self._position

    def rewind(self, position: int) -> int:
        """Take back what left from `position` on, to be sent once more; return how many samples that are.

        What left before `keep_departed`, or before the last `MAX_REWOUND` frames, stays sent.
        """
        again: list[Samples] = []
        while self._departures and self._position > position:
            departure = self._departures.pop()
            kept = max(0, position - departure.position)
            again.append(departure.samples[kept:])
            self._position = departure.position + kept
        taken = sum(map(len, again))
        self._ready = np.concatenate((*reversed(again), self._ready))
        return taken

    def keep_departed(self, wanted: bool) -> None:
        """Keep what leaves from now on for `rewind`, or forget it: hundreds of kilobytes at 48 kHz."""
        self._departures = deque(maxlen=MAX_REWOUND) if wanted else None

    def resume(self, now: Instant, lead_in: int | None = None) -> None:
        """Go on after no frame was taken for a while on purpose: that is a gap, and nothing is late.

        `lead_in` is what goes before the next talkspurt, instead of the usual.
        """
        self._ready_at = now
        if lead_in is not None:
            self._next_lead_in = lead_in

    # What the network side does

    def start(self, now: Instant) -> None:
        """Let the timeline begin now instead of with the first frame; harmless later."""
        if self._origin is None:
            self._origin = self._anchor = self._due = now

    def poll_timeout(self) -> Instant | None:
        """When the next frame may be taken; in the past if it is late; None if there is none."""
        if self._origin is None:
            first = self._written_at
        else:
            # On the grid as well, so that it is the very instant at which the frame before it is due.
            first = self._anchor + (self._slot - self.lead - self._anchor_slot) * self._frame
        if len(self._ready) >= self._frame_samples:
            return first
        if len(self._ready):
            return max(first if self._origin is None else self._due, self._written_at + HOLD)
        return None

    def take(self, now: Instant) -> PlayoutFrame:
        """Return the next frame; only when `poll_timeout` has said that there is one now."""
        marker = False
        if self._origin is None:
            self.start(now)
            marker = True
        elif self._ready_at - self._due >= CATCH_UP * FRAME or now - self._due >= MAX_BURST * FRAME:
            self._move_on(now)
            marker = True
        timestamp = self._slot * self._frame_ticks
        due = self._due
        self._slot += 1
        self._due = self._anchor + (self._slot - self._anchor_slot) * self._frame  # computed: it does not drift
        if self._leading:
            silence = self._silence(self._frame_samples)
            frame = PlayoutFrame(silence, timestamp, marker, self._position, due, leads_in=self._leading)
            self._leading -= 1
            return frame
        return self._depart(timestamp, marker or timestamp == 0, due)

    def _move_on(self, now: Instant) -> None:
        """Start a new grid at `now`; the timestamps take the nearest slot that was not used."""
        assert self._origin is not None
        self._leading, self._next_lead_in = self._next_lead_in, self._lead_in
        slot = max(self._slot, round((now - self._origin) / self._frame) - self._leading)
        self.counters.add(SLOTS_SKIPPED, slot - self._slot)
        self._slot = self._anchor_slot = slot
        self._anchor = self._due = now - self._leading * self._frame  # the first sound is due now

    def _depart(self, timestamp: int, marker: bool, due: Instant) -> PlayoutFrame:
        size = self._frame_samples
        if len(self._ready) < size:  # the end of a talkspurt: what hangs in the filter belongs to it
            self._ready = np.concatenate((self._ready, self._resampler.flush()))
        samples, self._ready = self._ready[:size], self._ready[size:]
        real = len(samples)
        if real < size:
            samples = np.concatenate((samples, self._silence(size - real)))
            self.counters.add(SAMPLES_PADDED, size - real)
        position = self._position
        self._position += real
        if self._departures is not None:
            self._departures.append(_Departure(position, samples[:real]))
        self.counters.add(FRAMES_SENT)
        self._prepare()
        return PlayoutFrame(samples, timestamp, marker, position, max(due, self._ready_at))

    def _prepare(self) -> None:
        """Convert just enough for one frame to be ready."""
        while len(self._ready) < self._frame_samples and self._chunks:
            array, rate = self._chunks[0]
            if rate != self._resampler.rate_in:
                tail = self._resampler.flush()
                self._resampler = Resampler(rate, self.sample_rate, self.channels, causal=True)
                self._ready = np.concatenate((self._ready, tail))
            count = min(len(array), round(rate * FRAME))
            piece = array[:count]
            plain = piece.dtype == np.int16 and piece.ndim == 1 and self.channels == 1
            block: Samples = piece if plain else to_int16(piece, self.channels)  # type: ignore[assignment]
            if count == len(array):
                self._chunks.popleft()
            else:
                self._chunks[0] = (array[count:], rate)
            self._waiting = self._waiting - count / rate if self._chunks else 0.0
            if self._resampler.is_identity:
                ready = block
            else:
                ready = self._resampler.process(block)
            self._ready = np.concatenate((self._ready, ready)) if len(self._ready) else ready

    def _silence(self, samples: int) -> Samples:
        return np.zeros((samples,) if self.channels == 1 else (samples, self.channels), np.int16)
