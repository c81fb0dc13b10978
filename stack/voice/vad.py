"""Hearing that a person speaks: voice detectors behind one interface, and what makes events of their frames.

A detector is a Transform: int16 samples with their media time go in, one `VoiceFrame` per whole frame comes
out. Media time is the seconds of the sender's timeline (RTP time over the clock rate), never the instant at which
a packet happened to arrive, so that jitter and bursts do not change what is decided.

- `EarshotDetector` is the default: a small neural network, 8 µs for a frame of 16 ms.
- `CascadeDetector` (`cascade.py`) is `auto`: automatic level, earshot, Silero where earshot hears a voice.
- `EnergyDetector` needs nothing but numpy: level over an adaptive noise floor.
- `SileroDetector` (`silero.py`) runs an ONNX file that the user has, through `onnxruntime`, if that is installed.
- `AudioLevelGate` (`audio_level.py`) stands before any of them and believes the client's own audio level (RFC 6464
  §3) when that says "silence", as long as it has proved true.
- `SpeechDetector` turns frames into `SpeechStarted` and `SpeechStopped`.

Left out: sample rates that are not a whole multiple of 16 kHz (the decoder gives us 16 kHz anyway), and the V bit
of RFC 6464 as proof of speech, because browsers disagree on when they set it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from stack.core.errors import LocalError

Int16: TypeAlias = npt.NDArray[np.int16]
Float: TypeAlias = npt.NDArray[np.float32]

DETECTOR_RATE = 16_000
"""What every detector works at, in Hz."""
SILENCE_DBFS = -100.0
"""The level of digital silence: nothing is reported below it."""

_FULL_SCALE = 32768.0
_GAP_TOLERANCE = 0.002  # seconds; rounding of 48 kHz RTP time stays far below it
_RELEASE = 0.12  # seconds that a network takes at most to let go of a voice
_INAUDIBLE = -70.0  # dBFS; no voice that is below it can be understood
_SETTLED = 1.0  # seconds of silence after which a network's memory holds nothing but silence
_RESET_GAP = 0.25  # seconds; after a longer hole a network's memory is about something else
_SILENT = -60.0  # dBFS: softer is no voice that is at the usual distance


class VoiceFrame(NamedTuple):
    """One frame as a detector saw it."""

    media_time: float
    """Seconds, of the first sample."""
    duration: float
    """Seconds."""
    probability: float
    """The probability of speech, 0 to 1."""
    level: float
    """RMS in dB relative to full scale."""

    @property
    def end(self) -> float:
        """Media time just after the last sample."""
        return self.media_time + self.duration


class VoiceDetector(Protocol):
    """What estimates how likely it is that a person speaks."""

    hurried: bool
    """Set by the owner: a voice must be noticed at once, for a reply is to fall silent."""

    def push(self, samples: Int16, sample_rate: int, media_time: float) -> Sequence[VoiceFrame]:
        """Take mono samples of shape (n,), the first at `media_time`; return the frames that are whole."""
        ...

    @property
    def inaudible(self) -> float:
        """The level in dBFS below which it hears no voice."""
        ...

    def disown(self) -> None:
        """What was pushed last was our own echo: it teaches nothing about the person."""
        ...

    def reset(self) -> None:
        """Forget everything: another person, another microphone."""
        ...


def level_dbfs(samples: npt.NDArray[Any]) -> float:
    """Return the RMS level of int16-scaled samples in dBFS, never below `SILENCE_DBFS`."""
    if not len(samples):
        return SILENCE_DBFS
    scaled = samples.astype(np.float32)
    power = float(np.dot(scaled, scaled)) / len(scaled) / (_FULL_SCALE * _FULL_SCALE)
    return max(SILENCE_DBFS, 10.0 * math.log10(power)) if power > 0.0 else SILENCE_DBFS


class Decimator:
    """Brings a whole multiple of 16 kHz down to 16 kHz; keeps its filter's state from one block to the next."""

    _TAPS_PER_PHASE = 16

    def __init__(self, sample_rate: int) -> None:
        if sample_rate < DETECTOR_RATE or sample_rate % DETECTOR_RATE:
            raise LocalError(f"a voice detector takes 16, 32 or 48 kHz, not {sample_rate} Hz")
        self._factor = sample_rate // DETECTOR_RATE
        taps = self._TAPS_PER_PHASE * self._factor + 1
        n = np.arange(taps) - (taps - 1) / 2
        cutoff = 0.45 / self._factor
        kernel = 2 * cutoff * np.sinc(2 * cutoff * n) * np.hamming(taps)
        self._kernel = (kernel / kernel.sum()).astype(np.float32)
        self._tail: Float = np.zeros(taps - 1, np.float32)
        self._phase = 0

    def push(self, samples: Int16) -> Int16:
        """Return what `samples` become at 16 kHz."""
        if self._factor == 1:
            return samples
        block = np.concatenate([self._tail, samples.astype(np.float32)])
        self._tail = block[len(block) - len(self._tail) :]
        filtered = np.convolve(block, self._kernel, "valid")[self._phase :: self._factor]
        self._phase = (self._phase - len(samples)) % self._factor
        return np.clip(np.rint(filtered), -32768, 32767).astype(np.int16)


