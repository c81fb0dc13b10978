"""What a loudspeaker that is driven too hard makes of what we send: a curve with one number, found by trying.

A linear filter models the way from the loudspeaker to the microphone, not an amplifier that cuts the peaks off:
what that adds is left, 9 to 11 dB below the echo. So the reference is bent as the loudspeaker bends it before
the filter sees it. The curve is x / (1 + (x/L)⁴)^¼: straight below the limit L, flat above it, between hard and
soft clipping (a curve before the filter as in Nollett and Jones, "Nonlinear echo cancellation for hands-free
speakerphones", NSIP 1997).

L is searched for among a few values: now and then the path that the filter has learnt is held against the last
quarter of a second with each of them, and when another than the present one has left less several times, it is
taken. Loudspeakers that do nothing wrong never leave the first value, which is no curve at all; once nothing
changes, it is seldom looked at.

Left out: harmonics without clipping and loudspeakers with a memory, of which such a curve takes little off.
"""

from __future__ import annotations

import math

import numpy as np

from stack.voice.vad import Float

_LIMITS = (math.inf, 14_000.0, 10_000.0, 7_500.0, 5_600.0, 4_200.0, 3_100.0, 2_300.0)
"""Full scale is 32768; speech at a usual level has peaks of some 10 000."""
_BETTER = 0.94  # of what the present limit leaves
_LOOKS = 2  # before which nothing is changed
_FORGET = 0.7
_SETTLED = 6  # looks that changed nothing, after which every eighth is enough
_SELDOM = 8
_LOUD = 4_000.0  # peak, in int16 scale, without which a window says nothing about limits


class LoudspeakerCurve:
    """Bends the reference; `consider` finds by how much."""

    WINDOW = 4096
    """Samples of microphone that are looked at."""

    def __init__(self) -> None:
        self._at = 0
        self._left: Float = np.zeros(len(_LIMITS), np.float32)
        self._looks = self._called = 0

    @property
    def limit(self) -> float:
        """Where the loudspeaker's curve is flat, in int16 scale; infinite if it is straight."""
        return _LIMITS[self._at]

    def bend(self, samples: Float, limit: float | None = None) -> Float:
        """Return what the loudspeaker makes of samples."""
        limit = self.limit if limit is None else limit
        if limit == math.inf:
            return samples
        power: Float = samples * np.float32(1.0 / limit)
        np.square(power, out=power)
        np.square(power, out=power)
        power += np.float32(1.0)
        np.sqrt(power, out=power)
        np.sqrt(power, out=power)
        np.divide(samples, power, out=power)
        return power

    @property
    def due(self) -> bool:
        """Count, and say whether `consider` is worth its time now: 1 ms."""
        self._called += 1
        return self._looks < _SETTLED or self._called % _SELDOM == 0

    def consider(self, path: Float, sent: Float, heard: Float) -> float | None:
        """Hold all limits against each other; return a factor for the path if another one is taken.

        `path` is what the filter has learnt, `heard` are `WINDOW` samples, `sent` as many and the `len(path)`
        before them.
        """
        if float(np.abs(sent).max()) < _LOUD:
            return None
        size = 1 << (len(sent) - 1).bit_length()
        bent = np.stack([self.bend(sent, limit) for limit in _LIMITS])
        echoes = np.fft.irfft(np.fft.rfft(bent, size) * np.fft.rfft(path, size), size)[:, len(path) : len(sent)]
        gains = (echoes @ heard) / (np.square(echoes).sum(axis=1) + 1.0)
        rests = np.square(heard - gains[:, None] * echoes).sum(axis=1) / (float(heard.dot(heard)) + 1.0)
        self._left = _FORGET * self._left + rests.astype(np.float32)
        self._looks += 1
        best = int(np.argmin(self._left))
        if self._looks < _LOOKS or self._left[best] >= _BETTER * self._left[self._at]:
            return None
        self._at, self._looks = best, 0
        self._left.fill(0)
        return float(gains[best])

    def reset(self) -> None:
        """Another loudspeaker."""
        self._at = self._looks = self._called = 0
        self._left.fill(0)
