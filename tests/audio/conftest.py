"""Sound to test with: recorded speech where Debian's `pocketsphinx-testdata` is, made-up speech always."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stack.audio import read_wav

LIBRIVOX = Path("/usr/share/pocketsphinx/test/data/librivox")


def synthetic_voice(seconds: float, rate: int, seed: int = 1) -> NDArray[np.int16]:
    """Something with the pitch, formants, hiss and pauses of a voice."""
    random = np.random.default_rng(seed)
    count = int(seconds * rate)
    t = np.arange(count) / rate
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.7 * t) + 10 * np.sin(2 * np.pi * 2.3 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = np.zeros(count)
    for harmonic in range(1, 30):
        frequency = harmonic * pitch
        formants = sum(
            gain * np.exp(-(((frequency - centre) / width) ** 2))
            for centre, width, gain in ((500 + 200 * np.sin(2 * np.pi * 1.5 * t), 150, 1.0), (1500, 250, 0.5))
        )
        voice += (formants + 0.01) * np.sin(harmonic * phase) * (frequency < 0.45 * rate)
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * t) + 0.4, 0, 1) * (np.sin(2 * np.pi * 0.4 * t) > -0.6)
    hiss = random.normal(0, 0.03, count)
    return np.asarray((voice * syllables * 0.4 + hiss * (0.05 + 0.3 * syllables)) * 12_000, np.int16)


@pytest.fixture(scope="session")
def voice() -> NDArray[np.int16]:
    """Four seconds of made-up speech at 16 kHz."""
    return synthetic_voice(4.0, 16_000)


@pytest.fixture(scope="session")
def speech() -> NDArray[np.int16]:
    """A recorded sentence at 16 kHz, seven seconds."""
    path = LIBRIVOX / "sense_and_sensibility_01_austen_64kb-0870.wav"
    if not path.exists():
        pytest.skip("no recorded speech: apt-get install pocketsphinx-testdata")
    samples, rate = read_wav(path)
    assert rate == 16_000
    return samples


def snr_db(wanted: NDArray[np.generic], got: NDArray[np.generic]) -> float:
    """Signal to error ratio in dB."""
    signal = wanted.astype(np.float64)
    error = got.astype(np.float64) - signal
    return float(10 * np.log10((signal**2).mean() / max(1e-9, (error**2).mean())))


def frames_of(samples: NDArray[np.int16], size: int) -> list[NDArray[np.int16]]:
    """Whole frames of `size` samples; a rest is left out."""
    return [samples[at : at + size] for at in range(0, len(samples) - size + 1, size)]


@pytest.fixture(scope="session", name="snr_db")
def _snr_db():  # type: ignore[no-untyped-def]
    return snr_db


@pytest.fixture(scope="session", name="frames_of")
def _frames_of():  # type: ignore[no-untyped-def]
    return frames_of
