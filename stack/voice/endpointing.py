"""When a pause is the end of the turn: estimators of how long to wait, behind one interface.

An estimator is asked when speech has stopped, and answers with the seconds of silence after which the turn is over
if nobody speaks again. `TurnTaking.end_of_turn_at` takes it, within the bounds of the eagerness.

- `RuleEndpointer` (the default) adds up what is known of how people finish: the pitch falls and the energy dies
  away, the last syllable is drawn out, the sentence is long enough to be one, and, where there is a transcript,
  whether its words are complete. Each is a hint and none is proof, so they move a wait between two bounds. Only a
  transcriber that knows what can follow (a grammar, a language model) may say that nothing can: that is quicker.
- `SmartTurnEndpointer` asks a smart-turn model (an ONNX file that the user has): 130–260 ms of work, so its owner
  calls it off the loop, and only in pauses.

Left out: learning the pauses of one speaker beyond the call, and languages other than English for the words.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from stack.core.errors import LocalError
from stack.voice.turns import Eagerness
from stack.voice.vad import DETECTOR_RATE, Float, Int16

_PITCH_FRAME = 512  # 32 ms
_PITCH_HOP = 160
_LOWEST_LAG, _HIGHEST_LAG = 40, 266  # 400 Hz to 60 Hz
_VOICED = 0.45


@dataclass(frozen=True, slots=True)
class Pause:
    """What is known when speech has stopped."""

    utterance: Int16
    """The utterance so far, 16 kHz, from its onset to its last speech (what is longer than 8 s may be cut off)."""
    speech: float
    """Seconds of speech since the turn began."""
    transcript: str | None = None
    """What was said, if anybody knows."""
    completeness: float | None = None
    """How complete that is, if the transcriber can say: 0 cut in the middle, 1 nothing can follow."""


class Endpointer(Protocol):
    """Whatever can say how long to wait."""

    def wait(self, pause: Pause) -> float:
        """Return the seconds of silence, from the last speech on, after which the turn is over."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds: as long as that if the turn sounds finished, if it does not, and if its words leave no doubt."""

    finished: float
    unfinished: float
    certain: float


BOUNDS: Final = {
    Eagerness.HIGH: Bounds(0.3, 1.0, 0.15),
    Eagerness.AUTO: Bounds(0.45, 1.6, 0.25),
    Eagerness.MEDIUM: Bounds(0.45, 1.6, 0.25),
    Eagerness.LOW: Bounds(0.8, 3.0, 0.5),
}


@dataclass(frozen=True, slots=True)
class Prosody:
    """How an utterance ends."""

    pitch_fall: float
    """Semitones by which the last voiced third of a second lies below the utterance's median; negative: above."""
    energy_fall: float
    """Decibels by which the last 150 ms lie below the median of the voiced parts."""
    tail: float
    """Seconds of the last stretch of voiced speech."""
    voiced: float
    """Share of the utterance that is voiced."""


def pitch_track(samples: Int16) -> tuple[Float, Float]:
    """Return the pitch in Hz (0: unvoiced) and the level in dBFS of every 10 ms, by normalised autocorrelation."""
    signal = samples.astype(np.float32) / 32768.0
    count = max(0, (len(signal) - _PITCH_FRAME) // _PITCH_HOP + 1)
    if count == 0:
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    starts = np.arange(count)[:, None] * _PITCH_HOP
    frames = signal[starts + np.arange(_PITCH_FRAME)[None, :]]
    frames = frames - frames.mean(axis=1, keepdims=True)
    power = (frames**2).mean(axis=1) + 1e-10
    spectrum = np.fft.rfft(frames, 2 * _PITCH_FRAME, axis=1)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, : _HIGHEST_LAG + 1]
    # What is left of the window at a lag: without this, long periods lose.
    overlap = 1.0 - np.arange(_HIGHEST_LAG + 1) / _PITCH_FRAME
    normal = correlation / (correlation[:, :1] * overlap + 1e-9)
    middle = normal[:, _LOWEST_LAG:-1]
    peaks = np.where(
        (middle >= normal[:, _LOWEST_LAG - 1 : -2]) & (middle > normal[:, _LOWEST_LAG + 1 :]), middle, 0.0
    )
    best = peaks.max(axis=1)
    # The first peak that is nearly as high as the highest: not an octave too low.
    lag = _LOWEST_LAG + np.argmax(peaks >= np.maximum(0.9 * best, 1e-3)[:, None], axis=1)
    level = 10.0 * np.log10(power)
    voiced = (best > _VOICED) & (level > level.max() - 30.0)
    return np.where(voiced, DETECTOR_RATE / lag, 0.0).astype(np.float32), level.astype(np.float32)


