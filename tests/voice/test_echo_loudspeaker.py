import math

import numpy as np
import pytest

from stack.voice.echo import KalmanEchoCanceller
from stack.voice.echo_loudspeaker import LoudspeakerCurve, clipped
from tests.voice.test_echo import RATE, call, echo_of, erle, room, voice


def coil(sent: np.ndarray, hertz: float, force: tuple[float, float]) -> np.ndarray:
    """What a coil plays whose drive changes with its place: a mass on a spring, sample by sample."""
    angle = 2 * math.pi * hertz / RATE
    place = speed = 0.0
    out = np.zeros(len(sent), np.float32)
    for index, sample in enumerate(sent / 4096.0):
        speed += angle * angle * (float(sample) - place) - angle / 0.8 * speed
        place += speed
        out[index] = sent[index] * (1.0 + force[0] * place + force[1] * place * place)
    return out


def looked(curve: LoudspeakerCurve, played: np.ndarray, sent: np.ndarray, looks: int) -> list[float]:
    """Show a curve the true path of a loudspeaker that plays `played` for `sent`; return the factors."""
    path = np.zeros(2560, np.float32)
    path[:2400] = room(1)
    heard, factors = np.convolve(played, path), []
    for index in range(looks):
        begin = index * RATE
        end = begin + curve.MEMORY + len(path) + curve.WINDOW
        found = curve.consider(path, sent[begin:end], heard[end - curve.WINDOW : end].astype(np.float32))
        factors += [found] if found is not None else []
    return factors


class TestLoudspeakerCurve:
    def test_it_is_straight_at_first(self):
        curve, sent = LoudspeakerCurve(), voice(0.1, 1)
        assert curve.limit == math.inf
        assert curve.bend(sent) is sent

    def test_it_is_straight_below_its_limit_and_flat_above(self):
        bent = clipped(np.array([100.0, -100.0, 3e4, -3e4], np.float32), 4000.0)
        assert bent == pytest.approx([100.0, -100.0, 4000.0, -4000.0], rel=0.01)

    @pytest.mark.parametrize("limit", [4200.0, 7500.0])
    def test_it_finds_the_limit(self, limit):
        sent = voice(8.0, 1)
        curve = LoudspeakerCurve()
        factors = looked(curve, clipped(sent, limit), sent, 7)
        assert curve.limit == limit
        assert factors[-1] == pytest.approx(1.0, abs=0.05)
        curve.reset()
        assert curve.limit == math.inf

    def test_a_straight_loudspeaker_stays_straight(self):
        sent, curve = voice(8.0, 1), LoudspeakerCurve()
        assert looked(curve, sent, sent, 7) == []
        assert curve.limit == math.inf
        assert curve.memory == 0

    @pytest.mark.parametrize("hertz", [180.0, 300.0])
    def test_it_finds_a_coil_that_leaves_its_magnet(self, hertz):
        sent, curve = voice(8.0, 1), LoudspeakerCurve()
        played = coil(sent, hertz, (-0.3, -0.15))
        looked(curve, played, sent, 7)
        assert curve.memory == curve.MEMORY
        bent = curve.bend(sent)
        now, played = sent[curve.MEMORY :], played[curve.MEMORY :]
        straight = played - now * (played @ now / (now @ now))
        left = played - bent * (played @ bent / (bent @ bent))
        assert left @ left < 0.1 * (straight @ straight)
        curve.reset()
        assert curve.memory == 0
        assert curve.bend(sent) is sent

    def test_what_a_coil_makes_of_sound_does_not_depend_on_its_pieces(self):
        sent, curve = voice(8.0, 1), LoudspeakerCurve()
        looked(curve, coil(sent, 220.0, (-0.3, -0.15)), sent, 7)
        whole = curve.bend(sent[: curve.MEMORY + 480])
        pieces = [curve.bend(sent[at : at + curve.MEMORY + count]) for at, count in ((0, 160), (160, 320))]
        off = np.concatenate(pieces) - whole
        assert off @ off < 1e-4 * (whole @ whole)
        with_the_rest = whole - sent[curve.MEMORY : curve.MEMORY + 480]
        assert with_the_rest @ with_the_rest > 1e-3 * (whole @ whole)

    def test_a_coil_bends_no_more_than_it_can(self):
        sent, curve = voice(8.0, 1), LoudspeakerCurve()
        looked(curve, coil(sent, 220.0, (-0.3, -0.15)), sent, 7)
        loudest = np.full(curve.MEMORY + 160, 32767.0, np.float32)
        assert np.abs(curve.bend(loudest)).max() <= 1.8 * 32768

    def test_soft_sound_says_nothing(self):
        sent, curve = voice(8.0, 1), LoudspeakerCurve()
        soft = (sent * (3000 / np.abs(sent).max())).astype(np.float32)
        assert looked(curve, clipped(soft, 2300.0), soft, 7) == []

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


def test_a_loudspeaker_whose_coil_leaves_its_magnet_is_cancelled_better_than_by_a_line():
    sent = voice(14.0, 1)
    played = coil(sent, 250.0, (-0.3, -0.15))
    heard = echo_of(played, room(1), 0.05)
    left = call(KalmanEchoCanceller(), sent, heard)
    straight = played - sent * (played @ sent / (sent @ sent))
    by_a_line = 10 * np.log10((played @ played) / (straight @ straight))
    assert erle(heard, left, 8.0, 14.0) > by_a_line + 4.0
