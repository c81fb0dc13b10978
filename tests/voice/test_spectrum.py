import sys
from types import ModuleType

import numpy as np
import pytest

from stack.voice import spectrum

UFUNCS = "numpy.fft._pocketfft_umath"


def signals(count: int, length: int) -> np.ndarray:
    return (np.random.default_rng(1).standard_normal((count, length)) * 3000).astype(np.float32)


def there_and_back(transforms, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    forward, inverse = transforms
    spectra = np.zeros((len(given), given.shape[1] // 2 + 1), np.complex64)
    back = np.zeros_like(given)
    forward(given, spectra)
    inverse(spectra, back)
    return spectra, back


@pytest.mark.parametrize("length", [320, 640, 16_384])
def test_it_is_numpys_transform(length):
    given = signals(3, length)
    spectra, back = there_and_back((spectrum.forward, spectrum.inverse), given)
    assert spectra == pytest.approx(np.fft.rfft(given.astype(np.float64)), rel=1e-3, abs=1.0)
    assert back == pytest.approx(given, abs=0.05)


@pytest.mark.parametrize("fault", ["absent", "renamed", "another scale", "other arguments"])
def test_a_numpy_whose_insides_are_different_is_asked_through_its_front_door(monkeypatch, fault):
    insides = ModuleType(UFUNCS)
    if fault == "another scale":
        insides.rfft_n_even = lambda signal, scale, out: np.multiply(np.fft.rfft(signal), 2.0, out=out)
        insides.irfft = lambda spectra, scale, out: np.multiply(np.fft.irfft(spectra), 0.5, out=out)
    elif fault == "other arguments":
        insides.rfft_n_even = insides.irfft = lambda signal: signal
    elif fault == "absent":
        insides = None
    monkeypatch.setitem(sys.modules, UFUNCS, insides)
    monkeypatch.delattr(np.fft, "_pocketfft_umath", raising=False)
    given = signals(2, 320)
    spectra, back = there_and_back(spectrum.transforms(), given)
    assert spectra == pytest.approx(np.fft.rfft(given), rel=1e-3, abs=1.0)
    assert back == pytest.approx(given, abs=0.05)
