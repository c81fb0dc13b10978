"""Comfort noise: the hiss of the other room, made up while nothing comes from there (as RFC 3389 means it).

The quietest frames of the last seconds are the room. Their spectrum is remembered, and noise of that colour and
level is made from random phases, overlapped and added. Where the room is unknown there is silence. The random
numbers need not be secret or different from call to call, so they come from a generator with a fixed seed.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from stack.audio.codec import Samples

_BLOCK = 0.020
_FORGET = 0.9
_CREEP = 1.008
"""Factor by which the level that counts as quiet rises with each frame that is looked at: if that is one in four
of 20 ms, it doubles in seven seconds."""
_NEAR = 2.0
"""Frames with up to this times the energy of the quietest one are the room."""
LOUDEST = 500.0
"""Root mean square (of 32768) above which nothing is taken for the room's noise."""


_NOTHING: NDArray[np.float32] = np.zeros(0, np.float32)


@cache
def _window(size: int) -> NDArray[np.float32]:
    return np.sin(np.pi * (np.arange(size) + 0.5) / size).astype(np.float32)


class ComfortNoise:
    """Learns from frames that were received (`learn`) and makes noise like their quietest (`make`)."""

    def __init__(self, sample_rate: int) -> None:
        self._size = int(_BLOCK * sample_rate) // 2 * 2
        self._window = _window(self._size)
        self._spectrum: NDArray[np.float32] | None = None  # mean power of the room; None: unknown
        self._quietest = np.inf
        self._random: np.random.Generator | None = None  # made when there is something to be made up
        self._rest = _NOTHING
        self._overlap = _NOTHING

    @property
    def level(self) -> float:
        """Root mean square of the room's noise, of 32768."""
        if self._spectrum is None:
            return 0.0
        power = float(self._spectrum[1:-1].sum() * 2 + self._spectrum[0] + self._spectrum[-1])
        return float(np.sqrt(power)) / self._size

    def learn(self, samples: Samples) -> None:
        """Take a frame that was received; all but quiet ones are passed over."""
        if len(samples) < self._size:
            return
        block = samples[-self._size :].astype(np.float32)
        energy = max(float(block @ block) / self._size, 1.0)
        self._quietest = min(self._quietest * _CREEP, energy)
        if energy > min(_NEAR * self._quietest, LOUDEST**2):
            return
        power = np.abs(np.fft.rfft(block * self._window)).astype(np.float32) ** 2 * 2.0  # the window halves it
        known = self._spectrum
        self._spectrum = power if known is None or not known.any() else _FORGET * known + (1.0 - _FORGET) * power

    def make(self, samples: int) -> NDArray[np.float32]:
        """Return `samples` of noise that continue the noise before."""
        half = self._size // 2
        if self._random is None:
            self._random = np.random.default_rng(20_000)
            self._overlap = np.zeros(half, np.float32)
        amplitudes = np.zeros(half + 1, np.float32) if self._spectrum is None else np.sqrt(self._spectrum)
        parts, ready = [self._rest], len(self._rest)
        while ready < samples:
            phases = np.exp(2j * np.pi * self._random.random(half + 1))
            block = np.fft.irfft(amplitudes * phases, self._size).astype(np.float32) * self._window
            parts.append(self._overlap + block[:half])
            self._overlap = block[half:]
            ready += half
        noise = np.concatenate(parts)
        self._rest = noise[samples:]
        return noise[:samples]
