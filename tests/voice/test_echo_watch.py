"""A path that changes is told from a voice: the test by itself, and what the canceller makes of it."""

import numpy as np
import pytest

from stack.voice.echo import KalmanEchoCanceller
from stack.voice.echo_filter import BINS, BLOCK, ECHO, ERROR, UNLEARNT, KalmanFilter
from stack.voice.echo_gate import EchoGate, band_powers
from stack.voice.echo_watch import PathWatch
from stack.voice.vad import VoiceFrame
from tests.voice.test_echo import RATE, echo_of, pcm, room, voice

CHANGE = 5 * RATE


def moving(sent: np.ndarray, over: float, old: int = 1, new: int = 40) -> np.ndarray:
    """Return the echo of a path that turns into another one from `CHANGE` on, within `over` seconds."""
    share = np.clip((np.arange(len(sent)) - CHANGE) / max(1.0, over * RATE), 0.0, 1.0)
    return (1 - share) * echo_of(sent, room(old)) + share * echo_of(sent, room(new))


def watched(sent: np.ndarray, heard: np.ndarray, watch: PathWatch) -> list[bool]:
    """Run a filter that nobody tells anything, and the watch over it."""
    model, said = KalmanFilter(), []
    for at in range(0, len(sent), BLOCK):
        model.step(sent[at : at + BLOCK], heard[at : at + BLOCK].astype(np.float32))
        said.append(watch.update(model.powers))
    return said


class TestPathWatch:
    @pytest.mark.parametrize(("over", "blocks"), [(0.0, 8), (0.3, 16)])
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_a_path_that_changes_is_noticed_at_once(self, seed, over, blocks):
        sent = voice(6.0, seed)
        said = watched(sent, moving(sent, over), PathWatch())
        first = CHANGE // BLOCK
        assert not any(said[200:first])
        assert any(said[first : first + blocks])

    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_a_voice_is_no_change(self, seed):
        sent, near = voice(8.0, seed), voice(8.0, seed + 10)
        near[:CHANGE] = 0
        said = watched(sent, echo_of(sent, room(1)) + near, PathWatch())
        assert not any(said[200:])

    def test_it_says_how_much_of_the_old_path_is_left(self):
        sent, watch = voice(6.0, 1), PathWatch()
        gone = moving(sent, 0.0)[: CHANGE + 8 * BLOCK]
        watched(sent[: len(gone)], gone, watch)
        assert watch.found < 0.4
        assert watch.left > 0.5
        watch = PathWatch()
        going = moving(sent, 1.0)[: CHANGE + 16 * BLOCK]
        watched(sent[: len(going)], going, watch)
        assert watch.found > 0.6
        assert watch.left < 0.5

    def test_blocks_that_come_together_say_what_they_say_one_after_the_other(self):
        sent = voice(6.0, 1)
        heard = moving(sent, 0.3).astype(np.float32)
        model, one, two = KalmanFilter(), PathWatch(), PathWatch()
        seen = 0
        for at in range(0, CHANGE + 64 * BLOCK, 2 * BLOCK):
            model.step(sent[at : at + 2 * BLOCK], heard[at : at + 2 * BLOCK])
            alone = any(one.update(model.powers[block : block + 1]) for block in range(2))
            assert two.update(model.powers) == alone
            assert (two.found, two.left) == pytest.approx((one.found, one.left), rel=1e-3, abs=1e-6)
            if alone:
                seen += 1
                one.restart()
                two.restart()
        assert seen

    def test_silence_says_nothing(self):
        watch, nothing = PathWatch(), np.zeros((1, 5, BINS), np.float32)
        assert not any(watch.update(nothing) for _ in range(50))
        assert watch.found == 1.0
        assert watch.left == 0.0

    def test_one_block_does_not_decide_and_a_restart_forgets(self):
        watch, opposed = PathWatch(), np.zeros((1, 5, BINS), np.float32)
        opposed[:, [ERROR, ECHO]] = 1e8  # what is left is the prediction with its sign turned: nothing was heard
        assert [watch.update(opposed) for _ in range(2)] == [False, True]
        watch.restart()
        assert watch.found == 1.0
        assert not watch.update(opposed)


