"""What `python -m bench cluster` says of processes, and of a relay that was killed."""

from __future__ import annotations

import pytest

from bench._load import Contestant
from bench._relay_start import Flow, Restarts
from bench.cluster import COLUMNS, LAYOUTS, PARTS, RESTART_COLUMNS, Running, _restart_row


def test_what_each_kind_of_part_has_used() -> None:
    running = Running(Contestant("two", ()), 1, "", {"node": (), "program": ()})
    running.marks = [{"node": 1.0, "program": 0.5}, {"node": 3.0, "program": 0.75}, {"node": 3.5, "program": 1.0}]
    assert running.used() == {"node": 0.5, "program": 0.25}


def test_a_relay_that_was_killed_is_told_of_in_milliseconds() -> None:
    row = _restart_row("all", Restarts((0.02, 0.01, 0.09), 7))
    assert row == ("all", 3, pytest.approx(20.0), pytest.approx(10.0), pytest.approx(90.0), 7)
    assert len(row) == len(RESTART_COLUMNS)


def test_pauses_are_those_that_end_after_the_death() -> None:
    flow = Flow.__new__(Flow)
    flow.arrived = [1.0, 3.0, 3.5, 4.5, 4.6]
    assert flow.longest_pause(3.2) == pytest.approx(1.0)
    assert flow.first_after(3.2) == pytest.approx(0.3)


def test_there_is_a_column_for_each_kind_of_part() -> None:
    assert set(PARTS) < set(COLUMNS)
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)
