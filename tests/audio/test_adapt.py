from __future__ import annotations

import numpy as np
import pytest

from stack.audio import COMPLEXITIES, ComplexityByLoad, EncoderTuner, OpusEncoder, has_lbrr
from stack.audio.adapt import LOWER_AT, RAISE_AFTER, RAISE_AT, choose_complexity


def settings(encoder):
    return encoder.fec, encoder.bitrate, encoder.expected_loss


def test_without_loss_nothing_is_spent_on_it():
    encoder = OpusEncoder()
    tuner = EncoderTuner(encoder)
    for second in range(10):
        tuner.update(0.005, second)
    assert settings(encoder) == (False, 24_000, 0)


def test_loss_switches_fec_on_at_once_and_off_slowly():
    encoder = OpusEncoder()
    tuner = EncoderTuner(encoder)
    tuner.update(0.08, 1.0)
    assert settings(encoder) == (True, 32_000, 10)
    tuner.update(0.0, 6.0)
    assert settings(encoder) == (True, 32_000, 10)
    for second in range(7, 60):
        tuner.update(0.0, float(second))
    assert settings(encoder) == (False, 24_000, 0)


def test_loss_near_the_threshold_does_not_flicker():
    encoder = OpusEncoder()
    tuner = EncoderTuner(encoder)
    seen = []
    for second in range(100):
        tuner.update(0.025 if second % 2 else 0.015, float(second))
        seen.append(encoder.fec)
    assert seen[0] is False
    assert all(seen[1:])


def test_where_there_is_redundancy_fec_stays_off():
    encoder = OpusEncoder()
    tuner = EncoderTuner(encoder, redundancy=True)
    tuner.update(0.3, 1.0)
    assert settings(encoder) == (False, 24_000, 0)
    tuner.redundancy = False
    tuner.update(0.3, 2.0)
    assert settings(encoder) == (True, 32_000, 20)


def test_the_copies_are_really_sent(voice, frames_of):
    encoder = OpusEncoder(16_000)
    frames = frames_of(voice, 320)
    assert not any(has_lbrr(encoder.encode(frame)) for frame in frames)
    EncoderTuner(encoder).update(0.03, 1.0)
    assert np.mean([has_lbrr(encoder.encode(frame)) for frame in frames]) > 0.3


@pytest.mark.parametrize("present", COMPLEXITIES)
def test_complexity_moves_by_one_step_within_its_bounds(present):
    step = COMPLEXITIES.index(present)
    assert choose_complexity(LOWER_AT, present) == COMPLEXITIES[min(step + 1, len(COMPLEXITIES) - 1)]
    assert choose_complexity(1.0, present) == COMPLEXITIES[min(step + 1, len(COMPLEXITIES) - 1)]
    assert choose_complexity(0.0, present) == COMPLEXITIES[max(step - 1, 0)]
    for load in (RAISE_AT, (RAISE_AT + LOWER_AT) / 2, LOWER_AT - 0.001):
        assert choose_complexity(load, present) == present


def test_less_is_spent_at_once_and_more_after_a_while():
    follower = ComplexityByLoad()
    assert follower.complexity == 5
    assert [follower.update(0.9) for _ in range(4)] == [2, 0, 0, 0]
    assert [follower.update(0.1) for _ in range(RAISE_AFTER - 1)] == [0] * (RAISE_AFTER - 1)
    assert follower.update(0.5) == 0  # neither: the patience begins anew
    assert [follower.update(0.1) for _ in range(2 * RAISE_AFTER)] == [0] * 4 + [2] * 5 + [5]


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_what_a_step_saves_does_not_bring_it_back(share):
    """`share` of the load at complexity 5 is the encoder's; the costs are those of `docs/audio.md`."""
    cost = {5: 1.0, 2: 0.7, 0: 0.48}
    for percent in range(100):
        follower, chosen = ComplexityByLoad(), []
        for _ in range(60):
            load = percent / 100 * (1 - share + share * cost[follower.complexity])
            chosen.append(follower.update(load))
        assert len(set(chosen[-30:])) == 1, f"it swings at a load of {percent} %"
