"""AECMOS: what people would say of an echo canceller's output, by the network in the `speechmos` wheel.

Two scores from 1 to 5: how little the echo disturbs, and how little else is spoilt (Purin et al., "AECMOS: a
speech quality assessment metric for echo impairment", ICASSP 2022). The network sees mel spectrograms of what was
sent, of the microphone and of the output. The wheel makes them with librosa, which is not needed here: `log_mel`
is the same thing (Slaney's mel scale, an FFT of 513 samples every 256, decibels below the loudest).
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench._voices import RATE

FFT, HOP, MELS = 513, 256, 160
LONGEST = 20 * RATE
FAR_END, BOTH = "far end", "both"
"""Who speaks: the program alone, or a person as well."""
_MARKER = 20  # frames behind the sound that say who speaks


@cache
def _filters() -> np.ndarray:
    """Return triangles on Slaney's mel scale, of equal area: (MELS, bins)."""
    step, knee, ratio = 200.0 / 3, 1000.0, np.log(6.4) / 27.0

    def hertz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < knee / step, mel * step, knee * np.exp(ratio * (mel - knee / step)))

    highest = knee / step + np.log(RATE / 2 / knee) / ratio
    edges = hertz(np.linspace(0.0, highest, MELS + 2))
    bins = np.fft.rfftfreq(FFT, 1 / RATE)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))[:, None])


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Return (frames, MELS): decibels below the loudest, -40 as 0 and 0 as 1."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)
    padded = np.pad(samples.astype(np.float64), FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::HOP]
    power = np.abs(np.fft.rfft(frames * window)) ** 2 @ _filters().T
    decibels = 10.0 * np.log10(np.maximum(1e-10, power)) - 10.0 * np.log10(max(1e-10, float(power.max())))
    return np.asarray((np.maximum(decibels, decibels.max() - 80.0) + 40.0) / 40.0)


class Aecmos:
    """The network; `installed` returns None where the wheels `speechmos` and `onnxruntime` are not."""

    def __init__(self, model: Path) -> None:
        from onnxruntime import InferenceSession

        self._session: Any = InferenceSession(str(model), providers=["CPUExecutionProvider"])

    @classmethod
    def installed(cls) -> Aecmos | None:
        """Return the judge if it is here."""
        found = find_spec("speechmos")
        if found is None or not found.submodule_search_locations or find_spec("onnxruntime") is None:
            return None
        model = Path(found.submodule_search_locations[0]) / "aecmos_models" / "Run_1663915512_Stage_0.onnx"
        return cls(model) if model.exists() else None

    def score(self, sent: np.ndarray, heard: np.ndarray, left: np.ndarray, who: str) -> tuple[float, float]:
        """Return the scores of the echo and of everything else; int16 scale, at most twenty seconds count."""
        far = float(who == FAR_END)
        features = []
        for signal, marker in ((sent, 1.0), (heard, 1.0 - far), (left, 1.0)):
            mel = log_mel(np.clip(signal[:LONGEST] / 32768.0, -1.0, 1.0))
            features.append(np.concatenate([mel, np.full((_MARKER, MELS), marker), np.zeros((_MARKER, MELS))]))
        stacked = np.stack(features)[None].astype(np.float32)
        name = self._session.get_inputs()[0].name
        echo, other = self._session.run([], {name: stacked, "h0": np.zeros((4, 1, 64), np.float32)})[0]
        return float(echo), float(other)
