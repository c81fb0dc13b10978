import math
import sys

import numpy as np
import pytest

from stack.core.errors import LocalError
from stack.voice.echo import EchoState, KalmanEchoCanceller
from stack.voice.echo_filter import (
    BLOCK,
    ERROR,
    MOST_BLOCKS,
    NEW,
    REFERENCE,
    UNLEARNT,
    DelayEstimator,
    KalmanFilter,
    Lag,
)
from stack.voice.echo_gate import BANDS, EchoGate, GateSettings
from stack.voice.echo_track import Track
from stack.voice.vad import VoiceFrame, level_dbfs

RATE = 16_000


def voice(seconds: float, seed: int) -> np.ndarray:
    """Speech for a filter: coloured noise in syllables and words, about -20 dBFS."""
    rng = np.random.default_rng(seed)
    count = int(seconds * RATE)
    carrier = np.convolve(rng.standard_normal(count + 63), np.exp(-np.arange(64) / 6.0), "valid")
    steps = rng.choice([0.0, 0.3, 1.0, 1.5], p=[0.2, 0.2, 0.4, 0.2], size=count // 1600 + 2)
    envelope = np.interp(np.arange(count) / 1600, np.arange(len(steps)), steps)
    shaped = carrier * envelope
    return (shaped * 3000 / np.sqrt(np.mean(shaped**2))).astype(np.float32)


def room(seed: int, gain: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    path = rng.standard_normal(2400) * 10 ** (-3 * np.arange(2400) / (0.3 * RATE)) * 0.1
    path[:16] = 0
    path[20 + seed] = 0.8
    return path * gain / np.sqrt(np.sum(path**2))


def echo_of(sent: np.ndarray, path: np.ndarray, delay: float = 0.0) -> np.ndarray:
    late = np.concatenate([np.zeros(int(delay * RATE)), np.convolve(sent, path)])
    return late[: len(sent)] + np.random.default_rng(99).standard_normal(len(sent)) * 5


def pcm(signal: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(signal), -32768, 32767).astype(np.int16)


def erle(heard: np.ndarray, left: np.ndarray, begin: float, end: float) -> float:
    part = slice(int(begin * RATE), int(end * RATE))
    return level_dbfs(heard[part]) - level_dbfs(left[part])


def call(canceller, sent: np.ndarray, heard: np.ndarray, chunk: int = 320, start: float = 0.0) -> np.ndarray:
    """Run a call; what comes out is put where its media time says."""
    out = np.zeros(len(heard), np.int16)
    for at in range(0, len(heard) - chunk + 1, chunk):
        canceller.render(pcm(sent[at : at + chunk]), start + at / RATE)
        cleaned, media_time = canceller.capture(pcm(heard[at : at + chunk]), start + at / RATE)
        begin = round((media_time - start) * RATE)
        out[begin : begin + len(cleaned)] = cleaned
    return out


class TestTrack:
    def test_reads_what_was_written_where_it_was_written(self):
        track = Track(1.0)
        track.write(np.arange(100, dtype=np.int16), 2.0)
        assert (track.read(32_000 + 10, 5) == np.arange(10, 15)).all()
        assert (track.read(32_000 - 2, 4) == [0, 0, 0, 1]).all()
        assert (track.read(32_000 + 98, 4) == [98, 99, 0, 0]).all()

    def test_a_hole_is_silence_and_rounding_is_none(self):
        track = Track(1.0)
        track.write(np.ones(160, np.int16), 0.0)
        track.write(np.full(160, 2, np.int16), 0.0103)
        assert (track.read(158, 4) == [1, 1, 2, 2]).all()
        track.write(np.full(160, 3, np.int16), 0.05)
        assert track.read(320, 480).sum() == 0
        assert track.read(800, 1) == [3]

    def test_it_forgets_what_is_too_old_and_a_step_back_is_a_new_stream(self):
        track = Track(0.1)
        for i in range(50):
            track.write(np.full(160, i, np.int16), i * 0.01)
        assert (track.read(0, 160) == 0).all()
        assert (track.read(49 * 160, 160) == 49).all()
        assert (track.read(41 * 160, 160) == 41).all()
        track.write(np.full(160, 7, np.int16), 0.2)
        assert track.end == 3360
        assert track.read(3100, 100).sum() == 0

    def test_what_overlaps_a_little_gives_way_and_the_rest_stays(self):
        track = Track(1.0)
        track.write(np.full(320, 1, np.int16), 0.0)
        track.write(np.full(320, 2, np.int16), 0.0175)
        assert (track.read(0, 280) == 1).all()
        assert (track.read(280, 320) == 2).all()
        assert track.end == 600

    def test_a_very_long_hole_costs_no_memory(self):
        track = Track(0.1)
        track.write(np.ones(160, np.int16), 0.0)
        track.write(np.ones(160, np.int16), 86_400.0)
        assert track.read(86_400 * RATE - 10, 11).sum() == 1


class TestLag:
    def test_reads_between_samples(self):
        lag, time = Lag(), np.arange(4000) / RATE
        tone = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
        lag.move(10.375, 0)
        late = lag.delayed(lambda start, count: tone[start : start + count], 1000, 160)
        assert late == pytest.approx(np.sin(2 * np.pi * 1000 * (time[1000:1160] - 10.375 / RATE)), abs=0.005)

    def test_follows_a_slope_and_not_a_scatter(self):
        lag = Lag()
        lag.restart(1000, 0)
        for second in range(12):
            lag.observe(round(1064 + 3.2 * second), second * RATE)
        assert lag.drift == pytest.approx(200e-6, rel=0.1)
        steady = Lag()
        for second in range(12):
            steady.observe(1000 + (second * 37) % 90, second * RATE)
        assert steady.drift == 0.0


class TestDelayEstimator:
    @pytest.mark.parametrize("delay", [0.0, 0.12, 0.48])
    def test_finds_the_lag(self, delay):
        estimator, sent = DelayEstimator(0.5), voice(3.0, 1)
        heard = echo_of(sent, room(1), delay).astype(np.float32)
        found = [
            estimator.look(sent[end - estimator.span : end], heard[end - estimator.WINDOW : end])
            for end in range(estimator.span, len(sent), 4096)
        ]
        assert found[-1] == pytest.approx(delay * RATE + 21, abs=8)

    def test_a_lag_that_is_known_needs_less_to_be_seen(self):
        estimator, sent, other = DelayEstimator(0.5), voice(8.0, 1), voice(8.0, 2)
        heard = (echo_of(sent, room(1), 0.12) * 0.5 + other).astype(np.float32)
        found, seen, elsewhere = [], [], []
        for end in range(estimator.span, len(sent), 4096):
            found.append(estimator.look(sent[end - estimator.span : end], heard[end - estimator.WINDOW : end]))
            seen.append(estimator.sharpness_at(round(0.12 * RATE) + 21))
            elsewhere.append(estimator.sharpness_at(round(0.32 * RATE)))
        assert np.mean(np.array(seen) > 4.0) > 0.8
        assert np.mean([lag is None for lag in found]) > 0.5
        assert np.median(elsewhere) < 3.5
        estimator.reset()
        assert estimator.sharpness_at(1941) == 0.0

    def test_finds_nothing_in_somebody_else(self):
        estimator, sent, other = DelayEstimator(0.5), voice(8.0, 1), voice(8.0, 2)
        for end in range(estimator.span, len(sent), 4096):
            assert estimator.look(sent[end - estimator.span : end], other[end - estimator.WINDOW : end]) is None


class TestKalmanFilter:
    def test_moving_the_model_moves_the_path(self):
        model, sent = KalmanFilter(), voice(4.0, 1)
        heard = echo_of(sent, room(1)).astype(np.float32)
        for at in range(0, len(sent), BLOCK):
            model.step(sent[at : at + BLOCK], heard[at : at + BLOCK])
        peak = int(np.argmax(np.abs(model.impulse_response())))
        assert peak == 21
        model.shift(100)
        assert int(np.argmax(np.abs(model.impulse_response()))) == 121
        model.shift(-90)
        assert int(np.argmax(np.abs(model.impulse_response()))) == 31

    def test_a_tone_is_new_until_it_has_been_heard_for_a_while_and_another_one_again(self):
        model, time = KalmanFilter(), np.arange(2 * RATE) / RATE
        pitch = np.where(time < 1.0, 400.0, 1000.0)  # in the middle of a bin each
        sent = (3000 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)
        share = []
        for at in range(0, len(sent), BLOCK):
            model.step(sent[at : at + BLOCK], np.zeros(BLOCK, np.float32))
            share.append(model.powers[0, NEW].sum() / model.powers[0, REFERENCE].sum())
        assert min(share[:3]) > 0.9
        assert max(share[80:100]) == 0.0
        assert share[110] > 0.8
        assert max(share[180:]) < 0.01
        model.forget()
        model.step(sent[:BLOCK], np.zeros(BLOCK, np.float32))
        assert model.powers[0, NEW].sum() == model.powers[0, REFERENCE].sum()

    def test_blocks_that_come_together_are_taken_as_one_after_the_other(self):
        sent, near = voice(2.0, 1), voice(2.0, 2)
        heard = (echo_of(sent, room(1)) + 0.3 * near).astype(np.float32)
        one, two = KalmanFilter(), KalmanFilter()
        both = MOST_BLOCKS * BLOCK
        for number, at in enumerate(range(0, len(sent) - both, both)):
            parts = [slice(begin, begin + BLOCK) for begin in range(at, at + both, BLOCK)]
            lefts, powers = [], []
            for part in parts:
                lefts.append(one.step(sent[part], heard[part]))
                powers += list(one.powers.copy())
            if number % 7 == 3:  # and now and then a block comes alone
                rest = np.concatenate([two.step(sent[part], heard[part]) for part in parts])
                assert two.powers == pytest.approx(one.powers, rel=1e-3, abs=1.0)
            else:
                rest = two.step(sent[at : at + both], heard[at : at + both])
                assert two.powers == pytest.approx(np.stack(powers), rel=1e-3, abs=1.0)
            assert rest == pytest.approx(np.concatenate(lefts), abs=0.05)
        assert two.impulse_response() == pytest.approx(one.impulse_response(), abs=1e-4)

    def test_what_was_loaded_is_what_was_sent(self):
        sent = voice(2.0, 1)
        heard = echo_of(sent, room(1)).astype(np.float32)
        model = KalmanFilter()
        for at in range(0, len(sent), BLOCK):
            model.step(sent[at : at + BLOCK], heard[at : at + BLOCK])
        model.load(sent[-17 * BLOCK :])
        silence = np.zeros(2 * BLOCK, np.float32)
        # The room goes on for 60 ms after the last block that was loaded.
        tail = echo_of(np.concatenate([sent, silence]), room(1))[-2 * BLOCK :]
        left = model.step(silence, tail.astype(np.float32))
        assert np.square(left).sum() < 0.2 * np.square(tail).sum()

    def test_how_a_path_goes_on_after_the_model_is_expected(self):
        """In our pauses nothing else says what still reverberates."""
        sent, rng = voice(12.0, 1), np.random.default_rng(4)
        path = rng.standard_normal(9600) * 10 ** (-3 * np.arange(9600) / (0.6 * RATE))
        path *= 0.5 / np.sqrt(np.square(path).sum())
        sent[10 * RATE :] = 0
        heard, model = echo_of(sent, path).astype(np.float32), KalmanFilter()
        rests = []
        for at in range(0, len(sent), BLOCK):
            model.step(sent[at : at + BLOCK], heard[at : at + BLOCK])
            rests.append(model.powers[0, [ERROR, UNLEARNT], 4:64].sum(axis=1))
        pause = 10 * np.log10(np.array(rests)[1002:1030] + 1)
        assert pause[0, 0] - pause[-1, 0] > 15.0, "it fades"
        assert np.median(pause[:, 0] - pause[:, 1]) == pytest.approx(0.0, abs=4.0)

    def test_double_talk_does_not_tear_the_model_away(self):
        model, sent, near = KalmanFilter(), voice(8.0, 1), voice(8.0, 2)
        near[: 5 * RATE] = 0
        echo = echo_of(sent, room(1)).astype(np.float32)
        left = np.concatenate(
            [
                model.step(sent[at : at + BLOCK], (echo + near)[at : at + BLOCK])
                for at in range(0, len(sent), BLOCK)
            ]
        )
        assert erle(echo, left - near, 4.0, 5.0) > 20.0
        assert erle(echo, left - near, 6.0, 8.0) > 12.0

    def test_doubt_makes_it_learn_fast_again(self):
        sent = voice(8.0, 1)
        heard = np.where(np.arange(len(sent)) < 6 * RATE, echo_of(sent, room(1)), -echo_of(sent, room(40)))
        rest = []
        for doubts in (False, True):
            model, left = KalmanFilter(), np.zeros(len(sent))
            for at in range(0, len(sent), BLOCK):
                if doubts and at == 6 * RATE:
                    model.doubt(0.0)
                block = heard[at : at + BLOCK].astype(np.float32)
                left[at : at + BLOCK] = model.step(sent[at : at + BLOCK], block)
            rest.append(erle(heard, left, 6.1, 6.6))
        assert rest[1] > rest[0] + 3.0


class TestCanceller:
    @pytest.mark.parametrize("delay", [0.05, 0.4])
    def test_the_echo_is_gone_after_a_second_and_a_half(self, delay):
        sent = voice(8.0, 1)
        heard = echo_of(sent, room(1), delay)
        canceller = KalmanEchoCanceller()
        left = call(canceller, sent, heard)
        assert erle(heard, left, 1.5, 3.0) > 12.0
        assert erle(heard, left, 4.0, 8.0) > 19.0
        assert canceller.report.state is EchoState.PRESENT
        assert canceller.report.delay == pytest.approx(delay, abs=0.003)
        assert canceller.report.leak_db < -9.0  # it begins at -3, and sinks by steps

    def test_the_near_voice_passes_whole(self):
        sent, near = voice(10.0, 1), voice(10.0, 2) * 0.5
        near[: 5 * RATE] = 0
        heard = echo_of(sent, room(1), 0.1) + near
        left = call(KalmanEchoCanceller(), sent, heard)
        part = slice(5 * RATE, 10 * RATE)
        gain = float(np.dot(left[part].astype(float), near[part]) / np.dot(near[part].astype(float), near[part]))
        assert 20 * np.log10(gain) == pytest.approx(0.0, abs=0.5)
        assert level_dbfs(near[part]) - level_dbfs(left[part] - near[part]) > 8.0

    def test_a_clock_that_drifts_is_followed(self):
        sent = voice(22.0, 1)
        positions = np.arange(len(sent)) * (1 - 200e-6)
        drifted = np.interp(positions, np.arange(len(sent)), np.convolve(sent, np.hanning(5) / 2, "same"))
        heard = echo_of(drifted, room(1), 0.1)
        canceller = KalmanEchoCanceller()
        left = call(canceller, sent, heard)
        assert erle(heard, left, 14.0, 22.0) > 15.0
        assert canceller.report.path_losses <= 3

    def test_where_a_reflection_is_louder_than_the_direct_sound_the_path_begins_with_the_direct_sound(self):
        sent, path = voice(12.0, 1), room(1)
        path[[110, 140]] += 0.2
        path[320:] += 1.5 * room(2)[:-320]  # the loudest comes 20 ms later: the first look finds it
        heard = echo_of(sent, path, 0.1)
        canceller = KalmanEchoCanceller()
        left = call(canceller, sent, heard)
        assert erle(heard, left, 6.0, 12.0) > 19.0

    def test_a_delay_that_jumps_is_found_again(self):
        sent = voice(16.0, 1)
        early, late = echo_of(sent, room(1), 0.05), echo_of(sent, room(1), 0.13)
        heard = np.where(np.arange(len(sent)) < 8 * RATE, early, late)
        canceller = KalmanEchoCanceller()
        left = call(canceller, sent, heard)
        assert erle(heard, left, 12.0, 16.0) > 15.0
        assert canceller.report.delay == pytest.approx(0.131, abs=0.003)

    def test_a_loudspeaker_that_distorts_is_cancelled_as_far_as_it_is_linear(self):
        sent = voice(8.0, 1)
        heard = echo_of(np.tanh(sent / 6000) * 6000, room(1), 0.05)
        left = call(KalmanEchoCanceller(), sent, heard)
        assert erle(heard, left, 4.0, 8.0) > 6.0

    def test_it_never_makes_it_worse(self):
        sent = voice(9.0, 1)
        paths = [echo_of(sent, room(seed), 0.1) for seed in (1, 2, 3)]
        heard = np.choose(np.arange(len(sent)) // (3 * RATE), paths)
        left = call(KalmanEchoCanceller(), sent, heard)
        for begin in np.arange(1.0, 9.0, 0.5):
            assert erle(heard, left, begin, begin + 0.5) > -1.5

    def test_headphones_cost_nothing_and_are_believed(self):
        sent, near = voice(6.0, 1), voice(6.0, 2)
        canceller = KalmanEchoCanceller()
        left = call(canceller, sent, near)
        assert canceller.report.state is EchoState.ABSENT
        assert (left[:-160] == pcm(near)[:-160]).all()
        frame = VoiceFrame(5.5, 0.016, 0.9, -20.0)
        assert canceller.judge(frame) == frame

    def test_nothing_is_believed_before_it_is_known(self):
        sent = voice(0.4, 1)
        canceller = KalmanEchoCanceller()
        call(canceller, sent, echo_of(sent, room(1), 0.05))
        assert canceller.judge(VoiceFrame(0.1, 0.016, 0.9, -20.0)).probability == 0.0

    def test_while_we_are_silent_nothing_happens(self):
        near = voice(2.0, 2)
        canceller = KalmanEchoCanceller()
        left = call(canceller, np.zeros(len(near)), near)
        assert (left[:-160] == pcm(near)[:-160]).all()
        assert canceller.report.state is EchoState.UNKNOWN
        frame = VoiceFrame(1.0, 0.016, 0.9, -20.0)
        assert canceller.judge(frame) == frame

    def test_what_cannot_hold_an_echo_is_handed_back_as_it_is(self):
        canceller, near = KalmanEchoCanceller(), pcm(voice(1.0, 2))
        canceller.render(np.zeros(320, np.int16), 0.0)
        given = near[:320]
        assert canceller.capture(given, 0.0)[0] is given
        canceller.capture(near[320:400], 0.02)  # half a block waits
        left, media_time = canceller.capture(near[400:720], 0.025)
        assert (left == near[320:640]).all()
        assert media_time == pytest.approx(0.02)

    def test_a_microphone_that_is_muted_teaches_nothing(self):
        sent = voice(9.0, 1)
        heard = echo_of(sent, room(1), 0.1)
        heard[4 * RATE : 7 * RATE] = 0
        canceller = KalmanEchoCanceller()
        left = call(canceller, sent[: 7 * RATE], heard[: 7 * RATE])
        assert not left[4 * RATE + 160 :].any()
        assert canceller.judge(VoiceFrame(6.9, 0.016, 0.9, -20.0)).probability == 0.0
        rest = call(canceller, sent[7 * RATE :], heard[7 * RATE :], start=7.0)
        assert canceller.report.path_losses == 0
        assert erle(heard[7 * RATE :], rest, 0.1, 0.6) > 15.0

    def test_echo_that_appears_later_is_found(self):
        sent = voice(14.0, 1)
        heard = np.where(np.arange(len(sent)) < 5 * RATE, voice(14.0, 2) * 0.01, echo_of(sent, room(1), 0.1))
        canceller = KalmanEchoCanceller()
        call(canceller, sent[: 5 * RATE], heard[: 5 * RATE])
        assert canceller.report.state is EchoState.ABSENT
        call(canceller, sent[5 * RATE :], heard[5 * RATE :], start=5.0)
        assert canceller.report.state is EchoState.PRESENT

    def test_agent_only_frames_are_taken_away_and_the_person_is_not(self):
        sent, near = voice(12.0, 1), voice(12.0, 2)
        near[: 8 * RATE] = 0
        near[10 * RATE :] = 0
        canceller = KalmanEchoCanceller()
        heard, verdicts = echo_of(sent, room(1), 0.1) + near, []
        for at in range(0, len(heard), 320):
            canceller.render(pcm(sent[at : at + 320]), at / RATE)
            canceller.capture(pcm(heard[at : at + 320]), at / RATE)
            verdicts.append(canceller.judge(VoiceFrame(at / RATE, 0.02, 0.9, -20.0)).probability > 0)
        loud = np.array([level_dbfs(near[at : at + 320]) > -26 for at in range(0, len(near), 320)])
        believed = np.array(verdicts)
        # The longer both talk, the more a voice is taken for a worse echo; a barge-in is decided long before.
        assert believed[400:425][loud[400:425]].mean() >= 0.9
        assert believed[loud].mean() > 0.6
        assert believed[50:390].mean() < 0.02

    def test_chunks_of_any_size_and_holes(self):
        sent = voice(6.0, 1)
        heard = echo_of(sent, room(1), 0.1)
        whole = call(KalmanEchoCanceller(), sent, heard, chunk=320)
        odd = call(KalmanEchoCanceller(), sent, heard, chunk=417)
        assert erle(heard, odd, 3.0, 5.5) == pytest.approx(erle(heard, whole, 3.0, 5.5), abs=3.0)
        canceller = KalmanEchoCanceller()
        call(canceller, sent[: 3 * RATE], heard[: 3 * RATE])
        left = call(canceller, sent[4 * RATE :], heard[4 * RATE :], start=4.0)
        assert erle(heard[4 * RATE :], left, 0.5, 1.9) > 10.0

    def test_a_new_client(self):
        sent = voice(4.0, 1)
        canceller = KalmanEchoCanceller()
        call(canceller, sent, echo_of(sent, room(1), 0.1))
        canceller.reset()
        assert canceller.report.state is EchoState.UNKNOWN
        assert canceller.report.delay is None

    def test_nothing_of_the_client_before_is_left(self):
        canceller, new = KalmanEchoCanceller(), KalmanEchoCanceller()
        before, sent = 2.0 * voice(6.0, 3), voice(3.0, 1)
        replaced = np.concatenate([echo_of(before[: 3 * RATE], room(3)), echo_of(before[3 * RATE :], room(4))])
        call(canceller, before, replaced)
        assert canceller.report.path_losses
        canceller.reset()
        heard = echo_of(sent, room(1)) + 0.3 * voice(3.0, 21)
        for at in range(0, len(sent), 320):
            later = 20.0 + at / RATE
            left, judged = [], []
            for each in (canceller, new):
                each.render(pcm(sent[at : at + 320]), later)
                left.append(each.capture(pcm(heard[at : at + 320]), later)[0])
                judged.append(each.judge(VoiceFrame(later, 0.02, 0.9, -20.0)))
            assert (left[0] == left[1]).all()
            assert judged[0] == judged[1]
        assert canceller.report == new.report

    def test_one_who_comes_in_the_middle_is_not_looked_for_later_than_another(self):
        canceller, sent = KalmanEchoCanceller(), voice(4.0, 1)
        call(canceller, sent, echo_of(sent, np.zeros(1)))
        assert canceller.report.state is EchoState.ABSENT
        canceller.reset()
        call(canceller, sent[: RATE // 2], echo_of(sent, room(1))[: RATE // 2], start=4.0)
        assert canceller.report.state is EchoState.PRESENT

    def test_a_step_back_in_media_time_is_a_new_stream_and_is_looked_at(self):
        canceller, sent = KalmanEchoCanceller(), voice(4.0, 1)
        call(canceller, sent, echo_of(sent, np.zeros(1)), start=1000.0)
        assert canceller.report.state is EchoState.ABSENT
        call(canceller, sent, echo_of(sent, room(1)))
        assert canceller.report.state is EchoState.PRESENT

    def test_a_step_back_in_media_time_does_not_move_the_lag_of_clocks_that_drift(self):
        sent = voice(16.0, 1)
        positions = np.arange(len(sent)) * (1 - 150e-6)
        heard = echo_of(np.interp(positions, np.arange(len(sent)), sent), room(1), 0.1)
        canceller, until = KalmanEchoCanceller(), 14 * RATE
        call(canceller, sent[:until], heard[:until], start=3000.0)
        losses = canceller.report.path_losses
        left = call(canceller, sent[until:], heard[until:])
        assert erle(heard[until:], left, 0.3, 1.9) > 15.0
        assert canceller.report.path_losses == losses

    @pytest.mark.parametrize(
        "options",
        [{"partitions": 0}, {"partitions": 1}, {"partitions": 2.5}, {"max_delay": 0.0}, {"max_delay": -1.0}],
    )
    def test_what_cannot_work_is_refused_at_the_start(self, options):
        with pytest.raises(LocalError):
            KalmanEchoCanceller(**options)

    def test_what_it_cannot_take_is_the_callers_fault(self):
        with pytest.raises(LocalError):
            KalmanEchoCanceller().capture(np.zeros(320, np.float32), 0.0)
        with pytest.raises(LocalError):
            KalmanEchoCanceller().render(np.zeros((1, 320), np.int16), 0.0)


class TestEchoGate:
    @pytest.mark.parametrize(
        "settings",
        [
            {"near_end_odds": math.nan},
            {"near_end_odds": math.inf},
            {"unhinted_odds": math.nan},
            {"leak_margin_db": math.nan},
            {"unexplained": 0.0},
            {"unexplained": 1.5},
            {"probation_blocks": -1},
            {"probation_blocks": 0.5},
            {"near_end_odds": "1"},
            {"young_odds": None},
            {"floor_margin_db": True},
            {"leak_margin_db": 1e308},
        ],
    )
    def test_settings_that_cannot_work_are_refused(self, settings):
        with pytest.raises(LocalError, match=next(iter(settings))):
            GateSettings(**settings)

    @staticmethod
    def shares(fall_db: float, left: float, person: float = 0.0) -> np.ndarray:
        """Return what no echo explains in each block of a pause of ours of 0.4 s, behind 3 s of our speech.

        The room falls by so much in a block, the filter leaves a share of the power; `person` speaks in the pause.
        """
        gate, rng = EchoGate(), np.random.default_rng(3)
        found, echo, sent = [], 0.0, 0.0
        for block in range(340):
            loud = 1e9 * rng.uniform(0.1, 1.0) if block < 300 else 0.0
            echo = max(loud, echo * 10 ** (-fall_db / 10))
            sent = max(loud, 0.7 * sent)
            rest = echo * left + 1e5 + (person if block >= 300 else 0.0)
            heard = echo + rest - echo * left
            bands = [[power] * BANDS for power in (heard, rest, echo * (1.0 - left), sent, 1e3, 0.0)]
            found.append(gate.update(block / 100, [bands], False))
        return np.array(found[300:])

    def test_what_is_new_in_its_bin_may_come_back_as_loud_as_anything(self):
        def share(new: float) -> float:
            gate, quiet = EchoGate(), [0.0] * BANDS
            ours, left = [1e9] * BANDS, [1e6] * BANDS
            for block in range(400):
                gate.update(block / 100, [[ours, left, ours, ours, quiet, quiet]], False)
            # Now nothing is predicted, and as much comes back as before.
            bands = [ours, ours, quiet, ours, quiet, [new] * BANDS]
            return max(gate.update(4.0 + block / 100, [bands], False) for block in range(10))

        assert share(0.0) > GateSettings().unexplained
        assert share(1e9) == 0.0

    def test_the_reverberation_of_a_hall_in_our_pauses_is_no_person(self):
        assert self.shares(0.25, 0.8).max() < GateSettings().unexplained

    def test_where_the_filter_takes_the_echo_off_a_soft_voice_in_our_pauses_is_one(self):
        shares = self.shares(1.0, 0.01, person=3e7)
        assert np.mean(shares > GateSettings().unexplained) > 0.7
        assert self.shares(1.0, 0.01).max() < GateSettings().unexplained


class TestAec3:
    def test_it_cancels_and_judges(self):
        pytest.importorskip("livekit.rtc.apm", reason="AEC3: pip install livekit")
        from stack.voice.echo_aec3 import Aec3EchoCanceller

        sent, near = voice(10.0, 1), voice(10.0, 2)
        near[: 7 * RATE] = 0
        heard = echo_of(sent, room(1), 0.1) + near
        canceller = Aec3EchoCanceller()
        left = call(canceller, sent, heard)
        assert erle(heard, left, 4.0, 7.0) > 20.0
        assert canceller.judge(VoiceFrame(9.98, 0.016, 0.9, -20.0)).probability in (0.0, 0.9)

    def test_it_says_what_is_missing(self, monkeypatch):
        from stack.voice.echo_aec3 import Aec3EchoCanceller

        monkeypatch.setitem(sys.modules, "livekit.rtc", None)
        with pytest.raises(LocalError, match="pip install livekit"):
            Aec3EchoCanceller()
