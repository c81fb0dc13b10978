from __future__ import annotations

import numpy as np
import pytest

from stack.audio import accelerate, expand


def tone(count, rate, frequency=150.0, level=8000):
    return (level * np.sin(2 * np.pi * frequency * np.arange(count) / rate)).astype(np.int16)


def steepest(samples):
    return int(np.abs(np.diff(samples.astype(int))).max())


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("frequency", [80.0, 150.0, 317.0])
@pytest.mark.parametrize("change", [accelerate, expand])
def test_a_whole_number_of_periods_goes_and_nothing_clicks(rate, frequency, change):
    sound = tone(rate * 40 // 1000, rate, frequency)
    changed = change(sound, rate)
    periods = abs(len(changed) - len(sound)) * frequency / rate
    assert periods == pytest.approx(round(periods), abs=0.03)
    assert 1 <= round(periods) <= 5
    assert (len(changed) < len(sound)) == (change is accelerate)
    assert steepest(changed) <= 1.1 * steepest(sound)
    ends = rate // 1000 * 5
    assert np.array_equal(changed[-ends:], sound[-ends:])
    assert abs(int(changed[0]) - int(sound[0])) < 300


@pytest.mark.parametrize("change", [accelerate, expand])
def test_what_is_not_like_itself_is_left_alone(change):
    noise = np.random.default_rng(2).normal(0, 3000, 640).astype(np.int16)
    assert np.array_equal(change(noise, 16_000), noise)
    chirp = (8000 * np.sin(2 * np.pi * np.cumsum(np.linspace(100, 7000, 640)) / 16_000)).astype(np.int16)
    assert np.array_equal(change(chirp, 16_000), chirp)


@pytest.mark.parametrize("change", [accelerate, expand])
def test_quiet_sound_may_be_cut_anywhere(change):
    hiss = np.random.default_rng(2).normal(0, 20, 640).astype(np.int16)
    assert 40 <= abs(len(change(hiss, 16_000)) - 640) <= 240
    assert len(change(np.zeros(640, np.int16), 16_000)) != 640


def test_in_a_hurry_there_is_no_choosing():
    noise = np.random.default_rng(2).normal(0, 3000, 640).astype(np.int16)
    assert len(accelerate(noise, 16_000, anywhere=True)) < 640


def test_as_much_is_kept_as_is_asked_for():
    sound = tone(480, 16_000, 100.0)
    assert len(accelerate(sound, 16_000, keep=320)) == 320
    assert len(accelerate(sound, 16_000, keep=470)) == 480


@pytest.mark.parametrize("count", [0, 1, 39, 160, 200])
def test_too_little_to_work_on(count):
    sound = tone(count, 16_000)
    assert np.array_equal(accelerate(sound, 16_000), sound)
    assert np.array_equal(expand(sound, 16_000), sound)


@pytest.mark.parametrize("change", [accelerate, expand])
def test_speech_keeps_its_pitch_and_loudness(voice, change):
    """Stretched again and again, the spectrum stays where it is."""
    parts = [change(voice[at : at + 640], 16_000) for at in range(0, len(voice) - 640, 640)]
    stretched = np.concatenate(parts)
    assert abs(len(stretched) / len(voice) - 1) > 0.05

    def bands(sound):
        frames = sound[: len(sound) // 512 * 512].reshape(-1, 512) * np.hanning(512)
        return (np.abs(np.fft.rfft(frames, axis=1)) ** 2).mean(axis=0)[2:120].reshape(-1, 2).mean(axis=1)

    before, after = 10 * np.log10(bands(voice)), 10 * np.log10(bands(stretched))
    loud = before > before.max() - 30
    assert np.abs(before - after)[loud].max() < 3.0
