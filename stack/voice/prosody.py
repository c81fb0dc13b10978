"""How an utterance ends, measured: its pitch, its energy and its length, and how finished that sounds.

What is measured (`Prosody`) is laid on a scale of about -1 to 1 and added up with weights that
`python -m bench._fit_end_of_turn` finds.

Left out, because they were measured and told little (`docs/decisions/0011-end-of-turn.md`): how long and how soft
the last syllable is, the slope of the pitch, how long the last voiced stretch is, how steady the spectrum is. And
a breath that is drawn before a person goes on: it comes at the end of a pause, when the wait has been chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from stack.voice.turns import Expects
from stack.voice.vad import DETECTOR_RATE, Float, Int16

_PITCH_FRAME = 512  # 32 ms
_PITCH_HOP = 160
_PITCH_FFT = 800  # a quick size that holds a frame and the longest lag without wrapping
_LOWEST_LAG, _HIGHEST_LAG = 40, 266  # 400 Hz to 60 Hz
_VOICED = 0.45
_LEAST_VOICED = 8  # frames without which there is no tune
_MOST_RISE, _MOST_FALL = 9.0, 12.0  # semitones at the end of an utterance: what is more is an octave error
_OCTAVE_OFF = 8.0  # semitones from the median that are an octave error inside it
_ENDING = 30  # voiced frames that are the end of a tune


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
    movement: float = 0.0
    """Semitones (standard deviation) by which the pitch moves more in its last 0.3 s than in all; negative: less,
    as in a word that is drawn out while a person thinks."""


class ProsodyWeights(NamedTuple):
    """What each measure adds to how finished a turn sounds, at the end of its scale; see `parts`."""

    base: float
    pitch_fall: float
    energy_fall: float
    speech: float
    length: float
    movement: float


BEFORE: Final = ProsodyWeights(0.45, 0.30, 0.25, 0.10, 0.0, 0.0)
"""Chosen by hand, before there was a fit: what it starts from, and what it is held against."""
WEIGHTS: Final = {
    Expects.ANY: ProsodyWeights(0.45, 0.45, 0.25, 0.10, 0.30, 0.40),
    # How long an answer of a word or two has been says nothing.
    Expects.SHORT: ProsodyWeights(0.45, 0.45, 0.25, 0.0, 0.0, 0.40),
    # An address that has lasted for a second goes on, whatever its tune.
    Expects.LONG: ProsodyWeights(0.07, 0.26, 0.05, 0.10, 0.80, 0.29),
}
"""By what the program has asked for. Another choice of recordings moves what `python -m bench._fit_end_of_turn`
finds by 0.1 to 0.3, so the default stands about half way from `BEFORE` to it, where few turns wait longer.
"""


def parts(heard: Prosody, speech: float) -> ProsodyWeights:
    """Return each measure on its scale, to be multiplied with the weights; `speech` in seconds."""
    return ProsodyWeights(
        1.0,
        _clip(heard.pitch_fall / 4.0, -0.7, 1.0),
        _clip((heard.energy_fall - 3.0) / 6.0, -0.6, 1.0),
        _clip((speech - 1.2) / 2.0, -0.5, 1.0),
        _clip(float(np.log(max(speech, 0.2) / 2.5) / np.log(6.0 / 2.5)), 0.0, 1.0),
        _clip(heard.movement / 2.0, -1.0, 1.0),
    )


def sounds_finished(heard: Prosody, speech: float, weights: ProsodyWeights) -> float:
    """Return how finished that sounds, 0 to 1; 0.5 without a voice."""
    if heard.voiced < 0.05:
        return 0.5
    score = sum(weight * part for weight, part in zip(weights, parts(heard, speech), strict=True))
    return _clip(score, 0.0, 1.0)


def _clip(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)


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
    spectrum = np.fft.rfft(frames, _PITCH_FFT, axis=1)
    # Single precision all the way: numpy takes real input for double, at three times the cost.
    energy = (spectrum.real**2 + spectrum.imag**2).astype(np.complex64)
    correlation = np.fft.irfft(energy, _PITCH_FFT, axis=1)[:, : _HIGHEST_LAG + 1]
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
    places = np.flatnonzero(voiced)
    if len(places) < _LEAST_VOICED:
        return Prosody(0.0, 0.0, 0.0, float(voiced.mean()) if len(voiced) else 0.0)
    last = places[-1]
    tones = 12.0 * np.log2(pitch[voiced])
    middle = np.median(tones)
    fall = float(middle - np.median(tones[places > last - 33][-12:]))
    # A voice that creaks is measured an octave off. A rise is no such thing: it says "more follows".
    fall += 12.0 if fall < -_MOST_RISE else -12.0 if fall > _MOST_FALL else 0.0
    energy = float(np.median(level[voiced]) - level[max(0, last - 15) : last + 1].mean())
    breaks = np.flatnonzero(~voiced[: last + 1])
    tail = last - (breaks[-1] if len(breaks) else -1)
    tune = tones - middle
    tune -= np.where(np.abs(tune) > _OCTAVE_OFF, 12.0 * np.round(tune / 12.0), 0.0)
    movement = float(np.std(tune[-_ENDING:]) - np.std(tune))
    return Prosody(fall, energy, float(tail) * _PITCH_HOP / DETECTOR_RATE, float(voiced.mean()), movement)
