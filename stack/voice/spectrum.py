"""Spectra of short real signals, many times a second: the FFT of numpy with as little as can be around it.

At 320 samples `numpy.fft.rfft` takes longer to look at its arguments than to transform them (3 of 5 µs). The
ufuncs that it calls in the end take the same arrays directly. They are no public names of numpy, so they are used
only where they are found and do here, at import, what the public functions do; else the public functions are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

Complex: TypeAlias = npt.NDArray[np.complex64]
Float: TypeAlias = npt.NDArray[np.float32]
Transform: TypeAlias = Callable[[Any, Any], None]


def _public_forward(signals: Float, spectra: Complex) -> None:
    np.fft.rfft(signals, out=cast(Any, spectra))


def _public_inverse(spectra: Complex, signals: Float) -> None:
    np.fft.irfft(spectra, signals.shape[-1], out=cast(Any, signals))


def transforms() -> tuple[Transform, Transform]:
    """Return the functions behind `forward` and `inverse`: the fastest that are right."""
    try:
        from numpy.fft import _pocketfft_umath as ufuncs  # type: ignore[attr-defined]

        rfft, irfft = ufuncs.rfft_n_even, ufuncs.irfft
    except (ImportError, AttributeError):
        return _public_forward, _public_inverse
    one = np.float32(1.0)
    shares: dict[int, np.float32] = {}

    def fast_forward(signals: Float, spectra: Complex) -> None:
        rfft(signals, one, out=spectra)

    def fast_inverse(spectra: Complex, signals: Float) -> None:
        length = signals.shape[-1]
        share = shares.get(length)
        if share is None:
            share = shares[length] = np.float32(1.0 / length)
        irfft(spectra, share, out=signals)

    if _agree(fast_forward, fast_inverse):
        return fast_forward, fast_inverse
    return _public_forward, _public_inverse


def _agree(one_way: Transform, back: Transform) -> bool:
    """Say whether two functions do what numpy's public ones do, on something that is not symmetric."""
    signal = (np.arange(640, dtype=np.float32) % 7 * np.arange(640, dtype=np.float32)).reshape(2, 320)
    spectra, returned = np.zeros((2, 161), np.complex64), np.zeros((2, 320), np.float32)
    try:
        one_way(signal, spectra)
        back(spectra, returned)
    except (TypeError, ValueError):
        return False
    same = np.allclose(spectra, np.fft.rfft(signal), rtol=1e-3, atol=1.0)
    return same and np.allclose(returned, signal, atol=0.1)


forward, inverse = transforms()
"""`forward(signals, spectra)` and `inverse(spectra, signals)`: of the last axis, an even number of samples,
float32 and complex64, into the array that is given last.
"""
