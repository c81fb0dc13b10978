"""The simulated world: where things are, what runs where, and a small one with real processes and media."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.__main__ import main
from bench._voices import Missing, people
from bench._world_sound import ClickDetector, is_loud, tone
from bench.world import Loss, Results, Samples, measure, tabulate
from interop import world as worlds
from interop.namespaces import NamespaceError, is_running
from interop.regions import ASIA, CENTRE, EU, REGIONS, US, Region, by_distance, machines, round_trip, way
from interop.world import DESIGNS

ROOT = Path(__file__).resolve().parents[2]
LEAST_PROCESSES = 8
"""Of a world: namespaces, router, users, and what runs in the centre."""


# -- where things are ----------------------------------------------------------------------------------------


def test_a_way_is_half_a_round_trip_and_the_users_own_line() -> None:
    server, user = machines([US])
    (far, _) = machines([ASIA])
    assert way(server, user).delay == pytest.approx(US.access / 2)
    assert way(user, far) == way(far, user)
    assert way(user, far).delay == pytest.approx((US.access + round_trip(US, ASIA)) / 2)
    assert way(server, far).jitter is None
    assert {end.address for end in machines(REGIONS)} == {
        address for region in REGIONS for address in (region.server, region.user)
    }


def test_the_nearest_region_is_ones_own() -> None:
    for region in REGIONS:
        assert by_distance(region, REGIONS)[0] is region
        assert all(round_trip(region, other) == round_trip(other, region) for other in REGIONS)
    assert by_distance(EU, REGIONS) == [EU, US, ASIA]


def test_what_runs_where() -> None:
    edge = {name: set(design.parts(ASIA)) for name, design in DESIGNS.items()}
    assert edge["central"] == set()
    assert edge["edge-media"] == {"media", "signaling"}
    assert edge["edge-relay"] == {"relay", "signaling"}
    assert edge["edge-all"] == {"engine", "media", "agent", "signaling"}
    for design in DESIGNS.values():
        assert {"engine", "media", "agent", "signaling"} <= set(design.parts(CENTRE))
        entries = design.entries(ASIA, REGIONS)
        assert (ASIA.server in entries[0]) == design.has_entry
        assert len(entries) == (3 if design.has_entry else 1)


def test_a_click_is_the_first_loud_frame_after_quiet() -> None:
    clicks, quiet, loud = ClickDetector(), tone(440, 0.02) // 100, tone(440, 0.02)
    assert is_loud(loud)
    assert not is_loud(quiet)
    heard = [clicks.hears(frame) for frame in [loud, *[quiet] * 6, loud, loud, *[quiet] * 2, loud]]
    assert heard == [False] * 7 + [True] + [False] * 4


# -- tables and options --------------------------------------------------------------------------------------


def test_tables_have_the_medians_and_say_when_a_caller_stays_silent() -> None:
    samples = Samples()
    samples.note({"set_up": 0.5, "there": [0.1, 0.2], "back": [0.1, 0.1], "barge_in": 0.3})
    samples.note({"failed": "TimeoutError: "})
    losses = [Loss("centre cut off", None, 0.25, 1.5), Loss("centre killed", None, None)]
    results = Results({("asia", "central"): samples}, {"central": losses}, {"mean": 0.1, "max": 2.0})
    set_up, sound, barge_in, lost = tabulate(results, [DESIGNS["central"]])
    assert list(set_up.rows) == [["Southeast Asia", "all central", 1, 1, 500.0, 500.0, 500.0]]
    assert sound.rows[0][4:] == pytest.approx([250.0, 200.0, 300.0])
    assert barge_in.rows[0][4] == pytest.approx(300.0)
    assert [row[1:] for row in lost.rows] == [
        ["centre cut off", "all", 0.25, 1.5],
        ["centre killed", "all", "all", None],
    ]


@pytest.mark.parametrize(
    "arguments", [["--rtt", "20"], ["--workers", "2"], ["--server", "nowhere"], ["--calls", "3"]]
)
def test_options_that_cannot_work_are_refused_on_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["world", *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.err.startswith("bench: world: ")
    assert said.err.count("\n") == 1
    assert arguments[0] in said.err
    assert said.out == ""


def test_where_there_are_no_namespaces_it_says_so_on_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit) as ended:
        main(["world"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "bench: world: network namespaces need root\n"


# -- with real processes -------------------------------------------------------------------------------------


@pytest.fixture
def can_be() -> None:
    absent = worlds.why_not()
    if absent is not None:
        pytest.skip(absent)
    try:
        people()
    except Missing as missing:
        pytest.skip(str(missing))


async def measured(designs: list[str], calls: int, regions: list[Region], has_losses: bool) -> Results:
    chosen = [DESIGNS[name] for name in designs]
    try:
        return await measure(chosen, calls, 1, print, regions, has_losses)
    except NamespaceError as error:
        if "no network namespace" in str(error):
            pytest.skip(str(error))
        raise


def least(results: Results, design: str, measure: str) -> float:
    """Return the least of what the far user measured: a stall of the machine makes it longer, nothing shorter."""
    found = getattr(results.samples["asia", design], measure)
    assert found, f"no call of {design} came about"
    return float(min(found))


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.xdist_group("browsers")
@pytest.mark.usefixtures("can_be")
async def test_what_is_near_the_user_is_there_sooner() -> None:
    results = await measured(["central", "edge-media", "edge-all"], 2, [US, ASIA], has_losses=False)
    far = 1000 * (round_trip(US, ASIA) + ASIA.access)

    assert least(results, "edge-media", "set_up") < least(results, "central", "set_up")
    assert least(results, "edge-all", "set_up") < least(results, "edge-media", "set_up")
    assert least(results, "edge-media", "barge_in") < least(results, "central", "barge_in")
    for name in ("central", "edge-media"):  # the program is as far away as ever
        there, back = (least(results, name, measure) for measure in ("there", "back"))
        assert there > far / 2
        assert back > far / 2
    assert least(results, "edge-all", "there") < least(results, "central", "there")
    assert results.late["mean"] < far / 10, "the network was not what it is said to be"


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.xdist_group("browsers")
@pytest.mark.usefixtures("can_be")
async def test_what_a_lost_region_takes_with_it() -> None:
    results = await measured(["central", "edge-all"], 1, [US, EU], has_losses=True)
    central = {loss.event: loss for loss in results.losses["central"]}
    edge = {loss.event: loss for loss in results.losses["edge-all"]}

    assert central["an edge region cut off"].inside is None, "its caller does not reach the program"
    assert central["an edge region cut off"].outside is not None
    assert central["an edge region cut off"].back is not None
    assert central["an edge region killed"].inside is not None, "nothing runs there"
    assert central["centre killed"].inside is None
    assert central["centre killed"].outside is None

    assert edge["an edge region cut off"].inside is not None, "all that the caller needs is there"
    assert edge["an edge region killed"].inside is not None, "the caller goes on elsewhere"
    assert edge["centre cut off"].outside is not None


def family(pid: int) -> Iterator[int]:
    """Yield the child processes of a process, and theirs."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        yield child
        yield from family(child)


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.xdist_group("browsers")
@pytest.mark.usefixtures("can_be")
def test_nothing_is_left_after_it_was_interrupted() -> None:
    command = [sys.executable, "-m", "bench", "world", "--server", "central"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stderr is not None
        for line in bench.stderr:
            if "calls of each user" in line:
                break
        started = set(family(bench.pid))
        bench.send_signal(signal.SIGINT)
        said = [line for line in bench.stderr if not line.startswith("bench, ")]
    assert len(started) > LEAST_PROCESSES
    assert bench.returncode not in (0, 2)
    assert said == ["bench world: ended early; all of it is gone\n"]
    assert [pid for pid in started if is_running(pid)] == []
