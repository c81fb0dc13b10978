"""The mouth: what a program says becomes codec frames at their time, and can be held, resumed and dropped.

It keeps the record from which is computed how much of a reply was heard. Positions count the samples that the
program wrote, at the encoder's rate, from the beginning of the call; those of a reply count from its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

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
    is_dtx,
    to_int16,
)
from stack.core.errors import LocalError
from stack.core.machine import Instant
from stack.sdp import AudioParameters
from stack.voice.barge_in import Heard, PlayoutRecord

_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
_LEAD_IN = 1  # frames: a browser fades in the first 20 to 30 ms after a gap
_LEAD_IN_AFTER_CUT = 2
"""Frames before what follows a voice that was cut off. A jitter buffer that holds too little stretches the first
30 ms that it gets, by laying them over each other: that is to be silence, or the first sound is faded in."""

_BITRATES = (6_000, 510_000)  # RFC 7587 §6.1
_FRAMES_MS = (10, 20, 40, 60)


@dataclass(frozen=True, slots=True)
class Manner:
    """How sound is coded on its way out: what the program wishes, within what the peer's description allows.

    Rates in Hz and bit/s, `frame` in seconds. `dtx` None: if the peer asks for it (`usedtx=1`).
    """

    codec: str
    bitrate: int = 24_000
    complexity: int = 5
    application: str = "voip"
    """"voip" for speech, "audio" for music, "lowdelay"."""
    channels: int = 1
    dtx: bool | None = None
    cbr: bool = False
    fec: bool = True
    max_rate: int = _OPUS_RATES[-1]
    frame: float = FRAME
    redundancy: bool = False
    """RED repairs losses, so the codec need not."""

    @classmethod
    def agree(
        cls,
        audio: AudioParameters,
        bitrate: int,
        complexity: int,
        application: str,
        channels: int,
        dtx: bool | None,
    ) -> Self:
        """Hold the program's wishes against what was negotiated (RFC 7587 §6.1, RFC 8866 §6.4)."""
        asked = audio.remote_parameters
        most = _number(asked, "maxaveragebitrate", _BITRATES[1])
        rate = _number(asked, "maxplaybackrate", _OPUS_RATES[-1])
        longest = audio.max_ptime or _FRAMES_MS[-1]
        ptime = audio.ptime if audio.ptime in _FRAMES_MS else round(FRAME * 1000)
        shorter = [each for each in _FRAMES_MS if each <= min(ptime, longest)]
        return cls(
            codec=audio.codec.lower(),
            bitrate=max(_BITRATES[0], min(bitrate, most)),
            complexity=complexity,
            application=application,
            channels=channels if asked.get("stereo") == "1" else 1,
            dtx=asked.get("usedtx") == "1" if dtx is None else dtx,
            cbr=asked.get("cbr") == "1",
            fec=asked.get("useinbandfec") == "1",
            max_rate=max((each for each in _OPUS_RATES if each <= rate), default=_OPUS_RATES[0]),
            frame=(shorter[-1] if shorter else _FRAMES_MS[0]) / 1000,
            redundancy=audio.red_payload_type is not None,
        )


