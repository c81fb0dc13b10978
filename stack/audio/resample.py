"""Changing the sample rate of a stream, in numpy: a Kaiser-windowed sinc as a polyphase filter.

For what programs write (speech synthesis at 22.05 or 24 kHz, files at 44.1) and for codecs of 8 kHz. Decoded Opus
does not pass here: libopus decodes to the listener's rate by itself. With `rate_out / rate_in = up / down` in
lowest terms, output k lies at k·down/up on the input's axis: its fraction picks one of `up` sub-filters (a phase),
its whole part picks the input samples under it. Stop band below -80 dB, pass band flat up to 0.9 of the lower
Nyquist frequency.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

from stack.audio.codec import Samples
from stack.core.errors import LocalError

_ZERO_CROSSINGS = 24
"""Of the sinc, on either side: the filter's half length in samples of the lower rate."""
_KAISER_BETA = 8.0
_ROLL_OFF = 0.945
"""Cut-off (-6 dB) in units of the lower Nyquist frequency."""
MAX_PHASES = 1024
"""More phases than any pair of usual rates needs (22.05 to 32 kHz: 640)."""
_MAX_STEP = 4096
"""More than any pair of usual rates steps by: the filter grows with it."""


@lru_cache(maxsize=32)
def _filter_bank(up: int, down: int) -> NDArray[np.float32]:
    """Sub-filters of shape (up, taps), each reversed for a dot product with samples in the order of time."""
    widest = max(up, down)
    half = _ZERO_CROSSINGS * -(-widest // up)  # whole input samples on either side
    taps = 2 * half
    # Sub-filter p stands at p/up behind input sample `half - 1` of its window.
    distance = np.arange(taps)[None, :] - (half - 1) - np.arange(up)[:, None] / up
    cutoff = _ROLL_OFF * min(1.0, up / down)
    x = np.clip(distance / half, -1.0, 1.0)
    window = np.i0(_KAISER_BETA * np.sqrt(1.0 - x * x)) / np.i0(_KAISER_BETA)
    bank = np.sinc(cutoff * distance) * window
    bank /= bank.sum(axis=1, keepdims=True)  # every phase passes DC alike: no tone at the output rate
    return np.ascontiguousarray(bank, np.float32)


class Resampler:
    """Resamples one stream of mono or stereo int16, block by block.

    The output is aligned with the input: it starts with the first sample, and `flush` gives the last
    `delay` seconds, which wait for what follows. With `causal=True` nothing waits: every `process` returns as many
    samples as fit in what has come in so far, and the sound lies `delay` seconds behind.
    """

    def __init__(self, rate_in: int, rate_out: int, channels: int = 1, *, causal: bool = False) -> None:
        if rate_in <= 0 or rate_out <= 0:
            raise LocalError(f"no resampling from {rate_in} to {rate_out} Hz")
        common = gcd(rate_in, rate_out)
        self._up, self._down = rate_out // common, rate_in // common
        if self._up > MAX_PHASES or self._down > _MAX_STEP:
            raise LocalError(f"{rate_in} to {rate_out} Hz is too odd a ratio to resample")
        self.rate_in = rate_in
        self.is_identity = self._up == self._down
        """True if both rates are the same: what goes in comes out."""
        self.rate_out = rate_out
        self.channels = channels
        self._causal = causal
        self._bank = _filter_bank(self._up, self._down)
        self._half = self._bank.shape[1] // 2
        self.reset()

    @property
    def delay(self) -> float:
        """Seconds of sound that the filter looks ahead."""
        return 0.0 if self._up == self._down else self._half / self.rate_in

    def reset(self) -> None:
        """Forget the stream: the next sample is the first one."""
        lead = 2 * self._half - 1 if self._causal else self._half - 1
        self._tail: NDArray[np.float32] = np.zeros((self.channels, lead), np.float32)
        self._next = 0  # of the next output, in units of 1/up input samples from the start of `_tail`
        self._received = 0
        self._produced = 0

    def process(self, samples: Samples) -> Samples:
        """Take any number of samples and return those of the output that are complete."""
        if self._up == self._down:
            return samples.copy()
        self._received += len(samples)
        block = samples.reshape(len(samples), self.channels).T
        buffer = np.concatenate((self._tail, block), axis=1, dtype=np.float32)
        taps = self._bank.shape[1]
        count = max(0, -(-((buffer.shape[1] - taps + 1) * self._up - self._next) // self._down))
        positions = self._next + self._down * np.arange(count)
        starts, phases = np.divmod(positions, self._up)
        self._next += self._down * count
        used = min(self._next // self._up, buffer.shape[1])
        self._next -= used * self._up
        self._tail = buffer[:, used:]
        self._produced += count
        if count == 0:
            return self._shaped(np.empty((self.channels, 0), np.float32))
        windows = np.lib.stride_tricks.sliding_window_view(buffer, taps, axis=1)
        if self._up == 1:  # decimation: one filter, evenly spaced windows
            filtered = windows[:, starts[0] : starts[-1] + 1 : self._down] @ self._bank[0]
        else:
            filtered = np.einsum("ckt,kt->ck", windows[:, starts], self._bank[phases])
        return self._shaped(filtered)

    def flush(self) -> Samples:
        """Return what is left of the stream, so that durations agree, and forget it."""
        if self._up == self._down or not self._received:
            self.reset()
            return self._shaped(np.empty((self.channels, 0), np.float32))
        wanted = -(-self._received * self._up // self._down) - self._produced
        if self._causal:
            wanted += self._half * self._up // self._down
        silence = np.zeros((self._half + 1, self.channels), np.int16)
        rest = self.process(silence if self.channels > 1 else silence[:, 0])[: max(0, wanted)]
        self.reset()
        return rest

    def _shaped(self, filtered: NDArray[np.float32]) -> Samples:
        pcm = np.rint(np.clip(filtered, -32768, 32767)).astype(np.int16)
        return pcm[0] if self.channels == 1 else np.ascontiguousarray(pcm.T)


def resample(samples: Samples, rate_in: int, rate_out: int) -> Samples:
    """Resample a whole recording of shape (n,) or (n, channels)."""
    resampler = Resampler(rate_in, rate_out, 1 if samples.ndim == 1 else samples.shape[1])
    blocks = [resampler.process(samples[at : at + rate_in]) for at in range(0, len(samples), rate_in)]
    return np.concatenate([*blocks, resampler.flush()])
