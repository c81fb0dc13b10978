"""Sounds of `bench world`, and when one is heard."""

from __future__ import annotations

import numpy as np

from stack.audio import Samples

RATE = 16_000
FRAME = 0.02
LOUD = 1500
"""A frame with such a sample is one of a tone or a voice; noise of a quiet room is far below."""
QUIET_FRAMES = 5
"""After which a loud frame is a new sound."""


def tone(frequency: float, seconds: float) -> Samples:
    """Return int16 samples at `RATE`."""
    at = np.arange(round(RATE * seconds)) / RATE
    return np.asarray(9000 * np.sin(2 * np.pi * frequency * at)).astype(np.int16)


def noise(seconds: float) -> Samples:
    """Return noise as loud as a voice, int16 at `RATE`; a tone is too easily found again in a person's vowels."""
    return np.asarray(np.random.default_rng(7).normal(0, 3000, round(RATE * seconds))).astype(np.int16)


def is_loud(samples: Samples) -> bool:
    """Return True if there is more in a frame than noise."""
    return bool(len(samples)) and int(np.abs(samples.astype(np.int32)).max()) > LOUD


class ClickDetector:
    """Says where a sound begins."""

    def __init__(self) -> None:
        self._quiet = 0

    def hears(self, samples: Samples) -> bool:
        """Return True for the first loud frame after some that are not."""
        if not is_loud(samples):
            self._quiet += 1
            return False
        begins = self._quiet >= QUIET_FRAMES
        self._quiet = 0
        return begins
