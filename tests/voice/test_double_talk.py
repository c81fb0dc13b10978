"""Double talk: who is heard over an echo that has been taken off, and what is never asked."""

from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pytest

from stack.core.errors import LocalError
from stack.voice.double_talk import DoubleTalkDetector, DoubleTalkWeights, learnt_weights
from stack.voice.echo import KalmanEchoCanceller
from stack.voice.echo_gate import BANDS, EchoGate, GateSettings
from stack.voice.vad import VoiceFrame
from tests.voice.test_echo import RATE, echo_of, pcm, room, voice

PACKET = 320
RULES = GateSettings(near_end_odds=None)


class Sure(DoubleTalkDetector):
    """Always says the same."""

    def __init__(self, odds: float) -> None:
        super().__init__(BANDS)
        self.odds, self.asked = odds, 0

    def update(self, *_: object) -> float:
        self.asked += 1
        self._age += 1
        self._unchanged += 1
        return self.odds


def believed(canceller: KalmanEchoCanceller, sent: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """Say of each packet whether a voice in it would be believed."""
    found = []
    for at in range(0, len(sent) - PACKET + 1, PACKET):
        canceller.render(pcm(sent[at : at + PACKET]), at / RATE)
        canceller.capture(pcm(heard[at : at + PACKET]), at / RATE)
        found.append(canceller.judge(VoiceFrame(at / RATE, PACKET / RATE, 1.0, -20.0)).probability > 0.0)
    return np.array(found)


def loud(near: np.ndarray, threshold: float) -> np.ndarray:
    return np.asarray(np.sqrt((near.reshape(-1, PACKET) ** 2).mean(axis=1)) > threshold)


class TestOverAnEcho:
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_a_soft_person_is_believed_where_the_rules_wait(self, seed):
        sent, near = voice(12.0, seed), 0.2 * voice(12.0, seed + 20)
        near[: 8 * RATE] = 0.0
        heard = echo_of(sent, room(seed)) + near
        speaks = loud(near, 300.0)
        shares = [believed(KalmanEchoCanceller(gate=gate), sent, heard)[speaks].mean() for gate in (None, RULES)]
        assert shares[0] > 0.4
        assert shares[0] > shares[1] + 0.3

    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_an_echo_alone_is_no_person(self, seed):
        sent = voice(12.0, seed)
        assert not believed(KalmanEchoCanceller(), sent, echo_of(sent, room(seed)))[100:].any()

    def test_what_it_says_does_not_depend_on_a_call_before(self):
        sent, near = voice(8.0, 1), 0.3 * voice(8.0, 21)
        heard = echo_of(sent, room(1)) + near
        canceller = KalmanEchoCanceller()
        first = believed(canceller, sent, heard)
        canceller.reset()
        again = []
        for at in range(0, len(sent), PACKET):
            later = at / RATE + 20.0
            canceller.render(pcm(sent[at : at + PACKET]), later)
            canceller.capture(pcm(heard[at : at + PACKET]), later)
            again.append(canceller.judge(VoiceFrame(later, PACKET / RATE, 1.0, -20.0)).probability > 0.0)
        assert np.mean(first[150:] == again[150:]) > 0.97


class TestLongCalls:
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_a_voice_in_our_silence_is_not_in_the_next_reply(self, seed):
        sent, near = voice(12.0, seed), voice(12.0, seed + 20)
        sent[6 * RATE : 8 * RATE] = 0.0
        near[: 6 * RATE + 8000] = near[8 * RATE - 3200 :] = 0.0
        said = believed(KalmanEchoCanceller(), sent, echo_of(sent, room(seed)) + near)
        assert not said[8 * 50 : 8 * 50 + 15].any()

    def test_a_path_grows_no_older_than_those_that_were_learnt_from(self):
        detector, rng = DoubleTalkDetector(BANDS), np.random.default_rng(1)
        some = [list(10 ** rng.uniform(4.0, 8.0, BANDS)) for _ in range(13)]
        shown = []
        for packet in range(1500):
            detector.update(some[:3], some[3], some[4:], (10.0, 20.0, 0.8, 0.2), False, False)
            if packet in (1100, 1499):
                shown.append(detector.input.copy())
        assert np.array_equal(*shown)


class TestWhereTheRulesDecide:
    @staticmethod
    def verdict(gate: EchoGate, share_taken: float, blocks: int = 400, left_at_last: float = 0.0) -> bool:
        """Feed an echo of which that share is taken off; say whether a frame at its end would be believed.

        `left_at_last`: what is left besides in the last 20 ms.
        """
        rng = np.random.default_rng(1)
        for block in range(blocks):
            sent = 1e9 * rng.uniform(0.1, 1.0)
            left = sent * (1.0 - share_taken) + (left_at_last if block >= blocks - 2 else 0.0)
            bands = [[power] * BANDS for power in (sent, left, sent * share_taken, sent, 1e3, 0.0)]
            gate.update(block / 100, [bands], False)
        return gate.judge(VoiceFrame(blocks / 100 - 0.02, 0.02, 1.0, -20.0)).probability > 0.0

    def test_it_decides_once_the_echo_has_been_taken_off(self):
        assert self.verdict(EchoGate(double_talk=Sure(100.0)), 0.99)
        assert not self.verdict(EchoGate(double_talk=Sure(-100.0)), 0.99)
        assert self.verdict(EchoGate(GateSettings(near_end_odds=-101.0, unhinted_odds=0.0), Sure(-100.0)), 0.99)

    def test_more_is_asked_where_the_rules_find_nothing_at_all(self):
        settings = GateSettings(near_end_odds=2.0, unhinted_odds=4.0)
        assert not self.verdict(EchoGate(settings, Sure(5.0)), 0.99)
        assert self.verdict(EchoGate(settings, Sure(7.0)), 0.99)
        assert self.verdict(EchoGate(settings, Sure(5.0)), 0.99, left_at_last=1e9)

    def test_more_is_asked_in_the_first_seconds_of_a_path(self):
        settings = GateSettings(near_end_odds=2.0, unhinted_odds=0.0, young_odds=4.0)
        assert [self.verdict(EchoGate(settings, Sure(5.0)), 0.99, blocks) for blocks in (200, 400)] == [
            False,
            True,
        ]
        assert self.verdict(EchoGate(settings, Sure(7.0)), 0.99, blocks=200)

    def test_more_is_asked_where_the_path_has_just_changed(self):
        settings = GateSettings(near_end_odds=2.0, unhinted_odds=0.0, young_odds=4.0)

        def verdict(since: int, odds: float = 5.0) -> bool:
            gate = EchoGate(settings, Sure(odds))
            assert self.verdict(gate, 0.99)
            bands = [[power] * BANDS for power in (1e9, 1e7, 1e9, 1e9, 1e3, 0.0)]
            for block in range(400, 400 + since):
                gate.update(block / 100, [bands], block == 400)
            return gate.judge(VoiceFrame(4.0 + (since - 2) / 100, 0.02, 1.0, -20.0)).probability > 0.0

        assert [verdict(since) for since in (10, 40)] == [False, True]
        assert verdict(10, odds=7.0)

    def test_the_detector_is_told_that_the_path_became_another_one(self):
        bands = [[power] * BANDS for power in (1e9, 1e7, 1e9, 1e9, 1e3, 0.0)]

        def shown(changed: bool) -> np.ndarray:
            detector = DoubleTalkDetector(BANDS)
            gate = EchoGate(double_talk=detector)
            for block in range(400):
                gate.update(block / 100, [bands], changed and block == 395)
            assert detector.age == 400  # what is usually left of the echo is still known
            return detector.input[: detector.measured].copy()

        usual, after = shown(False), shown(True)
        assert usual[-5] - after[-5] == pytest.approx(
            np.log10(401 / 6), abs=1e-3
        )  # since when the path is this one

    def test_it_does_not_where_little_is_taken_off_or_nothing_is_known_yet(self):
        assert not self.verdict(EchoGate(double_talk=Sure(100.0)), 0.5)
        assert not self.verdict(EchoGate(double_talk=Sure(100.0)), 0.99, blocks=15)

    def test_it_is_not_asked_if_the_rules_are_to_decide_alone(self):
        detector = Sure(100.0)
        assert not self.verdict(EchoGate(RULES, detector), 0.99)
        assert not detector.asked


class TestRestart:
    @staticmethod
    def feed(gate: EchoGate, loud: float, seed: int, blocks: int = 100) -> list[float]:
        rng, shares = np.random.default_rng(seed), []
        for block in range(blocks):
            echo = loud * rng.uniform(0.1, 1.0, BANDS)
            left, new = 0.02 * echo * rng.uniform(0.5, 2.0, BANDS), 0.1 * echo
            bands = [each.tolist() for each in (echo + left, left, echo, 2.0 * echo, 0.01 * echo, new)]
            shares.append(gate.update(block / 100, [bands], block == blocks - 1))
        return shares

    def test_nothing_is_left_of_what_was_before(self):
        detectors = DoubleTalkDetector(BANDS), DoubleTalkDetector(BANDS)
        used, new = (EchoGate(double_talk=each) for each in detectors)
        self.feed(used, 1e11, 1)
        used.restart()
        for packet in range(50):
            assert self.feed(used, 1e9, packet, 2) == self.feed(new, 1e9, packet, 2)
            assert np.array_equal(detectors[0].input, detectors[1].input)


class TestWeights:
    def test_those_that_come_with_it_fit_the_detector(self):
        weights = learnt_weights()
        assert weights.inputs == 2 * DoubleTalkDetector(BANDS).measured == len(weights.scale)
        assert weights.hidden.shape == (weights.inputs, len(weights.output))
        assert np.abs(weights.output).max() > 0.1

    def test_they_do_not_fit_another_number_of_bands(self):
        with pytest.raises(LocalError, match="8 bands"):
            DoubleTalkDetector(BANDS - 1)

    @pytest.mark.parametrize("name", DoubleTalkWeights.__slots__)
    def test_what_does_not_fit_the_others_is_said_before_a_call(self, name):
        weights = learnt_weights()
        more = np.append(getattr(weights, name), np.float32(0))  # one number more, and of `hidden` one row of all
        with pytest.raises(LocalError, match="shape"):
            DoubleTalkDetector(BANDS, replace(weights, **{name: more}))

    def test_a_file_is_read_as_it_was_written(self, tmp_path):
        weights = learnt_weights()
        weights.save(tmp_path / "w.npz")
        again = DoubleTalkWeights.load(tmp_path / "w.npz")
        assert all(
            np.array_equal(getattr(weights, name), getattr(again, name)) for name in DoubleTalkWeights.__slots__
        )

    @pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04"])
    def test_what_is_no_file_of_weights_is_an_error(self, tmp_path: Path, content):
        (tmp_path / "w.npz").write_bytes(content)
        with pytest.raises((OSError, EOFError, ValueError, BadZipFile)):
            DoubleTalkWeights.load(tmp_path / "w.npz")
