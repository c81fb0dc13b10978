"""The tables of the set-up benchmark, and what leads its clients through the relay."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench._setup_ends import NOWHERE, Network, with_candidate
from bench.setup import METRICS, Samples, tabulate
from interop.browsers import PoliciesUnavailable, managed_policies
from interop.browsers.policies import FOLDERS
from interop.redirect import without_candidates

OFFER = (
    "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=candidate:1 1 udp 1 192.0.2.1 5 typ host\r\n"
    "m=application 9 DTLS 1\r\n"
)


def samples(*calls: dict[str, float], failed: int = 0) -> Samples:
    taken = Samples(failed=failed)
    for each in calls:
        taken.note(each)
    return taken


def test_medians_95th_percentiles_and_round_trips() -> None:
    calls = [{"connected": float(ms), "voice": 2.0 * ms} for ms in range(1, 21)]
    times, trips = tabulate(Network(0.1, 0.02), {("a browser", "ours"): samples(*calls, failed=3)}, 20)
    assert "100 ms RTT, 2% loss" in times.title
    row = dict(zip(times.columns, times.rows[0], strict=True))
    assert (row["client"], row["server"], row["calls"], row["failed"]) == ("a browser", "ours", 20, 3)
    assert (row["connected"], row["connected p95"], row["first audio"]) == (10.5, 19.0, 21.0)
    assert row["channel open"] is None
    assert trips.rows[0][:4] == ["a browser", "ours", pytest.approx(0.105), pytest.approx(0.21)]
    assert set(METRICS.values()) <= set(trips.columns)


def test_without_a_delay_there_are_no_round_trips() -> None:
    (table,) = tabulate(Network(0.0, 0.0), {("a browser", "pion"): samples()}, 1)
    assert table.rows[0][2:] == [0, 0, *([None] * (2 * len(METRICS)))]
    assert "pion" in table.text()


def test_a_client_is_given_one_candidate_that_leads_nowhere() -> None:
    lines = with_candidate(without_candidates(OFFER)).splitlines()
    assert lines == [*OFFER.splitlines()[:2], NOWHERE, OFFER.splitlines()[3]]


def test_policies_hold_inside_of_the_context_alone() -> None:
    folder = next((each for each in FOLDERS if each.is_dir()), None)
    if folder is None:
        pytest.skip("there is no folder of Chromium's")
    policy = folder / "policies" / "managed" / "bench.json"
    before, where = sorted(folder.iterdir()), Path.cwd()
    try:
        with managed_policies({"A": False}):
            assert policy.read_text("utf-8") == '{"A": false}'
    except PoliciesUnavailable as unavailable:
        pytest.skip(str(unavailable))
    assert sorted(folder.iterdir()) == before
    assert Path.cwd() == where
