"""`--jobs`: which cells run at the same time, what the report is then, what the death of a worker costs."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from interop import side_by_side
from interop.browsers import BrowserError
from interop.cli import main, pairs_of, settled, target_pairs
from interop.peers import in_browsers
from interop.peers.in_browsers import KeptBrowser, kept_browser
from interop.peers.registry import PEERS
from interop.peers.target import Target
from interop.report import as_json, merged
from interop.runner import Cell, Plan, Task
from interop.scenarios import SCENARIOS
from interop.side_by_side import Schedule, run_side_by_side
from interop.verdict import Blame, Outcome, Verdict
from interop.worker import Worker, order_of


def plan_of(peers: Sequence[str], scenarios: Sequence[str], keep: Path | None = None) -> Plan:
    return Plan(pairs_of([PEERS[name] for name in peers]), [SCENARIOS[name] for name in scenarios], keep=keep)


def test_only_one_cell_has_a_browser_or_a_peer_and_a_measured_one_has_the_machine() -> None:
    peers = ("ours", "chromium", "firefox", "openai-agents", "pipecat", "pion", "openssl")
    plan = plan_of(peers, ("audio", "10 calls from one page", "45 seconds", "30 clients at once", "mute"))
    schedule, running, ran = Schedule(plan.tasks()), list[Task](), list[int]()
    most = 0
    while not schedule.is_over:
        while (task := next(filter(None, (schedule.take(worker) for worker in range(8))), None)) is not None:
            held = [other.pair.resources for other in running]
            assert not any(task.pair.resources & each for each in held), task
            assert not (task.scenario.is_alone and running), task
            assert not any(other.scenario.is_alone for other in running), task
            running.append(task)
        most = max(most, len(running))
        done = running.pop(0)
        schedule.end(done)
        ran.append(done.number)
    assert sorted(ran) == list(range(len(plan)))
    assert most == 6  # ours, Chromium, Firefox, the clients from npm in a Chromium of their own, Pion, OpenSSL


def test_the_peer_with_the_most_work_left_comes_first() -> None:
    plan = plan_of(("aiortc", "pion"), ("audio", "45 seconds"))
    tasks = [task for task in plan.tasks() if task.pair.peer.name == "pion" or task.scenario.name == "audio"]
    first = Schedule(tasks).take(0)
    assert first is not None
    assert first.pair.peer.name == "pion"


def test_a_browser_stays_with_the_worker_that_keeps_it_until_that_dies() -> None:
    schedule = Schedule(plan_of(("chromium", "pion"), ("audio", "mute")).tasks())

    def next_of(worker: int) -> str:
        task = schedule.take(worker)
        assert task is not None
        schedule.end(task)
        return task.pair.peer.name

    assert next_of(1) == "chromium"
    assert [next_of(2), next_of(2)] == ["pion", "pion"]
    assert next_of(1) == "chromium"
    schedule.leave(1)
    assert next_of(3) == "chromium"
    assert next_of(3) == "chromium"
    assert next_of(1) == "pion"


def test_a_target_is_called_by_one_client_at_a_time() -> None:
    target = Target("http://127.0.0.1:1/whip", "all", "secret")
    pairs = target_pairs(target, [PEERS["ours"], PEERS["chromium"]])
    assert all("target" in pair.resources for pair in pairs)
    order = order_of(pairs[1], Plan(pairs, ()))
    assert (order["client"], order["server"]) == ("chromium", "target")
    assert Target(*order["target"]) == target


# A worker that makes no calls: it notes when a cell begins and ends, and answers as it is told by the file `plan`.
FAKE = """
import json, os, sys, time
folder = sys.argv[1]
say = lambda **answer: print(json.dumps(answer), flush=True)
say(id=0, result="ready")
for line in sys.stdin:
    order = json.loads(line)
    args = order["args"]
    name = args["client"] + " " + args["server"] + " " + args["scenario"]
    with open(folder + "/log", "a") as log:
        log.write("begin " + name + "\\n")
    time.sleep(0.05)
    times = open(folder + "/log").read().count("begin " + name + "\\n")
    with open(folder + "/log", "a") as log:
        log.write("end " + name + "\\n")
    if args["scenario"] == "PCMA":
        sys.exit("it fell over")
    red = args["scenario"] == "PCMU" and times == 1
    verdict = {"outcome": "failed" if red else "passed", "sentence": "a gap." if red else "all is well.",
               "blame": "unclear" if red else None, "rule": "", "further": []}
    told = {"verdict": verdict, "seconds": 0.05, "kept": "a-folder" if red else ""}
    say(id=order["id"], result=told | {"call": {"measured": {"times": str(times)}}})