class FramedDetector(ABC):
    """What the detectors share: 16 kHz, whole frames, and media time that may have holes.

    `settles`: after a second in which nothing can be heard the detector is not asked until something can. Its
    memory holds silence then, so it need not be shown more: the frames of a sentence after ten seconds of silence
    get the probabilities that they would have got, within 0.04.
    """

    def __init__(self, frame_length: int, settles: bool = False) -> None:
        self.hurried = False
        self._length = frame_length
        self._rest_after = _SETTLED * DETECTOR_RATE / frame_length if settles else math.inf
        self._inaudible = 0  # frames in a row
        self._decimators: dict[int, Decimator] = {}
        self._pending: Int16 = np.zeros(0, np.int16)
        self._next: float | None = None

    @abstractmethod
    def _score(self, frame: Int16, level: float) -> float:
        """Return the probability of speech in one whole frame."""

    @abstractmethod
    def _forget(self) -> None:
        """Drop the memory of earlier frames."""

    @property
    def frame_seconds(self) -> float:
        """How much sound one frame covers."""
        return self._length / DETECTOR_RATE

    @property
    def inaudible(self) -> float:
        """The level in dBFS below which there is no voice, of a person at the usual distance."""
        return _SILENT

    def disown(self) -> None:
        """Nothing is learnt from the person's level here."""
        return

    def reset(self) -> None:
        """Forget everything."""
        self._pending = np.zeros(0, np.int16)
        self._next = None
        self._decimators.clear()
        self._inaudible = 0
        self._forget()

    def push(self, samples: Int16, sample_rate: int, media_time: float) -> list[VoiceFrame]:
        """Take samples; return a frame for each `frame_seconds` that is complete. See `VoiceDetector`."""
        if samples.ndim != 1 or samples.dtype != np.int16:
            raise LocalError(
                f"a voice detector takes int16 samples of shape (n,), not {samples.dtype}{samples.shape}"
            )
        self._follow(media_time)
        decimator = self._decimators.get(sample_rate)
        if decimator is None:
            self._decimators = {sample_rate: (decimator := Decimator(sample_rate))}
        start = media_time - len(self._pending) / DETECTOR_RATE
        self._next = media_time + len(samples) / sample_rate
        block = np.concatenate([self._pending, decimator.push(samples)])
        whole = len(block) // self._length * self._length
        self._pending = block[whole:]
        frames = []
        for at in range(0, whole, self._length):
            frame = block[at : at + self._length]
            level = level_dbfs(frame)
            self._inaudible = self._inaudible + 1 if level < _INAUDIBLE else 0
            probability = 0.0 if self._inaudible > self._rest_after else self._score(frame, level)
            frames.append(VoiceFrame(start + at / DETECTOR_RATE, self.frame_seconds, probability, level))
        return frames

    def _follow(self, media_time: float) -> None:
        """A hole in media time ends the unfinished frame; a long one, or a step back, ends the memory too."""
        if self._next is None:
            return
        jump = media_time - self._next
        if abs(jump) <= _GAP_TOLERANCE:
            return
        self._pending = np.zeros(0, np.int16)
        if jump < 0 or jump > _RESET_GAP:
            self._inaudible = 0
            self._forget()


