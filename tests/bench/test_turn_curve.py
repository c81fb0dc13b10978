"""The end of turn as a curve: who is cut off, and what the others wait."""

import wave

import numpy as np
import pytest

from bench._fit_end_of_turn import FITTED, Corpus, fit
from bench._plot import svg
from bench._turn_curve import Heard, curve, cut_at, pauses
from bench._turn_data import LEAD, PAUSES, known, recorded
from bench._voices import RATE
from bench.report import Curves, Table
from stack.core.errors import LocalError
from stack.voice import Eagerness, Pause
from stack.voice.endpointing import BOUNDS
from stack.voice.prosody import BEFORE, ProsodyWeights

NOTHING = np.zeros(0, np.int16)


def heard(lasted: float, is_last: bool = False, late: float = 0.0, speech: float = 1.0) -> Heard:
    return Heard(Pause(NOTHING, speech), float("inf") if is_last else lasted, is_last, late)


TURNS = [[heard(0.4), heard(0.0, True)], [heard(1.2), heard(0.0, True, 0.1)]]


def test_a_pause_that_outlasts_the_wait_cuts_the_turn_off():
    rows = curve("fixed", TURNS, None)
    assert [(row[1], row[2]) for row in rows] == [("0.4 s", 50.0), ("1.2 s", 0.0)]
    assert [row[3] for row in rows] == pytest.approx([400.0, 1200.0])


def test_a_judge_that_knows_the_end_beats_a_fixed_silence_and_one_that_knows_nothing_does_not():
    def told(pause: Pause) -> float:
        return 1.0 if pause.speech > 2.0 else 0.0

    sure = [[heard(0.4), heard(0.0, True, speech=3.0)], [heard(1.2), heard(0.0, True, 0.1, speech=3.0)]]
    rows = curve("told", sure, told)
    assert (rows[0][1], rows[0][2]) == ("0.2 to 1.2 s", 0.0)
    assert rows[0][3:] == pytest.approx([200.0, 300.0])
    assert cut_at(rows, 500.0) == 0.0
    assert cut_at(rows, 100.0) is None
    fixed = {row[3]: row[2] for row in curve("fixed", sure, None)}
    assert {row[3]: row[2] for row in curve("nothing", sure, lambda pause: 0.5)} == fixed


def test_each_setting_waits_longer_and_cuts_off_fewer_than_the_one_before():
    rng = np.random.default_rng(1)
    turns = [[heard(float(rng.uniform(0.2, 1.5))), heard(0.0, True)] for _ in range(30)]
    rows = curve("any", turns, lambda pause: 0.3)
    assert len(rows) > 5
    assert [row[3] for row in rows] == sorted(row[3] for row in rows)
    shares = [row[2] for row in rows]
    assert shares == sorted(set(shares), reverse=True)


def voice(seconds: float) -> np.ndarray:
    """A hum with the harmonics of a voice."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 12))
    return tone * 4000 * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))


def test_a_recording_that_begins_with_speech_is_heard_from_its_first_sample():
    """Speech begins 0.3 s early: before such a recording, where a slice from there on was empty."""
    noise = np.random.default_rng(1).standard_normal(2 * RATE) * 10
    samples = np.rint(np.concatenate([voice(1.5), noise])).astype(np.int16)
    found = pauses(samples, 1.5)
    assert len(found) == 1
    assert found[0].is_last
    assert len(found[0].pause.utterance) == pytest.approx(1.5 * RATE, abs=0.15 * RATE)


class TestKnownTurns:
    def write(self, path, seconds=1.5, rate=RATE):
        samples = np.rint(np.concatenate([voice(seconds), np.zeros(RATE)])).astype("<i2")
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(samples.tobytes())

    def test_a_turn_ends_at_its_last_sound_or_its_last_label(self, tmp_path):
        self.write(tmp_path / "a.wav")
        self.write(tmp_path / "b.wav")
        (tmp_path / "b.txt").write_text("0.1\t0.4\n0.6\t1.1\n")
        ends = [turn.whole(np.random.default_rng(1))[1] - LEAD for turn in recorded(tmp_path)]
        assert ends == pytest.approx([1.5, 1.1], abs=0.02)

    def test_what_is_no_turn_is_refused(self, tmp_path):
        with pytest.raises(LocalError, match=r"no NAME\.wav"):
            recorded(tmp_path)
        self.write(tmp_path / "a.wav", rate=8000)
        with pytest.raises(LocalError, match="16 kHz"):
            recorded(tmp_path)

    def test_pauses_are_put_where_it_is_quiet(self):
        said = known(
            np.concatenate([voice(1.0), np.zeros(RATE // 10), voice(1.0), np.zeros(RATE)]).astype(np.float32)
        )
        samples, end = said.thinking(np.random.default_rng(1), 2)
        plain, before = said.whole(np.random.default_rng(1))
        assert PAUSES[0] <= end - before <= PAUSES[1]
        assert len(samples) - len(plain) == pytest.approx((end - before) * RATE, abs=1)


class TestFit:
    def test_weights_follow_what_tells_the_end(self):
        """Where the fall of the pitch tells all, a turn costs less with the weights that are found."""
        rng = np.random.default_rng(1)
        place = ProsodyWeights._fields.index("pitch_fall")
        rows, lasted, is_last, turn = [], [], [], []
        for number in range(60):
            for last in (False, True):
                row = np.array([1.0, *rng.uniform(-0.1, 0.1, 5)])
                row[place] = 0.9 if last else -0.6
                rows.append(row)
                lasted.append(99.0 if last else 1.2)
                is_last.append(last)
                turn.append(number)
        corpus = Corpus(
            np.array(rows), np.array(lasted), np.array(is_last), np.zeros(120), np.array(turn), np.ones(60)
        )
        bounds = BOUNDS[Eagerness.AUTO]
        found = fit(corpus, bounds, 2.5, FITTED)
        assert found.pitch_fall > BEFORE.pitch_fall + 0.1
        before, after = (corpus.cost(np.array(each), bounds, 2.5) for each in (BEFORE, found))
        assert after < before - 0.1
        assert after == pytest.approx(bounds.finished, abs=0.15)


def test_curves_are_drawn_a_line_for_each():
    rows = [["a", 10.0, 500.0], ["a", 5.0, 900.0], ["b", 20.0, 400.0], ["b", float("nan"), 1.0]]
    picture = svg(Table("Curve", ("who", "cut", "wait"), rows, chart=Curves("wait", "cut")))
    assert picture.count("<circle") == 3
    assert picture.count('fill="none"/>') == 3, "the axes and two lines"
    with pytest.raises(ValueError, match="no rows"):
        svg(Table("Curve", ("who", "cut", "wait"), [], chart=Curves("wait", "cut")))
