"""Tones: made, and measured where they arrive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CLIENT_TONE = 440
SERVER_TONE = 1000
LEVEL = 0.25
"""Amplitude of both tones; 1 is full scale."""
SILENCE = 0.003
"""Amplitude below which there is nothing to be heard: 50 dB below full scale."""
WIRE_RATE = 48_000

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Tone:
    """What sound holds: its strongest frequency in Hz, its level, and how much of it is that tone."""

    hertz: float
    amplitude: float
    purity: float

    @classmethod
    def measure(cls, samples: Samples, rate: int) -> Tone:
        """Measure the last second."""
        last = samples[-rate:].astype(np.float64) / 32_768
        if not len(last) or not last.any():
            return cls(0.0, 0.0, 0.0)
        spectrum = np.abs(np.fft.rfft(last * np.hanning(len(last)))) ** 2
        peak = int(spectrum.argmax())
        around = spectrum[max(0, peak - 5) : peak + 6].sum()
        amplitude = float(np.sqrt(2 * np.mean(last**2)))
        return cls(peak * rate / len(last), amplitude, float(around / max(spectrum.sum(), 1e-12)))

    @property
    def decibels(self) -> float:
        """The level against full scale."""
        return 20 * float(np.log10(max(self.amplitude, 1e-6)))

    @property
    def is_silence(self) -> bool:
        """It is no louder than what codecs and quiet rooms leave of nothing."""
        return self.amplitude < SILENCE

    def __str__(self) -> str:
        if self.is_silence:
            return "silence"
        return f"{self.hertz:.0f} Hz at {self.decibels:.0f} dBFS, {100 * self.purity:.0f} % of it that tone"


def sine(hertz: int, seconds: int, rate: int) -> Samples:
    """A tone that goes on without a seam when it is repeated."""
    return (32_767 * LEVEL * np.sin(2 * np.pi * hertz * np.arange(seconds * rate) / rate)).astype(np.int16)


def levels(samples: Samples, rate: int, window: float = 0.1) -> list[float]:
    """The RMS of each window; 1 is full scale."""
    size = round(window * rate)
    whole = samples[: len(samples) // size * size].astype(np.float64).reshape(-1, size) / 32_768
    return [round(float(each), 4) for each in np.sqrt((whole**2).mean(axis=1))]
