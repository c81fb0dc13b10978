from __future__ import annotations

import numpy as np
import pytest

from stack.audio import ComfortNoise


def room(count, level=100.0, seed=1):
    """Noise that is stronger at low frequencies."""
    white = np.random.default_rng(seed).normal(0, 1, count + 8)
    coloured = np.convolve(white, np.ones(8) / np.sqrt(8), "valid")[:count]
    return (coloured * level).astype(np.int16)


def test_an_unknown_room_is_silent():
    assert not ComfortNoise(16_000).make(1000).any()


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_level_and_colour_are_those_of_the_room(rate):
    noise = ComfortNoise(rate)
    sound = room(rate * 2)
    frame = rate // 50
    for at in range(0, len(sound), frame):
        noise.learn(sound[at : at + frame])
    made = noise.make(rate * 2)
    assert 20 * np.log10(made.std() / sound.std()) == pytest.approx(0, abs=1.5)
    assert noise.level == pytest.approx(made.std(), rel=0.15)
    low, high = slice(10, 2000), slice(-4000, -10)
    original, copy = np.abs(np.fft.rfft(sound)), np.abs(np.fft.rfft(made))
    tilt = 20 * np.log10(original[low].mean() / original[high].mean())
    assert 20 * np.log10(copy[low].mean() / copy[high].mean()) == pytest.approx(tilt, abs=4.0)


def test_speech_does_not_count_as_the_room(voice):
    noise = ComfortNoise(16_000)
    quiet = room(16_000)
    for at in range(0, 16_000, 320):
        noise.learn(quiet[at : at + 320])
    before = noise.level
    for at in range(0, len(voice), 320):
        frame = voice[at : at + 320].astype(int) + quiet[at % 15_680 : at % 15_680 + 320]
        noise.learn(frame.astype(np.int16))
    assert noise.level < 2 * before


def test_a_loud_room_is_no_comfort():
    noise = ComfortNoise(16_000)
    for seed in range(20):
        noise.learn(room(320, 3000, seed))
    assert noise.level == 0


def test_pieces_join_and_short_frames_are_passed_over():
    whole, parts = ComfortNoise(16_000), ComfortNoise(16_000)
    for noise in (whole, parts):
        noise.learn(room(100))
        assert noise.level == 0
        noise.learn(room(320))
    joined = np.concatenate([parts.make(size) for size in (1, 7, 320, 500, 172)])
    assert np.allclose(joined, whole.make(1000))