def load_earshot() -> Any:
    """Return a network of `earshot`; `LocalError` if that is not installed."""
    try:
        from earshot import Detector
    except ImportError as error:  # pragma: no cover - earshot is a hard dependency on every platform with a wheel
        raise LocalError("the default voice detector needs `pip install earshot`") from error
    return Detector()


class EarshotDetector(FramedDetector):
    """`earshot` alone, a network whose weights come with its wheel. It hears what is at the usual level."""

    def __init__(self, settles: bool = True) -> None:
        super().__init__(frame_length=256, settles=settles)
        self._network = load_earshot()

    def _score(self, frame: Int16, level: float) -> float:
        return float(self._network.predict_i16(np.ascontiguousarray(frame)))

    def _forget(self) -> None:
        self._network.reset()


class EnergyDetector(FramedDetector):
    """The fallback: how far the level stands above a noise floor that falls fast and rises slowly.

    It cannot tell a voice from a slammed drawer. It is for platforms without `earshot`, and for reading.
    """

    _MARGIN_DB = 9.0
    _SLOPE_DB = 1.5
    _RISE_DB_PER_SECOND = 3.0
    _FALL = 0.3
    _START_DBFS = -50.0
    _LOWEST_DBFS = -75.0

    def __init__(self) -> None:
        super().__init__(frame_length=256)
        self._floor = self._START_DBFS

    @property
    def noise_floor(self) -> float:
        """The present estimate, in dBFS."""
        return self._floor

    def _score(self, frame: Int16, level: float) -> float:
        if level < self._floor:
            self._floor += self._FALL * (level - self._floor)
        else:
            self._floor += min(level - self._floor, self._RISE_DB_PER_SECOND * self.frame_seconds)
        self._floor = max(self._floor, self._LOWEST_DBFS)
        excess = (level - self._floor - self._MARGIN_DB) / self._SLOPE_DB
        return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, excess))))

    def _forget(self) -> None:
        self._floor = self._START_DBFS


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The person began to speak."""

    media_time: float
    """Where the utterance begins, prefix padding included; never before the end of the one before it."""
    onset: float
    """Media time of the first frame that was speech."""
    decided: float
    """Media time that had been heard when this became certain."""
    level: float
    """Mean level of the frames that decided it, in dBFS."""


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """No speech was heard for `silence` seconds."""

    media_time: float
    """Where the last frame of speech ended."""
    decided: float
    """Media time that had been heard when this became certain."""
    duration: float
    """Seconds from the onset to the last speech, without padding."""

    @property
    def silence(self) -> float:
        """How long it has already been quiet."""
        return self.decided - self.media_time


SpeechEvent: TypeAlias = SpeechStarted | SpeechStopped


@dataclass(frozen=True, slots=True)
class SpeechSettings:
    """What counts as speech; milliseconds as in the dialects of the clients."""

    threshold: float = 0.5
    """Probability from which a frame is speech."""
    hysteresis: float = 0.15
    """A frame of running speech ends only this far below the threshold."""
    prefix_padding_ms: float = 300.0
    """How much sound before the onset belongs to the utterance."""
    minimum_speech_ms: float = 64.0
    """Shorter bursts are nothing."""
    silence_ms: float = 200.0
    """How long it must be quiet before speech has stopped."""

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0 or self.hysteresis < 0.0:
            raise LocalError("the threshold must be in (0, 1] and the hysteresis not negative")
        if min(self.prefix_padding_ms, self.minimum_speech_ms, self.silence_ms) < 0.0:
            raise LocalError("durations cannot be negative")


class SpeechDetector:
    """Makes events of frames: thresholds with hysteresis, minimum durations, and holes in media time.

    Before speech is certain, frames above the threshold fill a tank that must hold `minimum_speech_ms`; frames
    below it empty the tank at the same rate, so a stop consonant inside a word does not start the count afresh.
    Media time that never arrives (discontinuous transmission, a stall) counts as silence; a step back in media
    time is a new stream, and what was running ends where it was last heard.
    """

    def __init__(self, settings: SpeechSettings | None = None) -> None:
        self._settings = settings or SpeechSettings()
        self._speaking = False
        self._onset: float | None = None
        self._tank = 0.0
        self._levels: list[float] = []
        self._last_speech = self._last_certain = 0.0
        self._heard: float | None = None
        self._previous_end = -math.inf

    @property
    def settings(self) -> SpeechSettings:
        """What applies from the next frame on; may be exchanged in the middle of a call."""
        return self._settings

    @settings.setter
    def settings(self, settings: SpeechSettings) -> None:
        self._settings = settings

    @property
    def speaking(self) -> bool:
        """True between `SpeechStarted` and `SpeechStopped`."""
        return self._speaking

    @property
    def suspected_since(self) -> float | None:
        """Media time of an onset that is not yet certain (or of the running speech); None when it is quiet."""
        return self._onset

    def push(self, frame: VoiceFrame) -> list[SpeechEvent]:
        """Take the next frame; return what became certain."""
        events: list[SpeechEvent] = []
        if self._heard is not None and frame.media_time < self._heard - frame.duration:
            events += self._abandon()
        if self._heard is not None and frame.media_time > self._heard + _GAP_TOLERANCE:
            events += self.advance(frame.media_time)
        self._heard = frame.end
        if self._speaking:
            events += self._while_speaking(frame)
        else:
            events += self._while_quiet(frame)
        return events

    def advance(self, media_time: float) -> list[SpeechEvent]:
        """Nothing was sent up to `media_time`: that is silence, and it may end the speech."""
        if self._heard is None or media_time <= self._heard:
            return []
        missing = media_time - self._heard
        self._heard = media_time
        if self._speaking:
            return self._maybe_stop()
        self._drain(missing)
        return []

    def miss(self, seconds: float) -> list[SpeechEvent]:
        """No sound has come for so long: that is silence, and it may end the speech.

        The timeline stays where it is: what comes after all, late, goes on from there.
        """
        if self._heard is None or not self._speaking:
            return []
        missing = self._heard + seconds
        if missing - self._last_speech < self._settings.silence_ms / 1000.0 - 1e-9:
            return []
        return self._stop(missing)

    def reset(self) -> list[SpeechEvent]:
        """End what is running and forget the timeline."""
        return self._abandon()

    def _while_quiet(self, frame: VoiceFrame) -> list[SpeechEvent]:
        if frame.probability < self._settings.threshold:
            self._drain(frame.duration)
            return []
        if self._onset is None:
            self._onset = frame.media_time
        self._tank += frame.duration
        self._levels.append(frame.level)
        if self._tank < self._settings.minimum_speech_ms / 1000.0 - 1e-9:
            return []
        onset, level = self._onset, sum(self._levels) / len(self._levels)
        self._speaking, self._tank = True, 0.0
        self._last_speech = self._last_certain = frame.end
        self._levels.clear()
        begin = max(onset - self._settings.prefix_padding_ms / 1000.0, self._previous_end)
        return [SpeechStarted(begin, onset, frame.end, level)]

    def _while_speaking(self, frame: VoiceFrame) -> list[SpeechEvent]:
        if frame.probability >= self._settings.threshold:
            self._last_certain = frame.end
        if frame.probability >= self._settings.threshold - self._settings.hysteresis:
            self._last_speech = frame.end
            return []
        return self._maybe_stop()

    def _maybe_stop(self) -> list[SpeechEvent]:
        heard = self._heard if self._heard is not None else self._last_speech
        if heard - self._last_speech < self._settings.silence_ms / 1000.0 - 1e-9:
            return []
        return self._stop(heard)

    def _stop(self, decided: float) -> list[SpeechEvent]:
        # A detector lets go slowly: what was only weak at the very end is its memory, not speech.
        end = max(self._last_certain, self._last_speech - _RELEASE)
        onset = end if self._onset is None else self._onset
        self._speaking, self._onset = False, None
        self._previous_end = end
        return [SpeechStopped(end, decided, end - onset)]

    def _drain(self, seconds: float) -> None:
        self._tank = max(0.0, self._tank - seconds)
        if self._tank == 0.0:
            self._onset = None
            self._levels.clear()

    def _abandon(self) -> list[SpeechEvent]:
        events = self._stop(self._last_speech if self._heard is None else self._heard) if self._speaking else []
        self._onset, self._tank, self._heard, self._previous_end = None, 0.0, None, -math.inf
        self._levels.clear()
        return events
