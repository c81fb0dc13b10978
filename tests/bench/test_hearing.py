"""The comparison of detectors: what it counts, and what it says of recordings that it cannot use."""

import wave
from pathlib import Path

import numpy as np
import pytest

from bench import hearing
from bench._noises import NO_VOICE
from bench.report import Options
from stack.core.errors import LocalError

RATE = 16_000


def recording(folder: Path, name: str, samples: np.ndarray, rate: int = RATE) -> Path:
    path = folder / f"{name}.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def test_the_area_under_the_curve():
    speech = np.array([True, True, False, False])
    assert hearing.area(np.array([0.9, 0.8, 0.2, 0.1]), speech) == 1.0
    assert hearing.area(np.array([0.1, 0.2, 0.8, 0.9]), speech) == 0.0
    assert hearing.area(np.array([0.5, 0.5, 0.5, 0.5]), speech) == 0.5
    assert np.isnan(hearing.area(np.ones(4), np.ones(4, bool)))


def test_labels_of_both_kinds_are_read(tmp_path):
    recording(tmp_path, "a", np.zeros(RATE))
    (tmp_path / "a.txt").write_text("0.25\t0.75\tHello\n")
    recording(tmp_path, "b", np.zeros(RATE))
    (tmp_path / "b.scv").write_text("b,0.0,0.5,0,0.5,1.0,1")
    recording(tmp_path, "c", np.zeros(RATE))
    (tmp_path / "c.txt").write_text("")
    recording(tmp_path, "not-labelled", np.zeros(RATE))
    first, second, third = hearing.labelled(tmp_path)
    assert (np.flatnonzero(first.speech)[[0, -1]] == [25, 74]).all()
    assert (np.flatnonzero(second.speech)[[0, -1]] == [50, 99]).all()
    assert not third.speech.any()
    assert second.onsets == [0.5]


@pytest.mark.parametrize("labels", ["no numbers here", "1.0"])
def test_what_is_no_label_is_named(tmp_path, labels):
    recording(tmp_path, "a", np.zeros(RATE))
    (tmp_path / "a.txt").write_text(labels)
    with pytest.raises(LocalError, match=r"a\.txt is no file of labels"):
        hearing.labelled(tmp_path)


def test_recordings_of_another_kind_are_named(tmp_path):
    with pytest.raises(LocalError, match=r"has no NAME\.wav"):
        hearing.labelled(tmp_path)
    recording(tmp_path, "a", np.zeros(8000), 8000)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(LocalError, match="not 16 bit, 16 kHz, mono"):
        hearing.labelled(tmp_path)


@pytest.mark.parametrize("name", NO_VOICE)
def test_noises_come_from_the_seed(name):
    first, again = (NO_VOICE[name](np.random.default_rng(3), 4.0) for _ in range(2))
    assert (first == again).all()
    assert np.isfinite(first).all()
    assert len(first) == pytest.approx(4 * RATE, abs=RATE / 100)
    assert np.std(first) > 100


def test_a_folder_without_speech_is_listened_to_as_such(tmp_path):
    recording(tmp_path, "hum", 1000 * np.sin(2 * np.pi * 50 * np.arange(2 * RATE) / RATE))
    (tmp_path / "hum.txt").write_text("")
    speech, silence = hearing.run(Options(scale=0.05, data=str(tmp_path)))
    assert not speech.rows
    assert [row[0] for row in silence.rows[-2:]] == ["recordings without speech"] * 2
    assert "ours: starts a minute" in silence.columns