def prosody(samples: Int16) -> Prosody:
    """Measure how an utterance ends. Its last sample is the end of its speech."""
    pitch, level = pitch_track(samples)
    voiced = pitch > 0
    if voiced.sum() < 8:
        return Prosody(0.0, 0.0, 0.0, float(voiced.mean()) if len(voiced) else 0.0)
    tones = 12.0 * np.log2(pitch[voiced])
    last = np.flatnonzero(voiced)[-1]
    near = voiced & (np.arange(len(pitch)) > last - 33)
    fall = float(np.median(tones) - np.median(12.0 * np.log2(pitch[near])[-12:]))
    fall = (fall + 4.0) % 12.0 - 4.0  # a creaking voice is measured an octave off
    ending = level[max(0, last - 15) : last + 1]
    energy = float(np.median(level[voiced]) - ending.mean())
    breaks = np.flatnonzero(~voiced[: last + 1])
    tail = last - (breaks[-1] if len(breaks) else -1)
    return Prosody(fall, energy, float(tail) * _PITCH_HOP / DETECTOR_RATE, float(voiced.mean()))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OPEN_ENDS = _words(
    """
    a an the and or but so because if when while that which who whose to of in on at for from with by as than into
    about my your his her its our their this these some any is are was were am be been do does did can could will
    would should have has had not very um uh er like i'm it's i we they he she you let's maybe also then
    """
)
_QUESTIONS = _words("what who where when why how which whose is are do does did can could will would have has")
_WHOLE = _words(
    """
    yes no yeah yep nope okay ok sure stop thanks please hello hi hey goodbye bye right exactly correct wait
    """
)


_BACKCHANNELS = _words(
    "mm mhm mm-hm mhmm mm-hmm hmm hm uh-huh aha ah oh yeah yep okay ok right sure really wow i see"
)


def is_backchannel(transcript: str) -> bool:
    """Return whether somebody who says that over a voice wants it to go on."""
    words = [word.strip(".,!?;:\"'").lower() for word in transcript.split()]
    return 0 < len(words) <= 3 and all(word in _BACKCHANNELS for word in words)


def completeness(transcript: str) -> float:
    """Return how much the words look like a whole: 1 finished, 0 cut in the middle, 0.5 nobody knows."""
    text = transcript.strip()
    words = [word.strip(".,!?;:\"'").lower() for word in text.split()]
    words = [word for word in words if word]
    if not words:
        return 0.5
    if text.endswith((",", "-", "…", "...")):
        return 0.1
    if words[-1] in _OPEN_ENDS and not (len(words) == 1 and words[0] in _WHOLE):
        return 0.05
    if text.endswith(("?", "!")):
        return 0.95
    if text.endswith("."):
        return 0.85
    if words[0] in _WHOLE and len(words) <= 3:
        return 0.9
    if words[0] in _QUESTIONS and len(words) >= 3:
        return 0.8
    return 0.6 if len(words) >= 4 else 0.45