"""


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Workers that make no calls; where they note what they did."""
    monkeypatch.setattr(side_by_side, "WORKER", (sys.executable, "-c", FAKE, str(tmp_path)))
    for name in ("aiortc", "pion", "wrtc"):
        monkeypatch.setattr(type(PEERS[name]), "why_absent", lambda _: None)
    return tmp_path / "log"


def at_once(log: Path) -> int:
    """The most cells that ran at the same time."""
    steps = [1 if line.startswith("begin") else -1 for line in log.read_text("utf-8").splitlines()]
    return max(sum(steps[: n + 1]) for n in range(len(steps)))


def test_cells_of_different_peers_run_at_once_and_are_reported_in_the_order_of_the_plan(log: Path) -> None:
    plan = plan_of(("aiortc", "pion", "wrtc"), ("audio", "mute"))
    heard: list[tuple[str, int, int]] = []
    cells = run_side_by_side(plan, lambda cell, done, total: heard.append((cell.scenario, done, total)), 3)
    assert [(cell.pair, cell.scenario) for cell in cells] == [
        (task.pair.label, task.scenario.name) for task in plan.tasks()
    ]
    assert [(done, total) for _, done, total in heard] == [(n, 12) for n in range(1, 13)]
    assert {cell.verdict.outcome for cell in cells} == {Outcome.PASSED}
    assert at_once(log) == 3
    assert as_json(cells, 1.0)["cells"][0]["call"] == {"measured": {"times": "1"}}


def test_what_is_red_beside_others_is_tried_once_more_alone_and_the_report_says_so(log: Path) -> None:
    plan = plan_of(("aiortc", "pion"), ("PCMU", "audio"))
    cells = run_side_by_side(plan, lambda *_: None, 2)
    assert {cell.verdict.outcome for cell in cells} == {Outcome.PASSED}
    lines = log.read_text("utf-8").splitlines()
    again = lines[-8:]  # four cells, one after the other
    assert all("PCMU" in line for line in again)
    assert [line.split()[0] for line in again] == ["begin", "end"] * 4
    told = [dict((cell.call or {})["measured"]) for cell in cells if cell.scenario == "PCMU"]
    assert told == [{"times": "2", "beside other cells it failed": "a gap. a-folder"}] * 4


