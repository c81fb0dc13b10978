from __future__ import annotations

import wave

import numpy as np
import pytest

from stack.audio import read_wav, write_wav
from stack.core.errors import LocalError


@pytest.mark.parametrize("shape", [(1000,), (1000, 2), (0,)])
@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_what_is_written_is_read(tmp_path, shape, rate):
    samples = np.random.default_rng(1).integers(-32768, 32767, shape).astype(np.int16)
    write_wav(tmp_path / "a.wav", samples, rate)
    again, found = read_wav(tmp_path / "a.wav")
    assert found == rate
    assert np.array_equal(again, samples)


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(LocalError, match=r"none\.wav: No such file"):
        read_wav(tmp_path / "none.wav")
    with pytest.raises(LocalError):
        read_wav(tmp_path)
    (tmp_path / "text.wav").write_text("not a wave file at all")
    with pytest.raises(LocalError, match=r"text\.wav: not a WAV"):
        read_wav(tmp_path / "text.wav")
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(LocalError, match="ends too early"):
        read_wav(tmp_path / "empty.wav")
    with wave.open(str(tmp_path / "eight.wav"), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(1)
        writer.setframerate(8000)
        writer.writeframes(bytes(100))
    with pytest.raises(LocalError, match="8-bit"):
        read_wav(tmp_path / "eight.wav")


def test_unwritable_files_and_wrong_samples(tmp_path):
    with pytest.raises(LocalError, match="No such file"):
        write_wav(tmp_path / "no" / "a.wav", np.zeros(3, np.int16), 8000)
    with pytest.raises(LocalError, match="float64"):
        write_wav(tmp_path / "a.wav", np.zeros(3), 8000)  # type: ignore[arg-type]


def test_a_truncated_file_gives_what_there_is(tmp_path):
    write_wav(tmp_path / "a.wav", np.arange(100, dtype=np.int16), 8000)
    data = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "b.wav").write_bytes(data[:-51])
    samples, _ = read_wav(tmp_path / "b.wav")
    assert samples.tolist() == list(range(74))
