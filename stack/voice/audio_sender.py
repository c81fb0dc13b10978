"""The audio sender: what a program says becomes codec frames ahead of their time, to be held, resumed, dropped.

    write -> playout queue (frames on a grid) -> encoder -> ScheduledFrame, due at an instant -> media plane
                                                            FrameSent <- what has left

A frame is encoded up to `AHEAD` frames before it is due, so that the media plane can send it by itself. Whatever
stops the sound asks for what has not left: `wants_flush` says so, and the owner takes the frames back.

The sender keeps the record from which is computed how much of a reply was heard. Positions count the samples that
the program wrote, at the encoder's rate, from the beginning of the call; those of a reply count from its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from stack.audio import (
    FRAME,
    OPUS_SAMPLE_RATES,
    AdaptiveEncoder,
    ComplexityByLoad,
    Encoder,
    EncoderSettings,
    EncoderTuner,
    Lateness,
    Pcm,
    PlayoutQueue,
    Samples,
    find_codec,
    to_int16,
)
from stack.core.counters import Counters
from stack.core.machine import Instant
from stack.sdp import AudioParameters
from stack.session import FrameSent, ScheduledFrame
from stack.voice.playout_record import PlayoutPosition, PlayoutRecord

AHEAD = 1
"""Frames that are encoded before their time: the present one leaves while the next one is made."""
_LEAD_IN = 1  # frames: a browser fades in the first 20 to 30 ms after a gap
_LEAD_IN_AFTER_CUT = 2
"""Frames before what follows a voice that was cut off. A jitter buffer that holds too little stretches the first
30 ms that it gets, by laying them over each other: that is to be silence, or the first sound is faded in."""

_NOISE_FACTOR, _NOISE_PEAK = np.uint32(2_654_435_761), 8
"""Comfort noise: the same faint hiss each time, about 75 dB below full scale."""
_BITRATES = (6_000, 510_000)  # RFC 7587 §6.1
_FRAMES_MS = (10, 20, 40, 60)


@dataclass(frozen=True, slots=True)
class SendParameters:
    """How sound is coded on its way out: what the program wishes, within what the peer's description allows.

    Rates in Hz and bit/s, `frame` in seconds. `dtx` None: if the peer asks for it (`usedtx=1`).
    """

    codec: str
    bitrate: int = 24_000
    complexity: int | None = None
    """Of the encoder, 0 … 10; None: by how busy the media are (`follow_load`)."""
    application: str = "voip"
    """"voip" for speech, "audio" for music, "lowdelay"."""
    channels: int = 1
    dtx: bool | None = None
    cbr: bool = False
    fec: bool = True
    max_rate: int = OPUS_SAMPLE_RATES[-1]
    frame: float = FRAME
    redundancy: bool = False
    """RED repairs losses, so the codec need not."""

    @classmethod
    def agree(
        cls,
        audio: AudioParameters,
        bitrate: int,
        complexity: int | None,
        application: str,
        channels: int,
        dtx: bool | None,
    ) -> Self:
        """Hold the program's wishes against what was negotiated (RFC 7587 §6.1, RFC 8866 §6.4)."""
        asked = audio.remote_parameters
        most = _number(asked, "maxaveragebitrate", _BITRATES[1])
        rate = _number(asked, "maxplaybackrate", OPUS_SAMPLE_RATES[-1])
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
            max_rate=max((each for each in OPUS_SAMPLE_RATES if each <= rate), default=OPUS_SAMPLE_RATES[0]),
            frame=(shorter[-1] if shorter else _FRAMES_MS[0]) / 1000,
            redundancy=audio.red_payload_type is not None,
        )