def _number(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default


class SpokenFrame(NamedTuple):
    """One frame on its way out."""

    payload: bytes
    """Empty: silence that is not sent (DTX)."""
    samples: Samples
    """Mono, whatever is sent."""
    ticks: int
    """Of the RTP clock, that it lasts."""
    skipped: int
    """Ticks of silence before it."""
    marker: bool
    position: int
    media_time: float
    """Seconds on the RTP timeline, which begins with the first frame and counts silence, too."""
    leads_in: int = 0
    """Silence before a talkspurt, which is no part of what was written: so many frames of it, with this one."""


class Mouth:
    """Queue, pace, encode. The encoder is made at the first write, at the rate that the program speaks at."""

    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self._encoder: Encoder | None = None
        self._tuner: EncoderTuner | None = None
        self._playout: PlayoutQueue | None = None
        self._record: PlayoutRecord | None = None
        self._reply_from = 0
        self._next_timestamp = 0
        self._ticks = 0
        self._lookahead = 0
        self._closed_until: Instant | None = None
        self.held = False
        self.last_ends: Instant | None = None
        """When the last of what has left would end, had it been played as it left; None if it was dropped."""

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
            self._playout.resume(now, _LEAD_IN_AFTER_CUT)
            self._begin_afresh()

    def drop(self, now: Instant) -> int:
        """Forget what has not left, and be ready for another reply; return how many samples that was."""
        self.held = False
        self.last_ends = None  # the client falls silent, too
        if self._playout is None:
            return 0
        dropped = self._playout.flush()
        self._playout.resume(now, _LEAD_IN_AFTER_CUT)
        self._begin_afresh()
        return dropped

    def _begin_afresh(self) -> None:
        """What the encoder still holds of the sound before is not to come out with the next."""
        if isinstance(self._encoder, OpusEncoder):
            self._encoder.reset()

    def close(self, until: Instant) -> None:
        """Nothing leaves before `until`, unless `open` is called: nobody would hear it."""
        self._closed_until = until

    def open(self, now: Instant) -> None:
        """What waited leaves from now on, at its pace."""
        if self._closed_until is not None:
            self._closed_until = None
            if self._playout is not None:
                self._playout.resume(now)

    def heard(self, now: Instant, playout_delay: float, *, silenced: bool) -> Heard:
        """Return how far into the reply the listener is; see `PlayoutRecord.heard`."""
        if self._record is None:
            return Heard(0, 0, 0, 0.0)
        return self._record.heard(now, playout_delay, silenced)

    @property
    def last_timestamp(self) -> int | None:
        """RTP timestamp of the last packet of the reply that left; None if there was none."""
        return self._record.last_timestamp if self._record is not None else None

    def played(self, timestamp: int, age: float, *, former: bool = False) -> int | None:
        """Return how far into a reply a listener is, by what he plays; see `PlayoutRecord.played`.

        What a packet brings is decoded a little later than it was said: that is the codec's lookahead.
        """
        samples = self._record.played(timestamp, age, former=former) if self._record is not None else None
        return None if samples is None else max(0, samples - self._lookahead)

    def acknowledged(self, extended_highest: int, now: Instant, round_trip: float) -> None:
        """A receiver report has come."""
        if self._record is not None:
            self._record.acknowledged(extended_highest, now, round_trip)

    def note_sent(self, frame: SpokenFrame, sequence: int, timestamp: int, now: Instant) -> None:
        """A frame has left under this extended sequence number; one that is not sent, under the one before it."""
        self.last_ends = max(now, self.last_ends or now) + self._manner.frame
        if self._record is not None and frame.position >= self._reply_from:
            position = frame.position - self._reply_from
            samples = 0 if frame.leads_in else len(frame.samples)
            self._record.sent(sequence, position, samples, now, timestamp if frame.payload else None)

    def poll_timeout(self) -> Instant | None:
        """When the next frame is due."""
        due = self._playout.poll_timeout() if self._playout is not None and not self.held else None
        return due if due is None or self._closed_until is None else max(due, self._closed_until)

    def frames(self, now: Instant) -> Iterator[SpokenFrame]:
        """Yield every frame that leaves now."""
        if self._playout is None or self._encoder is None:
            return
        if self._closed_until is not None:
            if now < self._closed_until:
                return
            self.open(now)
        while not self.held and (frame := self._playout.next_frame(now)) is not None:
            payload = self._encoder.encode(frame.samples)
            skipped = 0
            if self._manner.dtx and self._manner.codec == "opus" and is_dtx(payload):
                payload = b""  # the timeline goes on: the next frame that is sent says by how much
            else:
                skipped = frame.timestamp - self._next_timestamp
                self._next_timestamp = frame.timestamp + self._ticks
            mono = to_int16(frame.samples) if frame.samples.ndim > 1 else frame.samples
            at = frame.timestamp / self._encoder.clock_rate
            yield SpokenFrame(
                payload, mono, self._ticks, skipped, frame.marker, frame.position, at, frame.leads_in
            )

    def _open(self, sample_rate: int) -> PlayoutQueue:
        manner = self._manner
        encoder: Encoder
        if manner.codec == "opus":
            rate = next((rate for rate in _OPUS_RATES if rate >= sample_rate), _OPUS_RATES[-1])
            opus = OpusEncoder(
                min(rate, manner.max_rate),
                manner.channels,
                manner.bitrate,
                manner.complexity,
                manner.application,
                dtx=bool(manner.dtx),
                cbr=manner.cbr,
            )
            self._tuner = EncoderTuner(opus, redundancy=manner.redundancy, wanted=manner.fec)
            encoder = opus
            self._lookahead = opus.lookahead
        elif manner.codec in ("pcmu", "pcma"):
            encoder = G711Encoder(G711Law[manner.codec.upper()])
        else:
            raise LocalError(f"no encoder for {manner.codec}")
        self._encoder = encoder
        self._ticks = round(encoder.clock_rate * manner.frame)
        self._record = PlayoutRecord(encoder.sample_rate)
        return PlayoutQueue(
            encoder.sample_rate, encoder.channels, encoder.clock_rate, lead_in=_LEAD_IN, frame=manner.frame
        )