def test_a_run_that_is_interrupted_reports_what_was_red_as_it_was(log: Path) -> None:
    def stop(cell: Cell, done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    plan = plan_of(("aiortc", "pion"), ("PCMU", "audio", "mute"))
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(plan, stop, 2)
    found = {(cell.scenario, cell.verdict.outcome) for cell in plan.cells}
    assert ("PCMU", Outcome.FAILED) in found
    assert {outcome for scenario, outcome in found if scenario != "PCMU"} == {Outcome.PASSED, Outcome.UNTRIED}
    assert [(cell.pair, cell.scenario) for cell in plan.cells] == [
        (task.pair.label, task.scenario.name) for task in plan.tasks()
    ]


def test_a_worker_that_dies_costs_its_cell_and_is_replaced(log: Path) -> None:
    cells = run_side_by_side(plan_of(("aiortc",), ("PCMA", "audio")), lambda *_: None, 2)
    outcomes = [(cell.scenario, cell.verdict.outcome) for cell in cells]
    assert outcomes == [("PCMA", Outcome.BROKEN), ("audio", Outcome.PASSED)] * 2
    assert "it fell over" in cells[0].verdict.sentence


class Started:
    """Stands for browsers: it counts those that were started, and notes which are there."""

    def __init__(self) -> None:
        self.count = 0
        self.alive: list[int] = []
        self.pages: list[str] = []
        self.is_broken = False

    @asynccontextmanager
    async def launch(self, name: str, **settings: object) -> AsyncIterator[Started]:
        self.count += 1
        number = self.count
        self.alive.append(number)
        try:
            yield self
        finally:
            self.alive.remove(number)

    async def goto(self, url: str, timeout: float = 60.0) -> None:
        if self.is_broken:
            raise BrowserError("its page has ended")
        self.pages.append(url)


async def test_a_kept_browser_is_used_again_until_its_settings_change_or_something_happens_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = Started()
    monkeypatch.setattr(in_browsers, "launch", started.launch)
    kept = KeptBrowser()
    kept_browser.set(kept)
    for _ in range(2):
        async with in_browsers.browser_for_a_cell("firefox", {}):
            assert started.alive == [1]
    assert started.pages == ["about:blank"] * 2  # nothing of a cell lives on in its page
    async with in_browsers.browser_for_a_cell("firefox", {"dtls_1_2_only": True}):
        assert started.alive == [2]
    with pytest.raises(ZeroDivisionError):
        async with in_browsers.browser_for_a_cell("firefox", {"dtls_1_2_only": True}):
            raise ZeroDivisionError
    assert not kept.is_used
    started.is_broken = True
    async with in_browsers.browser_for_a_cell("firefox", {"dtls_1_2_only": True}):
        assert started.alive == [3]
    assert started.alive == []
    kept_browser.set(None)
    async with in_browsers.browser_for_a_cell("firefox", {}):
        assert started.alive == [4]
    assert started.alive == []


@pytest.mark.real_clock
async def test_a_worker_makes_a_real_call_and_tells_what_the_report_shows() -> None:
    pair = pairs_of([PEERS["ours"]])[0]
    order = order_of(pair, Plan([pair], ())) | {"scenario": "no candidates", "seed": 1, "round_": 0}
    told = json.loads(json.dumps(await Worker(KeptBrowser()).run(**order)))
    assert told["verdict"]["outcome"] == "passed", told["verdict"]
    assert told["call"]["negotiated"]["DTLS"] in ("1.2", "1.3")
    assert told["kept"] == ""


@pytest.mark.real_clock
@pytest.mark.peer
def test_the_real_worker_is_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way, with two processes of which one has work."""
    cells = run_side_by_side(plan_of(("ours",), ("no candidates", "messages")), lambda *_: None, 2)
    assert [cell.verdict.outcome for cell in cells] == [Outcome.PASSED] * 2, cells
    assert all(cell.call is not None and cell.evidence is None for cell in cells)


def test_what_is_not_red_in_a_former_run_is_left_out() -> None:
    former = {
        "cells": [
            {"pair": "aiortc → ours", "scenario": "audio", "outcome": "passed"},
            {"pair": "aiortc → ours", "scenario": "mute", "outcome": "passed"},
            {"pair": "aiortc → ours", "scenario": "mute", "outcome": "broken"},
            {"pair": "ours → aiortc", "scenario": "audio", "outcome": "known"},
        ]
    }
    plan = plan_of(("aiortc",), ("audio", "mute"))
    plan.done = settled(former)
    left = [(task.number, task.pair.label, task.scenario.name) for task in plan.tasks()]
    assert left == [(0, "aiortc → ours", "mute"), (1, "ours → aiortc", "mute")]
    assert len(plan) == 2


def test_again_takes_a_whole_former_run_and_junit_holds_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def none(*_: object) -> None:
        return

    monkeypatch.setattr("interop.cli.run_plan", none)
    verdict = Verdict(Outcome.FAILED, "a fault.", Blame.THEIRS)
    made = [Cell("a → ours", "a", "1", "client", name, verdict) for name in ("audio", "mute")]
    former, junit = tmp_path / "former.json", tmp_path / "junit.xml"
    whole = json.dumps(as_json(made, 10.0))
    former.write_text(whole, "utf-8")
    again = ["run", "ours", "audio", "--update", str(former), "--again", "--junit", str(junit)]
    assert CliRunner().invoke(main, again).exit_code == 0
    root = ElementTree.fromstring(junit.read_text("utf-8"))
    assert [case.get("name") for case in root.findall(".//testcase")] == ["audio", "mute"]
    assert [case.get("type") for case in root.findall(".//failure")] == ["theirs"] * 2
    damaged = (
        *("", "{}", "[]", "null", '{"cells": []}', whole[:-40], "[" * 200_000),
        *(whole.replace(a, b) for a, b in (('"failed"', '"lost"'), ('"seconds"', '"x"'), ('"pair"', '"x"'))),
    )
    for text in damaged:
        former.write_text(text, "utf-8")
        result = CliRunner().invoke(main, again)
        assert result.exit_code == 2, text[:80]
        assert "is no result of --json" in result.output
        assert len(result.output.strip().splitlines()) == 1


def test_a_run_takes_the_place_of_the_same_cells_of_a_former_one() -> None:
    def results(outcome: Outcome, *names: tuple[str, str]) -> dict[str, object]:
        made = [Cell(pair, "x", "1", "client", scenario, Verdict(outcome, "s.")) for pair, scenario in names]
        return as_json(made, 10.0)

    former = results(Outcome.FAILED, ("a → ours", "audio"), ("a → ours", "mute"), ("gone → ours", "audio"))
    now = results(Outcome.PASSED, ("ours → a", "audio"), ("a → ours", "audio"), ("a → ours", "audio"))
    made = merged(former, now, ("a → ours", "ours → a"))
    assert [(cell["pair"], cell["scenario"], cell["outcome"]) for cell in made["cells"]] == [
        ("a → ours", "audio", "passed"),
        ("a → ours", "audio", "passed"),
        ("a → ours", "mute", "failed"),
        ("ours → a", "audio", "passed"),
        ("gone → ours", "audio", "failed"),
    ]
    assert made["seconds"] == 20.0
    assert list(made["scenarios"]) == ["audio", "mute"]
