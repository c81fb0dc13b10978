"""The table of the set-up benchmark: medians, and a ratio only where both ran."""

from __future__ import annotations

import pytest

from bench.setup import METRICS, tabulate

OURS = {"ice": [3.0, 1.0, 2.0], "connected": [8.0, 9.0, 7.0], "voice": [30.0, 20.0, 25.0]}
AIORTC = {"ice": [4.0], "connected": [16.0], "channel": [30.0], "voice": [100.0]}


def test_medians_and_ratio() -> None:
    table = tabulate("a browser", {"ours": OURS, "aiortc": AIORTC}, 3)
    assert list(table.columns) == ["", "ours", "aiortc", "ours / aiortc"]
    rows = {row[0]: row[1:] for row in table.rows}
    assert set(rows) == set(METRICS.values())
    assert rows["connected"] == [8.0, 16.0, 0.5]
    assert rows["first echoed audio"] == [25.0, 100.0, 0.25]
    assert rows["data channel open"] == [None, 30.0, None]
    assert "a browser" in table.text()


@pytest.mark.parametrize("alone", ["ours", "aiortc"])
def test_one_contestant_has_no_ratio(alone: str) -> None:
    table = tabulate("a browser", {alone: OURS}, 3)
    assert list(table.columns) == ["", alone]
    assert all(len(row) == 2 for row in table.rows)
