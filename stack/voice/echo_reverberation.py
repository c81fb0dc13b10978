"""How loud our sound is in a hall: what was sent, band by band, added up as it fades.

In a hall most of the echo comes after the end of every model, so the canceller takes 2 or 3 dB off, and what the
gate can say without it (the loudest echo of late, with 6 dB on top) is more than a person's voice. But that much
reverberation is steady: it is the sum of all that was sent in the last seconds, and what the microphone hears is
within some 3 dB of it, where in rooms it jumps by 6 to 12 (the direct sound, and silence behind it). So two
quantiles of the ratio between what is heard and that sum are followed in each band. Where they lie close together
the sum explains what is heard, and the upper one is the most that our sound comes to; elsewhere this says nothing.

Left out: any phase. A path that changes changes nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

_KEPT: Final = 0.97  # of the power in the hall, in each block: 4.5 s of reverberation
_ADDED: Final = 1.0 - _KEPT
_SMOOTHING, _NEW = 0.6, 0.4
_FIRST, _EAGER = 50, 150  # blocks after which the quantiles begin at what is seen, and until which they are sought
_KNOWN = 250  # blocks after which they mean something
_STEP_DB, _EAGER_DB, _DOUBTFUL_DB = 0.1, 0.4, 0.01
_CLOSE_DB = 7.0  # between the quantiles, in the mean of the bands: 4 to 6 in a hall, 9 to 25 elsewhere
_LEAST, _MOST = 1e-6, 100.0


def _steps(decibels: float) -> tuple[float, float, float, float]:
    """Return the factors by which the upper quantile (0.9) and the lower one (0.1) rise and fall."""
    rises = (0.9 * decibels, -0.1 * decibels, 0.1 * decibels, -0.9 * decibels)
    upper_rise, upper_fall, lower_rise, lower_fall = (10.0 ** (each / 10.0) for each in rises)
    return upper_rise, upper_fall, lower_rise, lower_fall


class Reverberation:
    """Fed with what the microphone hears and what was sent, a number for each of `bands` bands and block."""

    def __init__(self, bands: int) -> None:
        self._bands = bands
        self._eager, self._usual, self._doubtful = (_steps(step) for step in (_EAGER_DB, _STEP_DB, _DOUBTFUL_DB))
        self.restart()

    def restart(self) -> None:
        """Another room."""
        self._sum = [0.0] * self._bands
        self._heard = [0.0] * self._bands
        self._upper = [1.0] * self._bands
        self._lower = [0.1] * self._bands
        self._seen = 0
        self.expected = [0.0] * self._bands
        """The most that our sound comes to now, in each band."""
        self.explains = False
        """Whether what is heard follows what was sent: a hall."""

    def update(
        self, heard: Sequence[float], reference: Sequence[float], floor: Sequence[float], doubtful: bool
    ) -> None:
        """Take a block. `floor` is the noise, of which nothing is learnt; `doubtful`: a person may speak."""
        self._seen += 1
        steps = self._eager if self._seen <= _EAGER else self._doubtful if doubtful else self._usual
        upper_rise, upper_fall, lower_rise, lower_fall = steps
        sums, now, upper, lower, expected = self._sum, self._heard, self._upper, self._lower, self.expected
        for band, sent in enumerate(reference):
            sums[band] = total = _KEPT * sums[band] + _ADDED * sent
            now[band] = level = _SMOOTHING * now[band] + _NEW * heard[band]
            most = upper[band] * total
            if self._seen <= _FIRST:
                upper[band] = lower[band] = min(_MOST, max(_LEAST, level / (total + 1.0)))
            elif most > 4.0 * floor[band]:
                upper[band] = min(_MOST, max(_LEAST, upper[band] * (upper_rise if level > most else upper_fall)))
                above = level > lower[band] * total
                lower[band] = min(_MOST, max(_LEAST, lower[band] * (lower_rise if above else lower_fall)))
            expected[band] = upper[band] * total
        if self._seen >= _KNOWN:
            apart = sum(math.log10(most / least) for most, least in zip(upper, lower, strict=True))
            self.explains = 10.0 * apart < _CLOSE_DB * self._bands
