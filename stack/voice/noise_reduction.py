"""Noise taken off in what the voice detector alone hears: WebRTC's noise suppressor, from a wheel.

What the program hears is left alone: what a suppressor takes from a voice is lost to a recogniser, and to a
detector a voice without its softest parts is still a voice. A program that wants it for itself has
`WebRtcNoiseReduction`.

The wheel is `webrtc-noise-gain` (the extra `noise`; Apache-2.0, WebRTC's part BSD-3-Clause). It takes 10 ms at a
time, at 16 kHz; its automatic gain stays off, because the detector `auto` has its own.

Left out: RNNoise and DeepFilterNet, which work at 48 kHz and cost far more than the detector that they would help
(`python -m bench hearing` has the figures of what is here).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stack.core.errors import LocalError
from stack.voice.vad import DETECTOR_RATE, Int16, VoiceDetector, VoiceFrame

BLOCK = DETECTOR_RATE // 100
"""Samples that are taken at a time: 10 ms."""
STRENGTHS = range(1, 5)
"""From mild to as strong as it can."""
_GAP_TOLERANCE = 0.002  # seconds of media time that rounding may be off


class WebRtcNoiseReduction:
    """A Transform of int16 samples at 16 kHz: as many come out as go in, in whole blocks of 10 ms.

    `LocalError` if the wheel is not installed, or for a strength that is not one of `STRENGTHS`.
    """

    def __init__(self, strength: int = 2) -> None:
        if strength not in STRENGTHS:
            raise LocalError(
                f"noise reduction has a strength of {STRENGTHS[0]} to {STRENGTHS[-1]}, not {strength}"
            )
        try:
            from webrtc_noise_gain import AudioProcessor
        except ImportError as error:
            raise LocalError("noise reduction needs `pip install 'voice-stack[noise]'`") from error
        self._processor: Any = AudioProcessor(0, strength)

    def push(self, samples: Int16) -> Int16:
        """Return the samples without the noise; `LocalError` unless they are int16 and whole blocks."""
        if samples.ndim != 1 or samples.dtype != np.int16 or len(samples) % BLOCK:
            raise LocalError(
                f"noise reduction takes int16 samples in blocks of {BLOCK}, not {samples.dtype}{samples.shape}"
            )
        data = np.ascontiguousarray(samples).tobytes()
        width = 2 * BLOCK
        process = self._processor.Process10ms
        blocks = (process(data[at : at + width]).audio for at in range(0, len(data), width))
        return np.frombuffer(b"".join(blocks), np.int16)


class NoiseReducedDetector:
    """A voice detector that hears what noise reduction leaves; it takes 16 kHz.

    Samples that are no whole block wait for the next ones. A hole in media time, or a step back, drops them.
    """

    def __init__(
        self, detector: VoiceDetector, make_reduction: Callable[[], WebRtcNoiseReduction] = WebRtcNoiseReduction
    ) -> None:
        self._detector = detector
        self._make_reduction = make_reduction
        self._reduction = make_reduction()
        self._pending: Int16 = np.zeros(0, np.int16)
        self._next: float | None = None

    @property
    def hurried(self) -> bool:
        """See `VoiceDetector`."""
        return self._detector.hurried

    @hurried.setter
    def hurried(self, hurried: bool) -> None:
        self._detector.hurried = hurried

    @property
    def inaudible(self) -> float:
        """The level in dBFS below which it hears no voice."""
        return self._detector.inaudible

    def push(self, samples: Int16, sample_rate: int, media_time: float) -> Sequence[VoiceFrame]:
        """Take samples; return a frame for each that is complete. See `VoiceDetector`."""
        if sample_rate != DETECTOR_RATE:
            raise LocalError(f"noise reduction for a detector takes {DETECTOR_RATE} Hz, not {sample_rate}")
        if self._next is not None and abs(media_time - self._next) > _GAP_TOLERANCE:
            self._pending = np.zeros(0, np.int16)
        self._next = media_time + len(samples) / DETECTOR_RATE
        begin = media_time - len(self._pending) / DETECTOR_RATE
        if len(self._pending):
            samples = np.concatenate([self._pending, samples])
        whole = len(samples) // BLOCK * BLOCK
        self._pending = samples[whole:]
        return self._detector.push(self._reduction.push(samples[:whole]), DETECTOR_RATE, begin)

    def disown(self) -> None:
        """What was pushed last was our own echo."""
        self._detector.disown()

    def reset(self) -> None:
        """Forget everything, the noise included."""
        self._reduction = self._make_reduction()
        self._pending = np.zeros(0, np.int16)
        self._next = None
        self._detector.reset()
