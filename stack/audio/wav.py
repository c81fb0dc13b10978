"""WAV files of 16-bit PCM, read and written whole. Other encodings inside a WAV file are refused."""

from __future__ import annotations

import wave
from os import PathLike
from typing import TypeAlias

import numpy as np

from stack.audio.codec import Samples
from stack.core.errors import LocalError

FilePath: TypeAlias = "str | PathLike[str]"


def read_wav(path: FilePath) -> tuple[Samples, int]:
    """Return the samples, of shape (n,) or (n, channels), and their rate in Hz.

    `LocalError` says in one line why a file cannot be read.
    """
    try:
        with open(path, "rb") as file, wave.open(file, "rb") as reader:
            if reader.getsampwidth() != 2:
                raise LocalError(f"{path}: {8 * reader.getsampwidth()}-bit samples; only 16-bit PCM is read")
            channels, rate = reader.getnchannels(), reader.getframerate()
            data = reader.readframes(reader.getnframes())
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror or error}") from error
    except (wave.Error, EOFError) as error:
        raise LocalError(f"{path}: not a WAV file of 16-bit PCM ({str(error) or 'it ends too early'})") from error
    samples = np.frombuffer(data[: len(data) - len(data) % (2 * channels)], np.dtype("<i2")).astype(np.int16)
    return (samples if channels == 1 else samples.reshape(-1, channels)), rate


def write_wav(path: FilePath, samples: Samples, sample_rate: int) -> None:
    """Write int16 `samples` of shape (n,) or (n, channels); `LocalError` if the file cannot be written."""
    if samples.dtype != np.int16 or samples.ndim not in (1, 2):
        raise LocalError(
            f"a WAV file takes int16 of shape (n,) or (n, channels), not {samples.dtype}{samples.shape}"
        )
    try:
        with open(path, "wb") as file, wave.open(file, "wb") as writer:
            writer.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
            writer.setsampwidth(2)
            writer.setframerate(sample_rate)
            writer.writeframes(samples.astype("<i2").tobytes())
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror or error}") from error
