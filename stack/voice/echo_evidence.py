"""Where an echo may be that no single look makes certain: what many looks agree on, and what trying it takes off.

Music has few frequencies at a time, so its correlation is broad and its peaks are a few standard deviations
high; in a room whose reverberation is louder than the direct sound they scatter over it. Each look alone proves
nothing. But looks at windows that do not overlap are independent: by chance two peaks fall within 45 ms of each
other one time in six, three of four one time in ten. That is enough for a candidate, and no more: the filter is
tried there, its output unused, and what it takes off the microphone decides (`Trial`). A filter that is tried at
a place without echo takes nothing off.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from stack.voice.vad import Float

_BIN = 64  # samples
_SMOOTH: Float = np.ones(11, np.float32)  # together as long as peaks scatter
_FORGET = 0.85
_MOST = 8.0  # of the mean power: one look does not decide
_SPREAD = 720  # samples over which the peaks of a reverberant room scatter
_EXACT = 24
_LOOKS = 4
_AGREEING = 3


class LagEvidence:
    """What looks that do not overlap have in common."""

    def __init__(self, lags: int, window: int) -> None:
        self._window = window
        self._power: Float = np.zeros(lags // _BIN, np.float32)
        self._peaks: deque[int] = deque(maxlen=_LOOKS)
        self._last: int | None = None

    def add(self, correlation: Float, number: int) -> None:
        """Take a look's correlation over all lags; looks whose windows overlap are left out."""
        if self._last is not None and 0 <= number - self._last < self._window:
            return
        self._last = number
        power = np.square(correlation).reshape(len(self._power), _BIN).sum(axis=1)
        power /= power.mean() + 1e-9
        self._power = _FORGET * self._power + np.minimum(power, _MOST)
        self._peaks.append(int(np.argmax(correlation)))

    @property
    def candidate(self) -> int:
        """The lag, to some milliseconds, around which the echo is if there is one."""
        return (int(np.argmax(np.convolve(self._power, _SMOOTH, "same"))) * 2 + 1) * _BIN // 2

    @property
    def suspected(self) -> bool:
        """True if the last looks agree more often than by chance."""
        peaks = list(self._peaks)
        if len(peaks) >= 2 and abs(peaks[-1] - peaks[-2]) <= _EXACT:
            return True
        near = sum(abs(peak - peaks[-1]) <= _SPREAD for peak in peaks[:-1]) if peaks else 0
        return near >= _AGREEING - 1

    def reset(self) -> None:
        """Forget all looks."""
        self._power.fill(0)
        self._peaks.clear()
        self._last = None


class Trial:
    """A filter that is tried at a candidate: won when it takes `ENOUGH_DB` off the microphone, else lost."""

    SHORTEST, LONGEST = 50, 100
    """Blocks of 10 ms in which we are to be heard."""
    ENOUGH_DB = 3.0
    HOPELESS_DB = 0.5
    """What a filter takes off by chance: with less than that, the shortest trial is long enough."""

    def __init__(self) -> None:
        self._blocks = 0

    def update(self, erle_db: float) -> bool | None:
        """Take what is taken off now; return whether there is an echo, None while that is open."""
        self._blocks += 1
        if self._blocks < self.SHORTEST:
            return None
        if erle_db >= self.ENOUGH_DB:
            return True
        return False if self._blocks >= self.LONGEST or erle_db < self.HOPELESS_DB else None
