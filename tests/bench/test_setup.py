"""The tables of the set-up benchmark, and what leads its clients through the relay."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bench.__main__ import main
from bench._setup_ends import NOWHERE, Network, Server, with_candidate
from bench.setup import METRICS, Samples, start_servers, tabulate
from interop.browsers import PoliciesUnavailable, managed_policies
from interop.browsers.policies import FOLDERS
from interop.redirect import without_candidates
from interop.servers import ServerError

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
    assert table.rows[0][2:] == [0, 0, 0, *([None] * (2 * len(METRICS)))]
    assert "pion" in table.text()


def test_a_call_that_the_server_does_not_hear_is_counted() -> None:
    taken = samples({"connected": 1.0, "heard": 2.0}, {"connected": 3.0})
    (table,) = tabulate(Network(0.0, 0.0), {("a browser", "ours"): taken}, 2)
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert (row["calls"], row["unheard"], row["server hears"], row["connected"]) == (2, 1, 2.0, 2.0)


def test_what_a_former_call_left_behind_is_not_heard() -> None:
    of = Server("ours", "http://127.0.0.1:1/")
    of.note_heard(5.0)
    assert of.heard is None, "nothing is answered yet"
    of.answered = 10.0
    for at in (9.0, 11.0, 12.0):
        of.note_heard(at)
    assert of.heard == 11.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rtt", "x"], "numbers"),
        (["--rtt", "-1"], "-1 is not between 0 and"),
        (["--rtt", "nan"], "nan is not between"),
        (["--rtt", "20,20"], "twice"),
        (["--loss", "101"], "101 is not between 0 and 100"),
        (["--scale", "0"], "not above 0"),
        (["--scale", "inf"], "not above 0"),
        (["--client", "netscape"], "no such client: netscape; there are chromium, firefox"),
        (["--server", "ours", "theirs"], "no such server: theirs; there are ours, aiortc"),
        (["--calls", "0"], "'0' is no whole number from 1 to"),
        (["--workers", "-1"], "'-1' is no whole number from 1 to"),
        (["--against", "no/such/folder"], "there is no `stack` in no/such/folder"),
        (["--plot", "/dev/null/plots"], "/dev/null/plots: "),
        (["--forwarder"], "--forwarder is for several workers"),
    ],
)
def test_a_bad_option_is_refused_on_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["setup", *arguments])
    assert exited.value.code == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.startswith("bench: ")
    assert "\n" not in error


async def test_a_server_that_does_not_start_is_named_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    lives = 'import time; print(\'{"offer": "http://127.0.0.1:1/"}\', flush=True); time.sleep(60)'
    commands = {
        "old": [sys.executable, "-c", "print('flag provided but not defined: -greeting')"],
        "absent": ["/no/such/binary"],
        "new": [sys.executable, "-c", lives],
    }
    async with AsyncExitStack() as stack:
        assert list(await start_servers(commands, stack)) == ["new"]
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in said] == ["no server old", "no server absent"]
    async with AsyncExitStack() as stack:
        with pytest.raises(ServerError, match="none of the servers"):
            await start_servers({"absent": ["/no/such/binary"]}, stack)


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
