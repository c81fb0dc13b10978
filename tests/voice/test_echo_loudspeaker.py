import math

import numpy as np
import pytest

from stack.voice.echo import KalmanEchoCanceller
from stack.voice.echo_loudspeaker import LoudspeakerCurve
from tests.voice.test_echo import RATE, call, echo_of, erle, room, voice


def looked(curve: LoudspeakerCurve, played: np.ndarray, sent: np.ndarray, looks: int) -> list[float]:
    """Show a curve the true path of a loudspeaker that plays `played` for `sent`; return the factors."""
    path = np.zeros(2560, np.float32)
    path[:2400] = room(1)
    heard, factors = np.convolve(played, path), []
    for index in range(looks):
        begin = index * RATE
        end = begin + len(path) + curve.WINDOW
        found = curve.consider(path, sent[begin:end], heard[end - curve.WINDOW : end].astype(np.float32))
        factors += [found] if found is not None else []
    return factors


class TestLoudspeakerCurve:
    def test_it_is_straight_at_first(self):
        curve, sent = LoudspeakerCurve(), voice(0.1, 1)
        assert curve.limit == math.inf
        assert curve.bend(sent) is sent

    def test_it_is_straight_below_its_limit_and_flat_above(self):
        bent = LoudspeakerCurve().bend(np.array([100.0, -100.0, 3e4, -3e4], np.float32), 4000.0)
        assert bent == pytest.approx([100.0, -100.0, 4000.0, -4000.0], rel=0.01)

    @pytest.mark.parametrize("limit", [4200.0, 7500.0])
    def test_it_finds_the_limit(self, limit):
        sent = voice(8.0, 1)
        curve = LoudspeakerCurve()
        factors = looked(curve, curve.bend(sent, limit), sent, 7)
        assert curve.limit == limit
        assert factors[-1] == pytest.approx(1.0, abs=0.05)
        curve.reset()
        assert curve.limit == math.inf

    def test_a_straight_loudspeaker_stays_straight(self):
        sent, curve = voice(8.0, 1), LoudspeakerCurve()
        assert looked(curve, sent, sent, 7) == []
        assert curve.limit == math.inf

    def test_soft_sound_says_nothing(self):
        sent, curve = voice(8.0, 1), LoudspeakerCurve()
        soft = (sent * (3000 / np.abs(sent).max())).astype(np.float32)
        assert looked(curve, curve.bend(soft, 2300.0), soft, 7) == []

    def test_once_settled_it_is_seldom_due(self):
        sent, curve = voice(8.0, 1), LoudspeakerCurve()
        assert all(curve.due for _ in range(5))
        looked(curve, sent, sent, 7)
        assert sum(curve.due for _ in range(32)) == 4


def test_a_loudspeaker_that_clips_is_cancelled_nearly_as_well_as_another():
    sent = voice(14.0, 1)
    heard = echo_of(np.clip(sent, -4000, 4000), room(1), 0.05)
    left = call(KalmanEchoCanceller(), sent, heard)
    assert erle(heard, left, 8.0, 14.0) > 15.0
