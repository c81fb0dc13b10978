"""Making up sound that is missing, for codecs that cannot do it themselves.

The last pitch period is repeated, as in G.711 Appendix I, with seams cross-faded; after 10 ms it begins to fade
and is silent after 60: a voice that goes on longer than that without data is a lie. What follows the gap is
cross-faded with the repetition, so that there is no click at either edge.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stack.audio.codec import Samples

_HISTORY_MS = 50
_MATCH_MS = 15
_SHORTEST_PITCH_MS, _LONGEST_PITCH_MS = 2.5, 15.0  # 400 … 67 Hz
_HOLD_MS, _FADE_MS = 10, 50
_SEAM_MS = 4


def similarity(pattern: NDArray[np.float32], region: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalised correlation of `pattern` with every stretch of `region` that is as long, -1 … 1.

    Silence is like nothing: where either side has no energy the value is 0.
    """
    length = len(pattern)
    products = np.correlate(region, pattern, "valid")
    squares = np.concatenate(([0.0], np.cumsum(region.astype(np.float64) ** 2)))
    energy = (squares[length:] - squares[:-length]) * float(pattern @ pattern)
    floor = length * length  # one bit of amplitude on either side
    return np.where(energy > floor, products / np.sqrt(np.maximum(energy, floor)), 0.0).astype(np.float32)


class Concealer:
    """Follows one stream of mono int16; every frame passes through `accept`, every hole is filled by `conceal`."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._history = np.zeros(self._span(_HISTORY_MS), np.float32)
        self._period: NDArray[np.float32] | None = None  # while concealing: the sound that is repeated
        self._concealed = 0  # samples made up since the last frame

    def _span(self, milliseconds: float) -> int:
        return int(self._rate * milliseconds / 1000)

    def accept(self, samples: Samples) -> Samples:
        """Return a frame that was received, its beginning joined to what was made up before it."""
        if self._period is not None and len(samples):
            seam = min(self._span(_SEAM_MS), len(samples))
            ramp = np.linspace(0.0, 1.0, seam, dtype=np.float32)
            joined = samples.astype(np.float32)
            joined[:seam] = joined[:seam] * ramp + self._repeat(seam) * (1.0 - ramp)
            samples = np.rint(joined).astype(np.int16)
            self._period = None
            self._concealed = 0
        self._remember(samples.astype(np.float32))
        return samples

    def conceal(self, samples: int) -> Samples:
        """Return `samples` that carry on from what came before."""
        if self._period is None:
            self._period = self._find_period()
        made_up = self._repeat(samples)
        self._concealed += samples
        self._remember(made_up)
        return np.rint(made_up).astype(np.int16)

    def _remember(self, samples: NDArray[np.float32]) -> None:
        self._history = np.concatenate((self._history, samples))[-len(self._history) :]

    def _find_period(self) -> NDArray[np.float32]:
        """The stretch at the end of the history to repeat: one pitch period, its end faded into its beginning."""
        shortest, longest = self._span(_SHORTEST_PITCH_MS), self._span(_LONGEST_PITCH_MS)
        match = self._span(_MATCH_MS)
        region = self._history[-(match + longest) : -shortest]
        likeness = similarity(self._history[-match:], region)
        best = int(np.argmax(likeness))
        # Index 0 lies `longest` back. Without a clear pitch, the longest stretch sounds least like a tone.
        pitch = longest - best if likeness[best] > 0.4 else longest
        period = self._history[-pitch:].copy()
        seam = min(self._span(_SEAM_MS), pitch // 4)
        ramp = np.linspace(0.0, 1.0, seam, dtype=np.float32)
        # The last samples lead into the first ones of the repetition: fade to what came one period earlier.
        period[-seam:] = period[-seam:] * (1.0 - ramp) + self._history[-pitch - seam : -pitch] * ramp
        return period

    def _repeat(self, samples: int) -> NDArray[np.float32]:
        assert self._period is not None
        at = self._concealed + np.arange(samples)
        gain = 1.0 - (at - self._span(_HOLD_MS)) / self._span(_FADE_MS)
        return self._period[at % len(self._period)] * np.clip(gain, 0.0, 1.0).astype(np.float32)