class TestWhatTheFilterKnowsOfItself:
    def expectations(self, model: KalmanFilter, sent: np.ndarray, heard: np.ndarray, change: int) -> np.ndarray:
        """Return what was left and what was expected of each block, in dB, summed over the bins of speech."""
        rows = []
        for at in range(0, len(sent), BLOCK):
            if at == change:
                model.doubt(0.0)
            model.step(sent[at : at + BLOCK], heard[at : at + BLOCK].astype(np.float32))
            powers = model.powers[0, ERROR], model.powers[0, UNLEARNT]
            rows.append([10 * np.log10(power[4:64].sum() + 1) for power in powers])
        return np.array(rows)

    def test_it_expects_at_least_what_is_left_and_less_and_less(self):
        sent = voice(8.0, 1)
        left, expected = self.expectations(KalmanFilter(), sent, moving(sent, 0.0), CHANGE).T
        after = slice(CHANGE // BLOCK + 2, None)
        loud = left[after] > 80
        assert np.mean((left - expected)[after][loud] > 4.0) < 0.05
        assert np.median(expected[502:512]) - np.median(expected[650:]) > 8.0

    def test_bins_in_which_we_said_nothing_are_not_learnt(self):
        time = np.arange(3 * RATE) / RATE
        vowel = (6000 * np.sin(2 * np.pi * 300 * time) * (1 + np.sin(2 * np.pi * 3 * time))).astype(np.float32)
        hiss = np.zeros(len(time))
        hiss[-RATE // 2 :] = np.random.default_rng(1).standard_normal(RATE // 2) * 1500
        sent = (vowel + np.diff(hiss, prepend=0.0)).astype(np.float32)
        model, heard = KalmanFilter(), echo_of(sent, room(1)).astype(np.float32)
        for at in range(0, len(sent) - RATE // 2 + 4 * BLOCK, BLOCK):
            model.step(sent[at : at + BLOCK], heard[at : at + BLOCK])
        assert model.powers[0, UNLEARNT, 90:130].sum() > 0.25 * model.powers[0, ERROR, 90:130].sum()

    def test_another_client_is_not_expected_to_be_like_the_last(self):
        sent, model = voice(2.0, 1), KalmanFilter()
        heard = echo_of(sent, room(1, gain=0.05))
        self.expectations(model, sent, heard, -1)
        model.forget()
        assert not model.impulse_response().any()
        fresh = KalmanFilter()
        for each in (model, fresh):
            each.load(np.zeros((each.partitions + 1) * BLOCK, np.float32))
            each.step(sent[:BLOCK], heard[:BLOCK].astype(np.float32))
        assert model.powers[0, UNLEARNT] == pytest.approx(fresh.powers[0, UNLEARNT])


def verdicts(sent: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """Return of each 20 ms whether the canceller would believe a detector that hears speech in it."""
    canceller, believed = KalmanEchoCanceller(), []
    for at in range(0, len(heard), 320):
        canceller.render(pcm(sent[at : at + 320]), at / RATE)
        canceller.capture(pcm(heard[at : at + 320]), at / RATE)
        believed.append(canceller.judge(VoiceFrame(at / RATE, 0.02, 0.9, -20.0)).probability > 0)
    return np.array(believed)


class TestWhileThePathChanges:
    @pytest.mark.parametrize("over", [0.0, 0.3])
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_our_own_voice_is_never_believed_for_long(self, seed, over):
        sent = voice(8.0, seed)
        believed = verdicts(sent, moving(sent, over))[50:]
        four_in_a_row = np.convolve(believed, np.ones(4), "valid") == 4  # what a barge-in needs
        assert not four_in_a_row.any()

    @pytest.mark.parametrize("after", [0.2, 0.5])
    def test_a_person_is_believed_soon_after_it(self, after):
        sent, near = voice(8.0, 1), voice(8.0, 2)
        onset = CHANGE + round(after * RATE)
        near[:onset] = 0
        loud = np.sqrt((near.reshape(-1, 320) ** 2).mean(axis=1)) > 1500
        believed = verdicts(sent, moving(sent, 0.0) + near)
        assert believed[loud][:15].mean() > 0.6


class TestGate:
    def test_a_hiss_as_loud_as_ours_may_be_is_no_person_and_a_louder_one_and_a_voice_are(self):
        gate, low, high = EchoGate(), np.zeros(BINS, np.float32), np.zeros(BINS, np.float32)
        low[10:60], high[80:130] = 1e7, 1e7
        quiet, ours = np.full(BINS, 1.0, np.float32), np.full(BINS, 1e6, np.float32)
        none = np.zeros(BINS, np.float32)
        for index in range(100):
            gate.update(index * 0.01, band_powers(np.stack([ours, quiet, ours, ours, quiet, none])), False)
        shares = [
            [
                gate.update(2.0, band_powers(np.stack([ours, left, ours, ours, quiet, none])), False)
                for _ in range(8)
            ][-1]
            for left in (quiet + high, quiet, quiet, quiet + low, quiet, quiet, quiet + 10 * high)
        ]
        assert shares[0] < 0.1
        assert shares[3] > 0.5
        assert shares[-1] > 0.5
