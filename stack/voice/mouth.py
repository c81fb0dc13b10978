"""The mouth: what a program says becomes codec frames at their time, and can be held, resumed and dropped.

It keeps the record from which is computed how much of a reply was heard. Positions count the samples that the
program wrote, at the encoder's rate, from the beginning of the call; those of a reply count from its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from stack.audio import (
    FRAME,
    Encoder,
    EncoderTuner,
    G711Encoder,
    G711Law,
    Lateness,
    OpusEncoder,
    Pcm,
    PlayoutQueue,
    Samples,
)
from stack.core.errors import LocalError
from stack.core.machine import Instant
from stack.voice.barge_in import Heard, PlayoutRecord

_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)


class SpokenFrame(NamedTuple):
    """One frame on its way out."""

    payload: bytes
    samples: Samples
    ticks: int
    """Of the RTP clock, that it lasts."""
    skipped: int
    """Ticks of silence before it."""
    marker: bool
    position: int
    media_time: float
    """Seconds on the RTP timeline, which begins with the first frame and counts silence, too."""


class Mouth:
    """Queue, pace, encode. The encoder is made at the first write, at the rate that the program speaks at."""

    def __init__(self, codec: str, bitrate: int, complexity: int, *, redundancy: bool = False) -> None:
        self._codec = codec
        self._redundancy = redundancy  # RED repairs losses, so the codec need not
        self._bitrate = bitrate
        self._complexity = complexity
        self._encoder: Encoder | None = None
        self._tuner: EncoderTuner | None = None
        self._playout: PlayoutQueue | None = None
        self._record: PlayoutRecord | None = None
        self._reply_from = 0
        self._next_timestamp = 0
        self._ticks = 0
        self.held = False

    @property
    def sample_rate(self) -> int:
        """Of positions and frames; 0 before the first write."""
        return self._encoder.sample_rate if self._encoder is not None else 0

    @property
    def queued(self) -> float:
        """Seconds of sound that are written and have not left."""
        return self._playout.queued if self._playout is not None else 0.0

    @property
    def lateness(self) -> Lateness | None:
        """How late frames have left; None before the first write."""
        return self._playout.lateness if self._playout is not None else None

    def note_loss(self, loss: float, now: Instant) -> None:
        """The peer reports that it loses this share of our packets, 0 … 1: the encoder takes precautions."""
        if self._tuner is not None:
            self._tuner.update(loss, now)

    def write(self, pcm: Pcm, sample_rate: int, now: Instant) -> None:
        """Append sound; see `PlayoutQueue.write`."""
        if self._playout is None:
            self._playout = self._open(sample_rate)
        self._playout.write(pcm, sample_rate, now)

    def begin_reply(self) -> None:
        """What is written from now on belongs to a new reply."""
        if self._playout is not None:
            self._reply_from = self._playout.position + round(self._playout.queued * self.sample_rate)
        if self._record is not None:
            self._record.begin_reply()

    def hold(self) -> None:
        """Nothing leaves any more, and nothing is forgotten."""
        self.held = True

    def resume(self, heard: int, now: Instant) -> None:
        """Go on with the reply from where it was heard (`heard` samples from its beginning)."""
        self.held = False
        if self._playout is not None:
            self._playout.rewind(self._reply_from + heard)
            self._playout.resume(now)

    def drop(self, now: Instant) -> int:
        """Forget what has not left, and be ready for another reply; return how many samples that was."""
        self.held = False
        if self._playout is None:
            return 0
        dropped = self._playout.flush()
        self._playout.resume(now)
        return dropped

    def heard(self, now: Instant, playout_delay: float, *, silenced: bool) -> Heard:
        """Return how far into the reply the listener is; see `PlayoutRecord.heard`."""
        if self._record is None:
            return Heard(0, 0, 0, 0.0)
        return self._record.heard(now, playout_delay, silenced)

    def acknowledged(self, extended_highest: int, now: Instant, round_trip: float) -> None:
        """A receiver report has come."""
        if self._record is not None:
            self._record.acknowledged(extended_highest, now, round_trip)

    def note_sent(self, frame: SpokenFrame, sequence: int, now: Instant) -> None:
        """A frame has left under this extended sequence number."""
        if self._record is not None and frame.position >= self._reply_from:
            self._record.sent(sequence, frame.position - self._reply_from, len(frame.samples), now)

    def poll_timeout(self) -> Instant | None:
        """When the next frame is due."""
        return self._playout.poll_timeout() if self._playout is not None and not self.held else None

    def frames(self, now: Instant) -> Iterator[SpokenFrame]:
        """Yield every frame that leaves now."""
        if self._playout is None or self._encoder is None:
            return
        while not self.held and (frame := self._playout.next_frame(now)) is not None:
            skipped = frame.timestamp - self._next_timestamp
            self._next_timestamp = frame.timestamp + self._ticks
            yield SpokenFrame(
                self._encoder.encode(frame.samples),
                frame.samples,
                self._ticks,
                skipped,
                frame.marker,
                frame.position,
                frame.timestamp / self._encoder.clock_rate,
            )

    def _open(self, sample_rate: int) -> PlayoutQueue:
        encoder: Encoder
        if self._codec == "opus":
            rate = next((rate for rate in _OPUS_RATES if rate >= sample_rate), _OPUS_RATES[-1])
            encoder = OpusEncoder(rate, bitrate=self._bitrate, complexity=self._complexity)
            self._tuner = EncoderTuner(encoder, redundancy=self._redundancy)
        elif self._codec in ("pcmu", "pcma"):
            encoder = G711Encoder(G711Law[self._codec.upper()])
        else:
            raise LocalError(f"no encoder for {self._codec}")
        self._encoder = encoder
        self._ticks = round(encoder.clock_rate * FRAME)
        self._record = PlayoutRecord(encoder.sample_rate)
        return PlayoutQueue(encoder.sample_rate, 1, encoder.clock_rate)
