"""A hall: most of the echo comes after the end of the model, and looks see now this reflection, now that."""

from __future__ import annotations

import numpy as np
import pytest

from stack.voice.echo import EchoState, KalmanEchoCanceller
from stack.voice.echo_gate import BANDS, EchoGate, GateSettings
from stack.voice.echo_reverberation import Reverberation
from stack.voice.vad import VoiceFrame, level_dbfs
from tests.voice.test_echo import RATE, call, pcm, voice


def echo_in_a_hall(sent: np.ndarray, seed: int, delay: float = 0.1, fall_db: float = 0.15) -> np.ndarray:
    """Return the echo, 6 dB below what is sent: it falls by so much in 10 ms."""
    time = np.arange(round(1.4 * RATE))
    path = np.random.default_rng(seed).standard_normal(len(time)) * 10 ** (-fall_db * time / 160 / 20)
    path[[0, 28]] = 25.0, -22.0  # the direct sound, and the floor's reflection
    path *= 0.5 / np.sqrt(np.sum(path**2))
    size = 1 << (len(sent) + len(path)).bit_length()
    heard = np.fft.irfft(np.fft.rfft(sent, size) * np.fft.rfft(path, size), size)[: len(sent)]
    late = np.concatenate([np.zeros(round(delay * RATE)), heard])[: len(sent)]
    return late + np.random.default_rng(99).standard_normal(len(sent)) * 5


class TestHall:
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_beside_a_voice_an_echo_is_not_given_up(self, seed):
        sent, near = voice(16.0, seed), voice(16.0, seed + 20) * 2.0
        near[: 4 * RATE] = 0
        heard = echo_in_a_hall(sent, seed) + near
        canceller, states = KalmanEchoCanceller(), set()
        for at in range(0, len(heard), 320):
            canceller.render(pcm(sent[at : at + 320]), at / RATE)
            canceller.capture(pcm(heard[at : at + 320]), at / RATE)
            if at > 3 * RATE:
                states.add(canceller.report.state)
        assert states == {EchoState.PRESENT}

    def test_headphones_that_are_put_on_beside_a_voice_are_noticed(self):
        sent, near = voice(20.0, 1), voice(20.0, 21)
        near[: 4 * RATE] = 0
        heard = np.where(np.arange(len(sent)) < 8 * RATE, echo_in_a_hall(sent, 1), 0.0) + near
        canceller = KalmanEchoCanceller()
        call(canceller, sent, heard)
        assert canceller.report.state is EchoState.ABSENT

    @pytest.mark.parametrize("seed", [1, 2])
    def test_a_person_is_heard_and_we_are_not(self, seed):
        sent, near = voice(16.0, seed), voice(16.0, seed + 20)
        near[: 8 * RATE] = 0
        heard, verdicts = echo_in_a_hall(sent, seed) + near, []
        canceller = KalmanEchoCanceller()
        for at in range(0, len(heard), 320):
            canceller.render(pcm(sent[at : at + 320]), at / RATE)
            canceller.capture(pcm(heard[at : at + 320]), at / RATE)
            verdicts.append(canceller.judge(VoiceFrame(at / RATE, 0.02, 0.9, -20.0)).probability > 0)
        believed = np.array(verdicts)
        loud = np.array([level_dbfs(near[at : at + 320]) > -20 for at in range(0, len(near), 320)])
        assert believed[loud].mean() > 0.5
        assert believed[50:395].mean() < 0.01


class TestReverberation:
    @staticmethod
    def follow(fall_db: float, blocks: int = 500, seed: int = 3) -> tuple[Reverberation, float]:
        """Return what was made of a room that falls by so much in 10 ms, and how much is heard at last."""
        reverberation, rng, echo = Reverberation(BANDS), np.random.default_rng(seed), 0.0
        for block in range(blocks):
            sent = 1e9 * rng.uniform(0.1, 1.0) if block // 25 % 3 else 0.0
            echo = echo * 10 ** (-fall_db / 10) + 0.1 * sent
            heard = echo * rng.uniform(0.7, 1.4)
            reverberation.update([heard] * BANDS, [sent] * BANDS, [1e3] * BANDS, False)
        return reverberation, echo

    def test_a_hall_is_known_by_what_is_heard_following_all_that_was_sent(self):
        reverberation, echo = self.follow(0.15)
        assert reverberation.explains
        assert echo < reverberation.expected[0] < 2.0 * echo

    @pytest.mark.parametrize("fall_db", [1.0, 4.0])
    def test_a_room_is_none(self, fall_db):
        assert not self.follow(fall_db)[0].explains

    def test_nothing_is_said_before_it_is_known(self):
        assert not self.follow(0.15, blocks=150)[0].explains

    def test_what_may_be_a_person_teaches_little(self):
        reverberation, _ = self.follow(0.15)
        before = reverberation.expected[0]
        for _ in range(50):
            reverberation.update([1e12] * BANDS, [1e9] * BANDS, [1e3] * BANDS, True)
        level = reverberation.expected[0]
        for _ in range(50):
            reverberation.update([1e12] * BANDS, [1e9] * BANDS, [1e3] * BANDS, False)
        assert level < 4.0 * before < 2.0 * reverberation.expected[0]

    def test_another_room(self):
        reverberation, _ = self.follow(0.15)
        reverberation.restart()
        assert not reverberation.explains
        assert max(reverberation.expected) == 0.0


def test_the_gate_believes_a_person_who_is_louder_than_a_hall_and_no_echo():
    gate, rng, echo, shares = EchoGate(), np.random.default_rng(4), 0.0, []
    for block in range(1000):
        sent = 1e9 * rng.uniform(0.1, 1.0) if block // 25 % 3 else 0.0
        echo = echo * 10 ** (-0.15 / 10) + 0.1 * sent
        person = 8.0 * echo if block >= 960 else 0.0
        heard = echo * rng.uniform(0.7, 1.4) + person
        bands = [[power] * BANDS for power in (heard, heard, 0.3 * echo, sent, 1e3, 0.0)]
        shares.append(gate.update(block / 100, [bands], False, 0.97))
    assert max(shares[300:960]) < GateSettings().unexplained
    assert np.mean(np.array(shares[963:980]) > GateSettings().unexplained) > 0.8
