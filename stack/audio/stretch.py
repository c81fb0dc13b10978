"""Making speech a little shorter or longer without changing its pitch: one period is cut out or put in.

Waveform-similarity overlap-add on a short piece of sound: among all lags of 2.5 to 15 ms (pitches of 400 to 67
Hz) the one is taken at which the sound is most like itself; there it is cross-faded with itself one lag away. The
first and the last samples of the piece stay as they are, so pieces join without a seam. Sound that is not like
itself at any lag (a consonant, a mixture) is left alone, unless it is too quiet to matter or there is no time to
be choosy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stack.audio.codec import Samples
from stack.audio.conceal import similarity

SHORTEST_LAG, LONGEST_LAG = 0.0025, 0.015
_WINDOW = 0.010
"""Seconds that are compared."""
_FADE = 0.005
_ALIKE = 0.85
"""Normalised correlation from which on a cut is not heard."""
_QUIET = 60.0
"""Root mean square (of 32768) below which no cut is heard."""
_SEARCH_RATE = 8_000


def accelerate(samples: Samples, sample_rate: int, *, keep: int = 0, anywhere: bool = False) -> Samples:
    """Return mono `samples` less one period; unchanged where that would be heard or leave fewer than `keep`.

    With `anywhere` the best lag is taken however good it is.
    """
    found = _best_lag(samples, sample_rate, len(samples) - keep, anywhere=anywhere)
    if not found:
        return samples
    fade = min(int(_FADE * sample_rate), found)
    joint = _cross_fade(samples[:fade], samples[found : found + fade])
    return np.concatenate((joint, samples[found + fade :]))


def expand(samples: Samples, sample_rate: int, *, anywhere: bool = False) -> Samples:
    """Return mono `samples` with one period repeated; unchanged where that would be heard.

    With `anywhere` the best lag is taken however good it is.
    """
    found = _best_lag(samples, sample_rate, len(samples), anywhere=anywhere)
    if not found:
        return samples
    fade = min(int(_FADE * sample_rate), found)
    joint = _cross_fade(samples[found : found + fade], samples[:fade])
    return np.concatenate((samples[:found], joint, samples[fade:]))


def _best_lag(samples: Samples, sample_rate: int, longest: int, *, anywhere: bool) -> int:
    """The lag in samples, at most `longest`, at which the sound's beginning comes again; 0 if there is none."""
    window = int(_WINDOW * sample_rate)
    fade = int(_FADE * sample_rate)
    shortest = int(SHORTEST_LAG * sample_rate)
    longest = min(longest, int(LONGEST_LAG * sample_rate), len(samples) - max(window, fade))
    if longest <= shortest:
        return 0
    sound = samples[: longest + window].astype(np.float32)
    lag, alike = _search(sound, sample_rate, shortest, longest, window)
    if alike >= _ALIKE or anywhere:
        return lag
    return lag if float(sound @ sound) < _QUIET * _QUIET * len(sound) else 0


def _search(
    sound: NDArray[np.float32], sample_rate: int, shortest: int, longest: int, window: int
) -> tuple[int, float]:
    """Search coarsely at 8 kHz, then around the best lag at the full rate: a third of the work at 16 kHz."""
    step = max(1, sample_rate // _SEARCH_RATE)
    if step > 1:
        coarse = sound[: len(sound) // step * step].reshape(-1, step).mean(axis=1)
        likeness = similarity(coarse[: window // step], coarse[shortest // step :])
        about = (int(np.argmax(likeness)) + shortest // step) * step
        shortest, longest = max(shortest, about - step), min(longest, about + step)
        if longest < shortest:
            return shortest, 0.0
    likeness = similarity(sound[:window], sound[shortest : longest + window])
    best = int(np.argmax(likeness))
    return shortest + best, float(likeness[best])


def _cross_fade(leaving: Samples, coming: Samples) -> Samples:
    ramp = (np.arange(len(leaving), dtype=np.float32) + 0.5) / max(1, len(leaving))
    return np.rint(leaving * (1.0 - ramp) + coming * ramp).astype(np.int16)
