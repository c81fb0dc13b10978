from __future__ import annotations

import numpy as np

from stack.audio import Concealer


def tone(count, rate=16_000, frequency=200.0, level=8000):
    return (level * np.sin(2 * np.pi * frequency * np.arange(count) / rate)).astype(np.int16)


def test_frames_pass_unchanged_while_nothing_is_missing():
    concealer, sound = Concealer(16_000), tone(3200)
    for at in range(0, 3200, 320):
        assert np.array_equal(concealer.accept(sound[at : at + 320]), sound[at : at + 320])


def test_a_tone_goes_on_without_a_step_and_comes_back_without_one():
    concealer, sound = Concealer(16_000), tone(6400)
    out = [concealer.accept(sound[:3200]), concealer.conceal(320), concealer.accept(sound[3520:])]
    joined = np.concatenate(out).astype(int)
    assert np.abs(np.diff(joined)).max() <= 1.3 * np.abs(np.diff(sound.astype(int))).max()
    missing = joined[3200:3360]  # the first 10 ms, before the fade
    assert np.corrcoef(missing, sound[3200:3360])[0, 1] > 0.97


def test_a_long_hole_becomes_silent():
    concealer = Concealer(8_000)
    concealer.accept(tone(1600, 8_000))
    made_up = [concealer.conceal(160) for _ in range(5)]
    levels = [int(np.abs(part).max()) for part in made_up]
    assert levels[0] > 6000
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == 0


def test_before_anything_was_heard_there_is_silence():
    assert not Concealer(16_000).conceal(320).any()


def test_noise_does_not_turn_into_a_tone():
    random = np.random.default_rng(5)
    concealer = Concealer(16_000)
    concealer.accept(random.normal(0, 1000, 3200).astype(np.int16))
    made_up = concealer.conceal(320).astype(float)
    spectrum = np.abs(np.fft.rfft(made_up[:240])) ** 2
    assert spectrum.max() < 0.3 * spectrum.sum()


def test_no_frame_and_odd_lengths():
    concealer = Concealer(16_000)
    concealer.accept(tone(800))
    assert concealer.conceal(7).shape == (7,)
    assert concealer.accept(np.empty(0, np.int16)).shape == (0,)
    assert concealer.accept(tone(3)).shape == (3,)
