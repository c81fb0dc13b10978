"""How much an echo canceller takes off the microphone, by running energies of what came in and what was left."""

from __future__ import annotations

import numpy as np

from stack.voice.echo_filter import BLOCK
from stack.voice.vad import Float


class Balance:
    """Running energies of what came in and what was left."""

    def __init__(self) -> None:
        self._heard = self._left = 0.0
        self._long_heard = self._long_left = 1.0

    def update(self, microphone: Float, error: Float) -> None:
        """Take a block, or some."""
        for at in range(0, len(microphone), BLOCK):
            self._update(microphone[at : at + BLOCK], error[at : at + BLOCK])

    def _update(self, microphone: Float, error: Float) -> None:
        heard, left = float(microphone.dot(microphone)), float(error.dot(error))
        self._heard = 0.9 * self._heard + heard
        self._left = 0.9 * self._left + left
        self._long_heard = 0.99 * self._long_heard + heard
        self._long_left = 0.99 * self._long_left + left

    @property
    def remainder(self) -> float:
        """The share of the microphone's energy that was left over the last 100 ms."""
        return self._left / self._heard if self._heard > 0.0 else 1.0

    @property
    def erle_db(self) -> float:
        """Echo return loss enhancement over about a second."""
        return float(10.0 * np.log10((self._long_heard + 1.0) / (self._long_left + 1.0)))
