"""The end of turn as a curve: who is cut off, and what the others wait."""

import numpy as np
import pytest

from bench._plot import svg
from bench._turn_curve import SILENCES, WAITS, Heard, curve
from bench.report import Curves, Table
from stack.voice import Pause

NOTHING = np.zeros(0, np.int16)


def heard(lasted: float, is_last: bool = False, late: float = 0.0) -> Heard:
    return Heard(Pause(NOTHING, 1.0), float("inf") if is_last else lasted, is_last, late)


TURNS = [[heard(0.4), heard(0.0, True)], [heard(1.2), heard(0.0, True, 0.1)]]


def test_a_pause_that_outlasts_the_wait_cuts_the_turn_off():
    rows = curve("fixed", TURNS, None)
    assert [row[2] for row in rows] == [100.0, 100.0, 50.0, 50.0, 50.0, 0.0]
    assert [row[3] for row in rows[2:5]] == pytest.approx([1000 * wait for wait in SILENCES[2:5]])
    assert np.isnan(rows[0][3])


def test_a_judge_moves_the_wait_between_the_bounds():
    done = curve("done", TURNS, lambda pause: 1.0)
    more = curve("more", TURNS, lambda pause: 0.0)
    assert [row[2] for row in done] == [100.0, 100.0, 100.0, 50.0, 50.0, 50.0, 50.0]
    assert [row[2] for row in more] == [50.0, 50.0, 50.0, 0.0, 0.0, 0.0, 0.0]
    assert more[-1][4] == pytest.approx(1000 * (WAITS[-1][1] + 0.1))


def test_curves_are_drawn_a_line_for_each():
    rows = [["a", 10.0, 500.0], ["a", 5.0, 900.0], ["b", 20.0, 400.0], ["b", float("nan"), 1.0]]
    picture = svg(Table("Curve", ("who", "cut", "wait"), rows, chart=Curves("wait", "cut")))
    assert picture.count("<circle") == 3
    assert picture.count('fill="none"/>') == 3, "the axes and two lines"
    with pytest.raises(ValueError, match="no rows"):
        svg(Table("Curve", ("who", "cut", "wait"), [], chart=Curves("wait", "cut")))
