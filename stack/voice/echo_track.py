"""What a canceller keeps of a signal: its last seconds, laid along media time."""

from __future__ import annotations

import numpy as np

from stack.voice.vad import DETECTOR_RATE, Float, Int16

_SNAP = 16  # samples by which media time may disagree with the count of samples: 1 ms of rounding
OVERLAP = 1600
"""Samples by which a clock that is read again may be corrected: a step back by more is a new stream."""


class Track:
    """The last seconds of a signal by absolute sample number; holes are silence."""

    def __init__(self, seconds: float) -> None:
        self._size = int(seconds * DETECTOR_RATE)
        self._ring: Int16 = np.zeros(0, np.int16)  # made at the first write; half the size of what is read
        self.end = 0
        """Number of the sample after the newest."""
        self._started = False

    def write(self, samples: Int16, media_time: float) -> int:
        """Put samples where their media time says; return the number of the first."""
        at = round(media_time * DETECTOR_RATE)
        if not self._started:
            self._started, self.end = True, at
        elif abs(at - self.end) <= _SNAP:
            at = self.end
        elif at > self.end:
            self._fill(np.zeros(min(at - self.end, self._size), np.int16), at)
        elif self.end - at > OVERLAP:  # a step back is a new stream; what overlaps a little gives way
            self._ring.fill(0)
        self._fill(samples[-self._size :], at + len(samples))
        return at

    def read(self, start: int, count: int) -> Float:
        """Return `count` samples from number `start`; what is not there (any more, or yet) is silence."""
        position = start % self._size
        if position + count <= len(self._ring) and self.end - self._size <= start <= self.end - count:
            return self._ring[position : position + count].astype(np.float32)
        out = np.zeros(count, np.float32)
        first, last = max(start, self.end - self._size), min(start + count, self.end)
        if last > first and self._started:
            position, offset = first % self._size, first - start
            head = min(last - first, self._size - position)
            out[offset : offset + head] = self._ring[position : position + head]
            out[offset + head : last - start] = self._ring[: last - first - head]
        return out

    def _fill(self, samples: Int16, end: int) -> None:
        if not len(self._ring):
            self._ring = np.zeros(self._size, np.int16)
        count = len(samples)
        position = (end - count) % self._size
        self.end = end
        if position + count <= self._size:
            self._ring[position : position + count] = samples
            return
        head = self._size - position
        self._ring[position : position + head] = samples[:head]
        self._ring[: count - head] = samples[head:]
