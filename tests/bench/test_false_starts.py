"""An hour of program speech in calls: what is counted, and what is kept from one run to the next."""

import json
from pathlib import Path

import pytest

from bench import _false_starts as tables
from bench._false_starts import Situation, situations
from bench.report import Options
from stack.core.errors import LocalError


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, float]]:
    """Each call lasts as long as it should, and is stopped at 2 s and at 100 s if its seed is even."""
    made: list[tuple[str, int, float]] = []

    def call(self: Situation, seed: int, seconds: float) -> tuple[float, list[float]]:
        made.append((self.name, seed, seconds))
        return seconds, [stop for stop in (2.0, 100.0) if seed % 2 == 0 and stop < seconds]

    monkeypatch.setattr(Situation, "call", call)
    return made


ROOM = "speech: bare meeting room, faithful; auto"


def test_an_hour_is_six_calls_with_a_seed_each(calls):
    table = tables.TABLES["hours"](Options(seed=5), ROOM)
    assert calls == [(ROOM, seed, 600.0) for seed in range(5, 11)]
    assert list(table.rows) == [[ROOM, 6, 60.0, 6, 3, 6.0]]
    assert "6 false starts in 1.00 h" in table.notes[0]


def test_calls_that_begin(calls):
    table = tables.TABLES["beginnings"](Options(), ROOM)
    assert calls == [(ROOM, seed, 6.0) for seed in range(1, 31)]
    assert list(table.rows) == [[ROOM, 30, 15, 15]]


def test_what_was_run_is_not_run_again(calls, tmp_path: Path):
    options = Options(scale=0.5, keep=str(tmp_path / "calls.jsonl"))
    first = tables.TABLES["hours"](options, ROOM)
    assert len(calls) == 3
    whole = tables.TABLES["hours"](Options(keep=options.keep), ROOM)
    assert [seed for _, seed, _ in calls] == [1, 2, 3, 4, 5, 6]
    assert tables.TABLES["hours"](options, ROOM).rows == first.rows
    assert whole.rows[0][1] == 6
    tables.TABLES["beginnings"](Options(keep=options.keep), ROOM)
    assert len(calls) == 6 + 30, "a shorter call is another one"


@pytest.mark.parametrize("line", ["{", "[]", json.dumps({"situation": ROOM, "seed": 1})])
def test_a_file_that_holds_something_else_is_said(tmp_path: Path, line: str):
    file = tmp_path / "calls.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(LocalError, match="line 1 is no call that was kept"):
        tables.TABLES["hours"](Options(keep=str(file)), ROOM)


def test_a_situation_is_what_its_name_says():
    names = [situation.name for situation in situations(Options())]
    assert len(names) == len(set(names)) == 3 * 4 * 3 * 2
    [one] = situations(Options(), "music: telephone on a table, clips; earshot")
    assert (one.program, one.where, one.loudspeaker, one.detector) == (
        "music",
        "telephone on a table",
        "clips",
        "earshot",
    )
    sent, stops = one.call(1, 1.0)
    assert sent == pytest.approx(1.0)
    assert stops == []
