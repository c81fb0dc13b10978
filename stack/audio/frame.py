"""A piece of sound as a program sees it, and the conversion of what programs write into int16."""

from __future__ import annotations

from math import gcd
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from stack.audio.codec import Samples
from stack.audio.resample import MAX_PHASES
from stack.core.errors import LocalError

PcmArray: TypeAlias = NDArray[np.int16 | np.float32 | np.float64]
"""Samples as int16 or as floats in -1 … 1."""
Pcm: TypeAlias = "PcmArray | bytes | bytearray | memoryview"
"""What a program may write: int16, floats in -1 … 1, or bytes of little-endian int16."""


LEAST_RATE, MOST_RATE = 2_000, 384_000
"""Hz: what is not between them is taken for a mistake."""
MAX_CHANNELS = 8
"""More are taken for a mistake: an array that has its channels first."""


class AudioFrame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, eq=False):
    """Mono int16 `samples` of shape (n,) at `sample_rate` Hz.

    `media_time` is the time in seconds from the first sample of the stream to the first one of this frame, on the
    sender's clock: it passes over what was silent or lost, so it says when something was spoken whatever the
    network did. `concealed` is true where the sound was made up because a packet is missing.
    """

    samples: Samples
    sample_rate: int
    media_time: float
    concealed: bool = False

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate

    def __len__(self) -> int:
        return len(self.samples)


class ByteStream:
    """Joins PCM that comes as bytes and was cut anywhere: a byte that is left over begins the next sample."""

    def __init__(self) -> None:
        self._odd = b""

    def join(self, pcm: Pcm) -> Pcm:
        """Return what is whole of the bytes so far; anything but bytes as it is."""
        if not isinstance(pcm, bytes | bytearray | memoryview):
            return pcm
        data = self._odd + bytes(pcm)
        whole = len(data) - len(data) % 2
        self._odd = data[whole:]
        return data[:whole]

    def clear(self) -> None:
        """Forget the byte that is left over."""
        self._odd = b""


def as_array(pcm: Pcm) -> PcmArray:
    """Return a copy of `pcm` as an array of its own type; `LocalError` for anything that is not PCM."""
    if isinstance(pcm, bytes | bytearray | memoryview):
        data = bytes(pcm)
        if len(data) % 2:
            raise LocalError("int16 samples take two bytes each: an odd number of bytes was given")
        return np.frombuffer(data, np.dtype("<i2")).astype(np.int16)
    if not isinstance(pcm, np.ndarray):
        raise LocalError(f"sound is a numpy array or bytes, not {type(pcm).__name__}")
    if pcm.ndim == 2 and pcm.shape[0] == 1:
        pcm = pcm.reshape(-1)  # one channel as torchaudio and soundfile's like have it, and not one sample of many
    if pcm.ndim not in (1, 2) or (pcm.ndim == 2 and not 1 <= pcm.shape[1] <= MAX_CHANNELS):
        raise LocalError(f"sound has the shape (samples,), (samples, channels) or (1, samples), not {pcm.shape}")
    if pcm.dtype not in (np.int16, np.float32, np.float64):
        raise LocalError(f"samples are int16 or float32, not {pcm.dtype}")
    return pcm.copy()


def check_sample_rate(rate: object) -> int:
    """Return the rate, in Hz, of sound that can be spoken; `LocalError` for anything else."""
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not LEAST_RATE <= rate <= MOST_RATE:
        raise LocalError(f"a sample rate is a whole number of Hz, {LEAST_RATE} to {MOST_RATE}: not {rate!r}")
    found = int(rate)
    if 48_000 // gcd(48_000, found) > MAX_PHASES:
        raise LocalError(f"{found} Hz is too odd a sample rate: take a usual one, as 16000, 22050, 24000 or 48000")
    return found


def to_int16(pcm: Pcm, channels: int = 1) -> Samples:
    """Return a copy of `pcm` as int16 with the wanted number of channels; floats are clipped at ±1.

    More channels than wanted are averaged, a single one is repeated. `LocalError` for anything that is not PCM.
    """
    array = as_array(pcm)
    if array.dtype != np.int16:
        # NaN is not sound: silence is the least bad of what it could become.
        scaled = np.nan_to_num(array.astype(np.float64), nan=0.0, posinf=1.0, neginf=-1.0) * 32767.0
        array = np.rint(np.clip(scaled, -32768, 32767))
    if array.ndim == 2 and array.shape[1] != channels:
        array = np.rint(array.mean(axis=1))
    samples = array.astype(np.int16)
    if channels == 1:
        return samples.reshape(-1)
    return samples if samples.ndim == 2 else np.repeat(samples[:, None], channels, axis=1)
