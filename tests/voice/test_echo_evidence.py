import numpy as np
import pytest

from stack.voice.echo import EchoState, KalmanEchoCanceller
from stack.voice.echo_evidence import LagEvidence, Trial
from stack.voice.vad import VoiceFrame
from tests.voice.test_echo import RATE, call, echo_of, erle, pcm, room, voice

LAGS, WINDOW = 8192, 8192


def look(lag: int, seed: int, height: float = 9.0) -> np.ndarray:
    """A correlation with a peak that is hardly higher than chance makes one."""
    correlation = np.abs(np.random.default_rng(seed).standard_normal(LAGS)).astype(np.float32)
    correlation[lag] = height
    return correlation


def chords(seconds: float, seed: int) -> np.ndarray:
    """Music for a correlation: three tones at a time, another chord each half second, about -20 dBFS."""
    rng, time = np.random.default_rng(seed), np.arange(round(seconds * RATE)) / RATE
    out = np.zeros(len(time))
    for at in np.arange(0.0, seconds, 0.5):
        since = time - at
        fading = np.exp(-3 * np.maximum(since, 0.0)) * np.clip(since / 0.01, 0.0, 1.0)
        for pitch in 150 * 2 ** (rng.choice(36, 3, replace=False) / 12):
            out += sum(np.sin(2 * np.pi * k * pitch * since) / k for k in (1, 2, 3)) * fading
    return (out * 3000 / np.sqrt(np.mean(out**2))).astype(np.float32)


def hall(seed: int) -> np.ndarray:
    """A room across which the loudspeaker stands: reverberation, and little else."""
    time = np.arange(6400)
    path = np.random.default_rng(seed).standard_normal(6400) * 10 ** (-3 * time / (0.5 * RATE))
    return path * 0.5 / np.sqrt(np.sum(path**2))


class TestLagEvidence:
    def test_peaks_that_agree_name_a_candidate(self):
        evidence = LagEvidence(LAGS, WINDOW)
        for index, lag in enumerate((2300, 2680, 6000, 2450)):
            evidence.add(look(lag, index), index * WINDOW)
        assert evidence.suspected
        assert 2200 < evidence.candidate < 2800

    def test_peaks_that_do_not_agree_say_nothing(self):
        evidence = LagEvidence(LAGS, WINDOW)
        for index, lag in enumerate((300, 5000, 2600, 7800)):
            evidence.add(look(lag, index), index * WINDOW)
        assert not evidence.suspected

    def test_what_was_seen_twice_counts_once(self):
        evidence = LagEvidence(LAGS, WINDOW)
        for index in range(4):
            evidence.add(look(2300, 1), index * WINDOW // 8)
        assert not evidence.suspected
        evidence.add(look(2300, 2), WINDOW)
        assert evidence.suspected
        evidence.reset()
        assert not evidence.suspected


class TestTrial:
    def test_what_is_taken_off_decides(self):
        assert [Trial().update(10.0) for _ in range(2)] == [None, None]
        for erle_db, blocks, verdict in ((4.0, 50, True), (0.1, 50, False), (1.5, 100, False)):
            trial = Trial()
            assert [trial.update(erle_db) for _ in range(blocks)] == [None] * (blocks - 1) + [verdict]


class TestMusicFromALoudspeaker:
    @pytest.mark.parametrize("seed", [1, 2])
    def test_it_is_found_and_cancelled(self, seed):
        sent = chords(14.0, seed)
        heard = echo_of(sent, hall(seed), 0.1)
        canceller = KalmanEchoCanceller()
        left = call(canceller, sent, heard)
        assert canceller.report.state is EchoState.PRESENT
        assert erle(heard, left, 8.0, 14.0) > 6.0

    @pytest.mark.parametrize(("path", "seed"), [(room, 2), (room, 6), (hall, 7)])
    def test_a_note_that_was_not_played_before_is_no_person(self, path, seed):
        """The bins around it were taught by other notes, and nothing of it is predicted."""
        sent = chords(8.0, seed)
        heard, canceller, believed = echo_of(sent, path(seed), 0.1), KalmanEchoCanceller(), []
        for at in range(0, len(heard), 320):
            canceller.render(pcm(sent[at : at + 320]), at / RATE)
            canceller.capture(pcm(heard[at : at + 320]), at / RATE)
            frame = canceller.judge(VoiceFrame(at / RATE, 0.02, 0.9, -20.0))
            believed.append(frame.probability > 0)
        assert canceller.report.state is EchoState.PRESENT
        assert sum(believed) <= 1

    def test_music_of_others_is_no_echo(self):
        sent, other = chords(14.0, 1), chords(14.0, 7)
        canceller = KalmanEchoCanceller()
        left = call(canceller, sent, other)
        assert canceller.report.state is EchoState.ABSENT
        assert (left[:-160] == pcm(other)[:-160]).all()

    @pytest.mark.parametrize("seed", range(3, 9))
    def test_a_lag_far_from_the_trial_begins_anew(self, seed):
        """The trial was at the wrong place, and the right one is farther away than the model is long.

        In one hall of fourteen (2) another trial at a wrong place comes between, and it takes 10 s.
        """
        sent = np.concatenate([chords(6.0, 1), voice(12.0, 1)])
        early, late = echo_of(sent, hall(1), 0.02), echo_of(sent, hall(seed), 0.42)
        heard = np.where(np.arange(len(sent)) < 6 * RATE, early, late)
        canceller = KalmanEchoCanceller()
        left = call(canceller, sent, heard)
        assert erle(heard, left, 12.0, 18.0) > 10.0
        assert canceller.report.delay == pytest.approx(0.42, abs=0.04)

    def test_a_person_who_breaks_the_silence_of_a_headset_is_not_kept_waiting(self):
        """Only the last looks of the first second hear anything: that is no reason to try."""
        sent, near = voice(3.0, 1), voice(3.0, 2)
        near[: round(0.7 * RATE)] = 0
        canceller = KalmanEchoCanceller()
        call(canceller, sent, near)
        assert canceller.report.state is EchoState.ABSENT
        frame = VoiceFrame(1.5, 0.02, 0.9, -20.0)
        assert canceller.judge(frame) == frame
