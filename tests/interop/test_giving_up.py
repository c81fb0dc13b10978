"""A server known by its URL that fails its first calls in the same way: what is tried of it, and what is said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from aiohttp import web

from interop import giving_up, side_by_side
from interop.giving_up import FirstCalls, way
from interop.peers.registry import PEERS
from interop.peers.target import Target
from interop.runner import Cell, Pair, Plan, empty_cell, run_plan
from interop.scenarios import SCENARIOS
from interop.side_by_side import run_side_by_side
from interop.verdict import NO_ANSWER, Blame, Outcome, Verdict
from tests.interop.test_target import answering

SILENT = "target: expected a response to each check (RFC 8445 §7.3), seen none to 24 requests."


def pair_of(client: str, server: object = None) -> Pair:
    return Pair(PEERS[client], server or Target("http://127.0.0.1:1/whip"), "server")  # type: ignore[arg-type]


def failed(sentence: str = SILENT, layer: str = "ICE", outcome: Outcome = Outcome.FAILED) -> Verdict:
    return Verdict(outcome, sentence, Blame.THEIRS, "checks-unanswered", layer=layer)


def cell_of(pair: Pair, verdict: Verdict, seconds: float = 1.0) -> Cell:
    cell = empty_cell(pair, SCENARIOS["audio"], verdict)
    cell.seconds = seconds
    return cell


def after(calls: FirstCalls, pair: Pair, *verdicts: Verdict, seconds: float = 1.0) -> str | None:
    """Why no further call is made when these have been."""
    for verdict in verdicts:
        calls.saw(pair, cell_of(pair, verdict, seconds))
    return calls.why_not(pair)


def test_a_server_is_given_up_when_its_first_calls_fail_in_the_same_way() -> None:
    pair = pair_of("ours")
    other = failed(SILENT.replace("24", "7"))
    assert after(FirstCalls(), pair, failed(), other) is None
    said = after(FirstCalls(), pair, failed(), other, failed())
    assert said == f"the first 3 calls failed in the same way (--go-on tries the others): {SILENT}"


def test_calls_that_take_long_are_fewer() -> None:
    pair = pair_of("ours")
    assert after(FirstCalls(), pair, failed(), seconds=giving_up.SLOW) is None
    assert after(FirstCalls(), pair, failed(), failed(), seconds=giving_up.SLOW / 2) is not None


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict(Outcome.PASSED, "all is well."),
        failed(layer="media"),
        failed("target: expected a fingerprint (RFC 8827 §6.5), seen none.", "signalling"),
    ],
    ids=["one stood", "one stood and had no sound", "another fault"],
)
def test_a_server_is_not_given_up_when_a_call_tells_something_else(verdict: Verdict) -> None:
    assert after(FirstCalls(), pair_of("ours"), failed(), verdict, *[failed()] * 5) is None


SILENCE = Verdict(
    Outcome.FAILED, "expected an answer, seen none in 15 s.", Blame.UNCLEAR, NO_ANSWER, layer="signalling"
)
STOOD = Verdict(Outcome.PASSED, "all is well.")


def test_a_server_that_took_calls_and_goes_away_is_given_up() -> None:
    calls, pair = FirstCalls(), pair_of("ours")
    assert after(calls, pair, STOOD, SILENCE, SILENCE) is None
    said = after(calls, pair, SILENCE)
    assert said is not None
    assert said.startswith(
        "the server hangs or has gone: 3 calls in a row had no answer (--go-on tries the others): "
    )
    assert said.endswith(SILENCE.sentence)
    further = after(calls, pair_of("firefox"), SILENCE)
    assert further == "the first call failed as those of ours → target did (--go-on tries the others)"


def test_a_server_that_answers_some_offers_has_not_gone() -> None:
    one_by_one = [STOOD, *[SILENCE, SILENCE, STOOD] * 3, *[SILENCE, SILENCE, failed(layer="signalling")] * 3]
    assert after(FirstCalls(), pair_of("ours"), *one_by_one) is None
    assert after(FirstCalls(), pair_of("ours"), STOOD, *[failed(layer="signalling")] * 9) is None
    assert after(FirstCalls(goes_on=True), pair_of("ours"), STOOD, *[SILENCE] * 9) is None


def test_what_cannot_be_asked_of_a_server_that_has_gone_is_no_sign_of_life() -> None:
    unsupported = Verdict(Outcome.UNSUPPORTED, "no PCMU")
    assert (
        after(FirstCalls(), pair_of("ours"), STOOD, SILENCE, unsupported, SILENCE, unsupported, SILENCE)
        is not None
    )


async def test_a_server_that_goes_in_the_middle_of_a_run_ends_it() -> None:
    """The first call is refused as a call is; from then on nothing listens any more."""
    async with answering(web.Response(status=404, text="nothing here")) as url:
        pair = Pair(PEERS["ours"], Target(url), "server")
        plan = Plan([pair], [SCENARIOS["audio"]], repeat=6)
        plan.first_calls.saw(pair, cell_of(pair, STOOD))
    cells = await run_plan(plan, lambda *_: None)
    assert [cell.verdict.outcome for cell in cells] == [Outcome.FAILED] * 3 + [Outcome.UNTRIED] * 3
    assert {cell.verdict.rule for cell in cells[:3]} == {NO_ANSWER}
    assert "no connection to 127.0.0.1 port" in cells[-1].verdict.sentence


def test_what_the_peer_cannot_do_and_a_harness_that_fails_say_nothing_of_the_server() -> None:
    unsupported, broken = Verdict(Outcome.UNSUPPORTED, "no PCMU"), Verdict(Outcome.BROKEN, "no browser")
    assert after(FirstCalls(), pair_of("ours"), failed(), unsupported, failed(), broken, failed()) is not None
    assert way(broken) is None


def test_a_further_client_of_a_server_that_was_given_up_calls_once() -> None:
    calls = FirstCalls()
    after(calls, pair_of("ours"), *[failed()] * 3)
    said = after(calls, pair_of("firefox"), failed(SILENT.replace("24", "3")))
    assert said == "the first call failed as those of ours → target did (--go-on tries the others)"
    assert after(calls, pair_of("chromium"), failed("target: expected another thing, seen none.")) is None


def test_only_a_server_that_is_elsewhere_is_given_up_and_only_if_that_is_wanted() -> None:
    assert after(FirstCalls(), pair_of("ours", PEERS["aiortc"]), *[failed()] * 9) is None
    assert after(FirstCalls(goes_on=True), pair_of("ours"), *[failed()] * 9) is None


async def test_a_server_that_takes_no_offers_is_asked_three_times_and_the_rest_is_not_tried() -> None:
    asked: list[str] = []
    async with answering(web.Response(status=404, text="nothing here")) as url:
        plan = Plan([Pair(PEERS["ours"], Target(url), "server")], [SCENARIOS["audio"]], repeat=6)
        cells = await run_plan(plan, lambda cell, *_: asked.append(cell.verdict.outcome.value))
    outcomes = [cell.verdict.outcome for cell in cells]
    assert outcomes == [Outcome.FAILED] * 3 + [Outcome.UNTRIED] * 3
    assert asked == [outcome.value for outcome in outcomes]
    assert "there is nothing at this path" in cells[-1].verdict.sentence


# A worker that makes no calls: a target fails each of them before anything stands.
FAKE = """
import json, sys
say = lambda **answer: print(json.dumps(answer), flush=True)
say(id=0, result="ready")
for line in sys.stdin:
    order = json.loads(line)
    verdict = {"outcome": "failed", "sentence": "expected an answer, seen none.", "blame": "unclear",
               "rule": "expectation", "layer": "signalling", "further": []}
    with open(sys.argv[1], "a") as log:
        log.write(order["args"]["client"] + "\\n")
    say(id=order["id"], result={"verdict": verdict, "seconds": 0.1, "kept": "", "call": None})
"""


def test_side_by_side_the_cells_that_wait_are_dropped_and_nothing_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    monkeypatch.setattr(side_by_side, "WORKER", (sys.executable, "-c", FAKE, str(log)))
    for name in ("aiortc", "pion"):
        monkeypatch.setattr(type(PEERS[name]), "why_absent", lambda _: None)
    target = Target("http://127.0.0.1:1/whip")
    pairs = [Pair(PEERS[name], target, "server") for name in ("ours", "aiortc")]
    heard: list[int] = []
    plan = Plan(pairs, [SCENARIOS["audio"], SCENARIOS["10 calls from one page"]], repeat=4)
    cells = run_side_by_side(plan, lambda _cell, done, _total: heard.append(done), 2)
    calls = log.read_text("utf-8").split()
    assert len(calls) <= 6
    assert [cell.verdict.outcome for cell in cells].count(Outcome.FAILED) == len(calls)
    assert {cell.verdict.outcome for cell in cells} == {Outcome.FAILED, Outcome.UNTRIED}
    assert heard == list(range(1, len(plan) + 1))