class RuleEndpointer:
    """The default: rules on prosody, on the speaker's own pauses, and on words if there are any."""

    _LONGEST_LOOK = 5 * DETECTOR_RATE // 2
    _PAUSES_KEPT = 12

    def __init__(self, eagerness: Eagerness = Eagerness.AUTO) -> None:
        self.eagerness = eagerness
        self._pauses: deque[float] = deque(maxlen=self._PAUSES_KEPT)

    def resumed(self, silence: float) -> None:
        """The speaker went on after `silence` seconds: that is how long this one pauses inside a turn."""
        self._pauses.append(silence)

    def wait(self, pause: Pause) -> float:
        """Return the seconds of silence after which the turn is over."""
        bounds = BOUNDS[self.eagerness]
        if pause.completeness is not None and pause.completeness >= 1.0:
            return bounds.certain
        finished = self.finished(pause)
        wait = bounds.unfinished + (bounds.finished - bounds.unfinished) * finished
        if self._pauses:
            # A speaker who pauses long inside sentences gets half as much again, within the bounds.
            wait = max(wait, min(1.5 * float(np.median(self._pauses)), bounds.unfinished))
        return wait

    def finished(self, pause: Pause) -> float:
        """Return how finished the turn sounds, 0 to 1."""
        if pause.completeness is not None:
            return pause.completeness
        evidence = self._by_sound(pause)
        if pause.transcript:
            evidence = 0.35 * evidence + 0.65 * completeness(pause.transcript)
        return evidence

    def _by_sound(self, pause: Pause) -> float:
        heard = prosody(pause.utterance[-self._LONGEST_LOOK :])
        if heard.voiced < 0.05:
            return 0.5
        score = 0.45
        score += 0.30 * float(np.clip(heard.pitch_fall / 4.0, -0.7, 1.0))
        score += 0.25 * float(np.clip((heard.energy_fall - 3.0) / 6.0, -0.6, 1.0))
        score += 0.10 * float(np.clip((pause.speech - 1.2) / 2.0, -0.5, 1.0))
        return float(np.clip(score, 0.0, 1.0))


class SmartTurnEndpointer:
    """A smart-turn model (version 3: log-mel of 8 s in, probability out) from a file that the user has.

    It needs `onnxruntime`. One call takes 130 to 260 ms on one core: call it off the loop.
    """

    SECONDS: Final = 8
    _MELS = 80
    _FFT = 400
    _HOP = 160

    def __init__(self, model: str, eagerness: Eagerness = Eagerness.AUTO) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise LocalError(
                "SmartTurnEndpointer needs `pip install onnxruntime` and a smart-turn .onnx file"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise LocalError(f"cannot load {model} as an ONNX model: {error}") from error
        self._input = self._session.get_inputs()[0].name
        self.eagerness = eagerness
        self._filters = _mel_filters(self._MELS, self._FFT)
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self._FFT) / self._FFT)).astype(np.float32)

    def probability(self, utterance: Int16) -> float:
        """Return the probability that the turn is complete; the last 8 s count."""
        output = self._session.run(None, {self._input: self.features(utterance)[None]})[0]
        return float(np.asarray(output).reshape(-1)[0])

    def wait(self, pause: Pause) -> float:
        """Return the seconds of silence after which the turn is over."""
        bounds = BOUNDS[self.eagerness]
        return bounds.unfinished + (bounds.finished - bounds.unfinished) * self.probability(pause.utterance)

    def features(self, utterance: Int16) -> Float:
        """Return the log-mel spectrogram of shape (80, 800): silence before, the utterance at the end."""
        count = self.SECONDS * DETECTOR_RATE
        signal = utterance[-count:].astype(np.float32) / 32768.0
        signal = np.pad(signal, (count - len(signal), 0))
        signal = (signal - signal.mean()) / np.sqrt(signal.var() + 1e-7)
        padded = np.pad(signal, self._FFT // 2, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, self._FFT)[:: self._HOP][:-1] * self._window
        power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
        logarithm: npt.NDArray[np.float64] = np.log10(np.maximum(self._filters @ power.T, 1e-10))
        logarithm = np.maximum(logarithm, logarithm.max() - 8.0)
        scaled: Float = ((logarithm + 4.0) / 4.0).astype(np.float32)
        return scaled


def _mel_filters(count: int, size: int) -> npt.NDArray[np.float64]:
    """Return triangular filters on Slaney's mel scale, each of the same area, of shape (count, size // 2 + 1)."""

    def to_mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        linear = 3.0 * hertz / 200.0
        return np.where(
            hertz < 1000.0, linear, 15.0 + np.log(np.maximum(hertz, 1.0) / 1000.0) * 27.0 / np.log(6.4)
        )

    def to_hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.where(mel < 15.0, 200.0 * mel / 3.0, 1000.0 * np.exp(np.log(6.4) / 27.0 * (mel - 15.0)))

    top = to_mel(np.array([DETECTOR_RATE / 2.0]))[0]
    edges = to_hertz(np.linspace(0.0, top, count + 2))
    bins = np.linspace(0.0, DETECTOR_RATE / 2.0, size // 2 + 1)
    rising = (bins[None, :] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None, :]) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    filters: npt.NDArray[np.float64] = triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return filters