def _number(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default


class SpokenFrame(NamedTuple):
    """One frame of what is said."""

    number: int
    samples: Samples
    """Mono, whatever is sent."""
    due: Instant
    marker: bool
    position: int
    media_time: float
    """Seconds on the RTP timeline, which begins with the first frame and counts silence, too."""
    leads_in: int = 0
    """Silence before a talkspurt, which is no part of what was written: so many frames of it, with this one."""


class AudioSender:
    """Queue, pace, encode. The encoder is made at the first write, at the rate that the program speaks at."""

    def __init__(self, parameters: SendParameters, section: int = 0) -> None:
        self._parameters = parameters
        self._section = section
        self._encoder: Encoder | None = None
        self._tuner: EncoderTuner | None = None
        self._complexity = ComplexityByLoad()
        self._playout: PlayoutQueue | None = None
        self._record: PlayoutRecord | None = None
        self._reply_from: int | None = None  # None: no reply, so that nothing has to be known of what leaves
        self._numbers = 0
        self.scheduled: deque[SpokenFrame] = deque()
        """Frames that were handed to the media plane and are not reported as sent."""
        self._ticks = 0
        self._lookahead = 0
        self._closed_until: Instant | None = None
        self.held = False
        self._paused = False
        self.lateness = Lateness()
        """How late frames have left."""
        self.wants_flush = False
        """True while frames are scheduled that may not leave: take them back and say so (`note_taken_back`)."""
        self.has_work = False
        """True if `frames` may have something, before its time has come."""
        self.last_ends: Instant | None = None
        """When the last of what has left would end, had it been played as it left; None if it was dropped."""

    @property
    def sample_rate(self) -> int:
        """Of positions and frames; 0 before the first write."""
        return self._encoder.sample_rate if self._encoder is not None else 0

    @property
    def queued(self) -> float:
        """Seconds of sound that are written and have not left."""
        if self._playout is None:
            return 0.0
        return self._playout.queued + len(self.scheduled) * self._parameters.frame

    @property
    def counters(self) -> Counters:
        """What the queue of sound has counted."""
        return self._playout.counters if self._playout is not None else Counters()

    def note_loss(self, loss: float, now: Instant) -> None:
        """The peer reports that it loses this share of our packets, 0 … 1: the encoder takes precautions."""
        if self._tuner is not None:
            self._tuner.update(loss, now)

    @property
    def complexity(self) -> int:
        """What the encoder may spend, 0 … 10."""
        fixed = self._parameters.complexity
        return self._complexity.complexity if fixed is None else fixed

    def follow_load(self, load: float) -> int:
        """Take how busy the media are, once a second, as a share of a core; return the complexity from now on."""
        if self._parameters.complexity is not None:
            return self._parameters.complexity
        before, after = self._complexity.complexity, self._complexity.update(load)
        if after != before and isinstance(self._encoder, AdaptiveEncoder):
            self._encoder.complexity = after
        return after

    def write(self, pcm: Pcm, sample_rate: int, now: Instant) -> None:
        """Append sound; see `PlayoutQueue.write`."""
        if self._playout is None:
            self._playout = self._open(sample_rate)
        self._playout.write(pcm, sample_rate, now)
        self.has_work = True

    def write_comfort_noise(self, sample_rate: int, now: Instant) -> None:
        """Append one frame of faint noise; no write of the program, and none that it waits for."""
        count = np.arange(round(sample_rate * self._parameters.frame), dtype=np.uint32)
        noise = (count * _NOISE_FACTOR >> np.uint32(16)) % np.uint32(2 * _NOISE_PEAK + 1)
        self.write(noise.astype(np.int16) - np.int16(_NOISE_PEAK), sample_rate, now)

    def begin_reply(self) -> None:
        """What is written from now on belongs to a new reply."""
        self._reply_from = 0
        if self._playout is not None:
            self._reply_from = self._playout.position + round(self._playout.queued * self.sample_rate)
            self._playout.keep_departed(True)
        if self._record is not None:
            self._record.begin_reply()

    def end_reply(self) -> None:
        """The reply has left whole: it will not be gone on with. How much of it is played can still be asked."""
        if self._playout is not None:
            self._playout.keep_departed(False)

    def hold(self) -> None:
        """Nothing leaves any more, and nothing is forgotten."""
        self.held = True
        self.wants_flush = bool(self.scheduled)

    def resume(self, heard: int, now: Instant) -> None:
        """Go on with the reply from where it was heard (`heard` samples from its beginning)."""
        self.held = False
        if self._playout is not None and self._reply_from is not None:
            self._playout.rewind(self._reply_from + heard)
            if self._record is not None:
                self._record.resume(heard)
            self._playout.resume(now, _LEAD_IN_AFTER_CUT)
            self._begin_afresh()
            self.has_work = True

    def drop(self, now: Instant) -> int:
        """Forget what has not left, and be ready for another reply; return how many samples that was."""
        self.held = False
        self.wants_flush = bool(self.scheduled)
        self.last_ends = None  # the client falls silent, too
        if self._playout is None:
            return 0
        dropped = self._playout.flush()
        self._playout.keep_departed(False)
        self._playout.resume(now, _LEAD_IN_AFTER_CUT)
        self._begin_afresh()
        return dropped

    def _begin_afresh(self) -> None:
        """What the encoder still holds of the sound before is not to come out with the next."""
        if self._encoder is not None:
            self._encoder.reset()

    def close(self, until: Instant) -> None:
        """Nothing leaves before `until`, unless `open` is called: it would not be heard."""
        self._closed_until = until
        self.wants_flush = bool(self.scheduled)

    def open(self, now: Instant) -> None:
        """What waited leaves from now on, at its pace."""
        if self._closed_until is not None:
            self._closed_until = None
            self.has_work = True
            if self._playout is not None:
                self._playout.resume(now)

    def set_paused(self, paused: bool, now: Instant) -> None:
        """Keep what is to be said while there is no way to the peer; afterwards it leaves at its pace."""
        self._paused = paused
        if not paused:
            self.has_work = True
            if self._playout is not None:
                self._playout.resume(now)

    def heard(self, now: Instant, playout_delay: float, *, silenced: bool) -> PlayoutPosition:
        """Return how far into the reply the listener is; see `PlayoutRecord.heard`."""
        if self._record is None:
            return PlayoutPosition(0, 0, 0, 0.0)
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

    def note_taken_back(self, frames: Sequence[ScheduledFrame]) -> None:
        """Those scheduled frames will not leave: they were flushed."""
        self.wants_flush = False
        back = {frame.number for frame in frames}
        self.scheduled = deque(frame for frame in self.scheduled if frame.number not in back)

    def note_sent(self, sent: FrameSent) -> SpokenFrame | None:
        """A scheduled frame has left; return it, None if it is not known any more."""
        while self.scheduled and self.scheduled[0].number < sent.number:
            self.scheduled.popleft()
        if not self.scheduled or self.scheduled[0].number != sent.number:
            return None
        frame, now = self.scheduled.popleft(), sent.at
        self.lateness.add(max(0.0, now - frame.due))
        self.last_ends = max(now, self.last_ends or now) + self._parameters.frame
        record, begun = self._record, self._reply_from
        if record is not None and begun is not None and frame.position >= begun and not sent.muted:
            samples = 0 if frame.leads_in else len(frame.samples)
            record.sent(sent.sequence, frame.position - begun, samples, now, sent.rtp_timestamp)
        return frame

    def frames(self, now: Instant) -> tuple[list[ScheduledFrame], Instant | None]:
        """Return every frame that may be scheduled now, in order, and when the next one may be made."""
        self.has_work = False
        frames: list[ScheduledFrame] = []
        playout, encoder, parameters = self._playout, self._encoder, self._parameters
        if playout is None or encoder is None or self.held or self._paused:
            return frames, None
        if self._closed_until is not None:
            if now < self._closed_until:
                return frames, self._closed_until
            self.open(now)
            self.has_work = False
        at = playout.poll_timeout()
        while at is not None and at <= now:
            frame = playout.take(now)
            payload = encoder.encode(frame.samples)
            if parameters.dtx and encoder.is_silence(payload):
                payload = b""  # the timeline goes on: the next frame that is sent says by how much
            mono = to_int16(frame.samples) if frame.samples.ndim > 1 else frame.samples
            media_time = frame.timestamp / encoder.clock_rate
            self._numbers += 1
            self.scheduled.append(
                SpokenFrame(
                    self._numbers, mono, frame.due, frame.marker, frame.position, media_time, frame.leads_in
                )
            )
            frames.append(
                ScheduledFrame(
                    self._numbers, payload, self._ticks, frame.timestamp, frame.due, frame.marker, self._section
                )
            )
            at = playout.poll_timeout()
        return frames, at

    def _open(self, sample_rate: int) -> PlayoutQueue:
        parameters = self._parameters
        settings = EncoderSettings(
            sample_rate,
            parameters.max_rate,
            parameters.channels,
            parameters.bitrate,
            self.complexity,
            parameters.application,
            dtx=bool(parameters.dtx),
            cbr=parameters.cbr,
        )
        encoder = find_codec(parameters.codec).make_encoder(settings)
        if isinstance(encoder, AdaptiveEncoder):
            self._tuner = EncoderTuner(encoder, redundancy=parameters.redundancy, wanted=parameters.fec)
        self._lookahead = encoder.lookahead
        self._encoder = encoder
        self._ticks = round(encoder.clock_rate * parameters.frame)
        self._record = PlayoutRecord(encoder.sample_rate)
        playout = PlayoutQueue(
            encoder.sample_rate,
            encoder.channels,
            encoder.clock_rate,
            lead=AHEAD,
            lead_in=_LEAD_IN,
            frame=parameters.frame,
        )
        playout.keep_departed(self._reply_from is not None)
        return playout
