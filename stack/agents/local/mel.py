"""What Whisper sees of sound, and what it writes: log-mel spectra of 80 bands, and tokens as text.

The analysis that its weights were trained with (25 ms Hann windows every 10 ms, Slaney's mel scale and area
normalisation, the loudest 80 dB), in numpy, so that the runtime of the weights is all that has to be installed.

Left out: spectra of 128 bands (the large models).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

SAMPLE_RATE: Final = 16_000
HOP: Final = 160
BANDS: Final = 80
_WINDOW: Final = 400
_LINEAR_HZ = 200.0 / 3.0  # a mel, below 1 kHz
_LOG_FROM_HZ = 1000.0
_LOG_FROM_MEL = _LOG_FROM_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27.0


def log_mel(samples: Float32) -> Float32:
    """Return the spectrum of float samples (−1 … 1) of shape (n,) at 16 kHz, as shape (80, n // 160)."""
    half = _WINDOW // 2
    padded = np.pad(samples, half, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::HOP][: len(samples) // HOP]
    window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
    power = np.abs(np.fft.rfft(frames * window, axis=1)).astype(np.float32) ** 2
    logs = np.log10(np.maximum(_filters() @ power.T, 1e-10))
    logs = np.maximum(logs, logs.max() - 8.0)
    scaled: Float32 = ((logs + 4.0) / 4.0).astype(np.float32)
    return scaled


@cache
def _filters() -> Float32:
    """Return triangles over the FFT's bins, evenly spaced in mel up to half the rate, each of area 1."""
    edges = _hertz(np.linspace(0.0, _mel(SAMPLE_RATE / 2.0), BANDS + 2))
    bins = np.fft.rfftfreq(_WINDOW, 1.0 / SAMPLE_RATE)
    below, middle, above = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - below) / (middle - below), (above - bins) / (above - middle)
    triangles: Float32 = (np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (above - below)).astype(np.float32)
    return triangles


def _mel(hertz: float) -> float:
    return float(_LOG_FROM_MEL + np.log(hertz / _LOG_FROM_HZ) / _LOG_STEP)


def _hertz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(
        mels < _LOG_FROM_MEL, mels * _LINEAR_HZ, _LOG_FROM_HZ * np.exp(_LOG_STEP * (mels - _LOG_FROM_MEL))
    )


@cache
def _byte_of() -> dict[str, int]:
    """Return the byte that each character of GPT-2's alphabet stands for: printable Latin-1 is itself."""
    itself = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in set(itself)]
    return {chr(byte): byte for byte in itself} | {chr(256 + index): byte for index, byte in enumerate(others)}


def text_of(tokens: Iterable[str]) -> str:
    """Return the text of tokens as the vocabulary spells them; special ones (`<|…|>`) are left out."""
    spelling = "".join(token for token in tokens if not token.startswith("<|"))
    return bytes(_byte_of()[character] for character in spelling if character in _byte_of()).decode(
        "utf-8", "replace"
    )
