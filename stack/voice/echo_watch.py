"""Whether the path of the echo is still the one that the filter has learnt, or a person speaks.

Both leave much in the canceller's output. But a path that has changed leaves the old prediction there with its
sign turned, in every bin in which there is one, while a person's voice has nothing to do with it. So block by
block the remainder is correlated with the prediction over some hundred bins, whitened like a phase correlation so
that a few loud harmonics do not decide: about -0.5 for a path that is gone, also while it only begins to go, and
0 ± 0.2 beside a voice. Blocks are added up as in a sequential test (Page, "Continuous Inspection Schemes",
Biometrika 1954), which decides after two or three of them; what came in since the sum was last empty says how much
of the old path is left.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from stack.voice.echo_filter import BLOCK, ECHO, ERROR, MICROPHONE
from stack.voice.vad import Float

_BAND = slice(3, 130)  # bins: 150 to 6500 Hz
_ONES: Float = np.ones(127, np.float32)
_TINY: Final = np.float32(1e-9)
_WHITENING = -0.8  # whole (-1) would give bins of noise the same voice as bins of speech
_POWER: Final = np.float32(0.5 * _WHITENING)
_PREDICTED = 0.01  # of the mean power: below that, a bin of the prediction says nothing
_SHARE: Final = np.float32(_PREDICTED / len(_ONES))
_AUDIBLE = 4.0 * BLOCK * BLOCK
_LEAST_LEFT, _MOST_LEFT = 0.05, 4.0  # of the prediction's power: what a path that changes leaves
_BETWEEN = 0.225  # halfway from a voice to a path that is gone
_STEP = 0.4  # what one block may say at most: a single one does not decide
_GONE = 0.5
_FULL = 1.0
_FADE = 0.1


class PathWatch:
    """A sequential test, fed with the power spectra of blocks: microphone, remainder, prediction."""

    def __init__(self) -> None:
        self._evidence = 0.0
        self._against = self._echo = self._left = self._predicted = 0.0

    @property
    def found(self) -> float:
        """How much of the prediction is still in the microphone: 1 for the right path, 0 for one that is gone."""
        return max(0.0, 1.0 - self._against / self._echo) if self._echo > 0.0 else 1.0

    @property
    def left(self) -> float:
        """How loud the remainder is, as a share of the prediction's power."""
        return self._left / self._predicted if self._predicted > 0.0 else 0.0

    def update(self, powers: Float) -> bool:
        """Take `KalmanFilter.powers`; return True if the path is another one. `restart` when it is dealt with."""
        left, predicted = powers[:, ERROR, _BAND], powers[:, ECHO, _BAND]
        sums = np.matmul(powers[:, ERROR : ECHO + 1, _BAND], _ONES)
        audible = [
            all_predicted >= _AUDIBLE and _LEAST_LEFT < all_left / all_predicted < _MOST_LEFT
            for all_left, all_predicted in sums.tolist()
        ]
        if not any(audible):
            # Nothing is left, or far more than was ever predicted, beside which a correlation is chance.
            if self._evidence > 0.0:
                self._add(-_FADE * len(audible))
            return False
        both = left * predicted
        np.add(both, _TINY, both)
        weight = both**_POWER
        weight *= predicted > sums[:, 1:] * _SHARE
        np.sqrt(both, both)
        # |error + echo|² is the microphone's power: what is there beyond the sum of both powers is their product.
        more = powers[:, MICROPHONE, _BAND] - left
        np.subtract(more, predicted, more)
        for block, means in enumerate(audible):
            if not means:
                if self._evidence > 0.0:
                    self._add(-_FADE)
                continue
            weights = weight[block]
            against = -0.5 * float(weights.dot(more[block]))
            self._add(max(-_STEP, min(_STEP, against / (float(weights.dot(both[block])) + 1e-9) - _BETWEEN)))
            if self._evidence > 0.0:
                self._against += against
                self._echo += float(weights.dot(predicted[block]))
                self._left += float(sums[block, 0])
                self._predicted += float(sums[block, 1])
            if self._evidence > _GONE:
                return True
        return False

    def restart(self) -> None:
        """Wait for the next change."""
        self._evidence = self._against = self._echo = self._left = self._predicted = 0.0

    def _add(self, evidence: float) -> None:
        self._evidence = min(_FULL, self._evidence + evidence)
        if self._evidence <= 0.0:
            self.restart()
