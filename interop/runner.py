"""Runs scenarios: one call at a time, each with two ends and a tap, and draws the verdict from what was seen.

`interop.side_by_side` runs several at once, in processes of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from interop import known_faults
from interop.call_summary import call_as_json
from interop.diagnosis import diagnose
from interop.evidence import SIDES, Evidence, Side, other
from interop.giving_up import FirstCalls
from interop.inside import watching
from interop.peers.base import AbsentError, EndError, Peer, Traits, UnsupportedError, Wishes
from interop.scenarios import Scenario
from interop.tap import Tap, machine_address
from interop.trial import Trial
from interop.verdict import LAYERS, Blame, Finding, Outcome, Unexpected, Verdict, printable

OURS = "ours"
PATIENCE = 60.0
"""Seconds beyond what a scenario takes after which it is given up."""
TOO_LONG = 1.0
"""Seconds for which the harness may have stood still in a call, if that is to blame an end for a failure."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Who calls whom; `peer` is the one that is tried, on `side`."""

    client: Peer
    server: Peer
    side: Side

    @property
    def peer(self) -> Peer:
        """The one that is tried."""
        return self.client if self.side == "client" else self.server

    @property
    def label(self) -> str:
        """The row of the matrix."""
        return f"{self.client.name} → {self.server.name}"

    @property
    def resources(self) -> frozenset[str]:
        """What its calls need of this machine that no other cell may have meanwhile."""
        needed = {peer.resource for peer in (self.client, self.server) if peer.name != OURS}
        return frozenset(needed or {OURS})

    @property
    def is_kept(self) -> bool:
        """Its cells are best run by one worker, which keeps something of it."""
        return self.client.is_kept or self.server.is_kept


@dataclass(slots=True)
class Cell:
    """One scenario with one pair: the verdict and the evidence, or what the report shows of it."""

    pair: str
    peer: str
    version: str
    side: Side
    scenario: str
    verdict: Verdict
    seconds: float = 0.0
    evidence: Evidence | None = None
    call: Mapping[str, Any] | None = None
    """What the report shows of the call, once the evidence is put away."""
    kept: str = ""
    """The folder of what was kept."""


@dataclass(frozen=True, slots=True)
class Task:
    """A cell that is to be run; `number` is its place in the plan."""

    number: int
    pair: Pair
    scenario: Scenario
    round_: int


@dataclass(slots=True)
class Plan:
    """What is to be run."""

    pairs: Sequence[Pair]
    scenarios: Sequence[Scenario]
    repeat: int = 1
    seed: int = 1
    keep: Path | None = None
    done: frozenset[tuple[str, str]] = frozenset()
    """Cells that are left out, by their pair's label and scenario."""
    cells: list[Cell] = field(default_factory=list)
    first_calls: FirstCalls = field(default_factory=FirstCalls)

    def __len__(self) -> int:
        return sum(1 for _ in self.tasks())

    def tasks(self) -> Iterator[Task]:
        """Its cells, pair by pair."""
        number = 0
        for pair in self.pairs:
            for scenario in self.scenarios:
                if (pair.label, scenario.name) in self.done:
                    continue
                for round_ in range(self.repeat):
                    yield Task(number, pair, scenario, round_)
                    number += 1

    def close(self, done: Mapping[int, Cell]) -> None:
        """Take the cells that are done, by their numbers; those that are missing were not tried."""
        why = "the run ended before it was tried"
        self.cells = [
            done.get(task.number) or empty_cell(task.pair, task.scenario, Verdict(Outcome.UNTRIED, why))
            for task in self.tasks()
        ]


Note = Callable[[Cell, int, int], None]
"""Hears of each cell, how many are done and how many there are."""


async def run_plan(plan: Plan, note: Note) -> list[Cell]:
    """Run everything, one cell after the other."""
    total, done = len(plan), dict[int, Cell]()
    try:
        for task in plan.tasks():
            cell = without_a_call(task.pair, task.scenario) or given_up(plan, task)
            if cell is None:
                cell = await run_cell(task.pair, task.scenario, plan.seed + task.round_)
            settle(cell, plan.keep, task.round_)
            plan.first_calls.saw(task.pair, cell)
            done[task.number] = cell
            note(cell, len(done), total)
    finally:
        plan.close(done)
    return plan.cells


def without_a_call(pair: Pair, scenario: Scenario) -> Cell | None:
    """The cell of a peer that is absent, or that cannot be asked for this; None: a call has to be made."""
    for peer in (pair.client, pair.server):
        why = peer.why_absent()
        if why is not None:
            said = why if peer is pair.peer else f"{peer.name}: {why}"
            return empty_cell(pair, scenario, Verdict(Outcome.ABSENT, said))
    why = scenario.unsupported(pair.peer, pair.side)
    return None if why is None else empty_cell(pair, scenario, Verdict(Outcome.UNSUPPORTED, why))


def given_up(plan: Plan, task: Task) -> Cell | None:
    """The cell of a server whose first calls came to nothing; None: a call has to be made."""
    why = plan.first_calls.why_not(task.pair)
    return None if why is None else empty_cell(task.pair, task.scenario, Verdict(Outcome.UNTRIED, why))


def settle(cell: Cell, keep: Path | None, round_: int) -> None:
    """Write what is kept of a failure, and put the evidence away: what the report shows of it stays."""
    if cell.evidence is None:
        return
    if cell.verdict.outcome.is_red and keep is not None:
        _keep(keep, cell, cell.evidence, round_)
    cell.call, cell.evidence = call_as_json(cell.evidence), None


def empty_cell(pair: Pair, scenario: Scenario, verdict: Verdict) -> Cell:
    """A cell of which there is no call."""
    further = tuple(map(printable, verdict.further))
    verdict = replace(verdict, sentence=printable(verdict.sentence), further=further)
    return Cell(pair.label, pair.peer.name, pair.peer.version(), pair.side, scenario.name, verdict)


def _keep(folder: Path, cell: Cell, evidence: Evidence, round_: int) -> None:
    name = "".join(c if c.isalnum() else "-" for c in f"{cell.pair}--{cell.scenario}--{round_ + 1}")
    evidence.notes.append(cell.verdict.sentence)
    try:
        evidence.write(folder / name)
    except OSError as error:
        further = (*cell.verdict.further, f"what was seen could not be kept: {error}")
        cell.verdict = replace(cell.verdict, further=further)
    else:
        cell.kept = name


async def run_cell(pair: Pair, scenario: Scenario, seed: int = 1) -> Cell:
    """Run one scenario with one pair."""
    why = scenario.unsupported(pair.peer, pair.side)
    if why is not None:
        return empty_cell(pair, scenario, Verdict(Outcome.UNSUPPORTED, why))
    began = time.monotonic()
    evidence = Evidence(pair.client.name, pair.server.name)
    try:
        async with asyncio.timeout(scenario.seconds + PATIENCE):
            found = await _call(pair, scenario, seed, evidence)
    except Exception as error:
        verdict = _without_a_call(error, scenario)
        if verdict.outcome is not Outcome.BROKEN:
            return empty_cell(pair, scenario, verdict)
    else:
        verdict = _judged(pair, scenario, evidence, found)
    cell = empty_cell(pair, scenario, verdict)
    cell.seconds, cell.evidence = time.monotonic() - began, evidence
    return cell


def _judged(pair: Pair, scenario: Scenario, evidence: Evidence, found: Finding | None) -> Verdict:
    """The verdict; a rule that falls over what was seen costs its cell alone."""
    try:
        return judge(pair, scenario, evidence, found)
    except Exception as error:
        return Verdict(Outcome.BROKEN, f"a rule cannot read what was seen: {type(error).__name__}: {error}")


def innermost(error: Exception) -> Exception:
    """The first exception of a group that is none itself."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _without_a_call(error: Exception, scenario: Scenario) -> Verdict:
    """What an exception says that is no expectation."""
    error = innermost(error)
    if isinstance(error, UnsupportedError):
        return Verdict(Outcome.UNSUPPORTED, str(error))
    if isinstance(error, AbsentError):
        return Verdict(Outcome.ABSENT, str(error))
    if isinstance(error, TimeoutError):
        hangs = "; ".join(getattr(error.__cause__, "__notes__", ()))  # what was waited for when the time was over
        said = f"no end within {scenario.seconds + PATIENCE:g} s" + (f": {hangs}" if hangs else "")
        return Verdict(Outcome.BROKEN, said)
    return Verdict(
        Outcome.BROKEN, str(error) if isinstance(error, EndError) else f"{type(error).__name__}: {error}"
    )


async def _call(pair: Pair, scenario: Scenario, seed: int, evidence: Evidence) -> Finding | None:
    """Make the call of a scenario; return the expectation that did not hold."""
    found, culprit = None, None
    async with AsyncExitStack() as stack:
        trial = await _prepare(pair, scenario, seed, evidence, stack)
        try:
            await scenario.run(trial)
        except* Unexpected as group:
            found = _first(group).finding
        for each in (
            trial.calls if trial.culprit is None else [t for t in trial.calls if t.evidence is trial.culprit]
        ):
            await _last_words(each)
        culprit = trial.culprit
    if culprit is not None:
        evidence.take(culprit)  # when no tap adds anything to it any more
    return found


def _first(group: BaseExceptionGroup[Unexpected]) -> Unexpected:
    first: Any = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first  # type: ignore[no-any-return]


async def _prepare(pair: Pair, scenario: Scenario, seed: int, evidence: Evidence, stack: AsyncExitStack) -> Trial:
    """Start the ends and the taps of a scenario's calls; return the first call, which knows the others."""
    wishes, host = scenario.wishes, machine_address(scenario.wishes.ip)
    traits: dict[Side, Traits] = {"client": pair.client.traits, "server": pair.server.traits}
    if not all(each.has_data for each in traits.values()):
        wishes = replace(wishes, data=False)
    evidences = [evidence, *(Evidence(evidence.client, evidence.server) for _ in range(scenario.calls - 1))]
    for each in evidences:
        each.speaks = speaking(traits, wishes)
    taps = [await stack.enter_async_context(Tap(each, host, scenario.network, seed)) for each in evidences]
    stack.enter_context(watching(evidence, taps[0], wishes.srtp))
    servers, clients = [
        await stack.enter_async_context(peer.start_many(side, wishes, scenario.calls))
        if scenario.calls > 1
        else [await stack.enter_async_context(peer.start(side, wishes))]
        for peer, side in ((pair.server, SIDES[1]), (pair.client, SIDES[0]))
    ]
    trials = [
        Trial(own, tap, {"server": server, "client": client}, traits, wishes)
        for own, tap, server, client in zip(evidences, taps, servers, clients, strict=True)
    ]
    trials[0].others = trials[1:]
    return trials[0]


def speaking(traits: Mapping[Side, Traits], wishes: Wishes) -> set[Side]:
    """The sides that are known to speak all the time: by order, or as the echo of one that does."""
    told = {side for side in SIDES if traits[side].can_be_asked and not wishes.silent}
    return told | {side for side in SIDES if traits[side].echoes and other(side) in told}


async def _last_words(trial: Trial) -> None:
    """Ask the ends for what they know before the call is taken down."""
    evidence = trial.evidence
    for side, end in trial.ends.items():
        if end.ended is not None and evidence.hung_up_at is None:
            evidence.ends.setdefault(side, end.ended)
        with suppress(EndError, TimeoutError):
            async with asyncio.timeout(5):
                evidence.statistics[side] = await end.statistics()
        every = getattr(end, "levels", [])
        if every:
            evidence.levels[side] = _since_connection(evidence, side, every)
    if evidence.hung_up_at is None:
        evidence.hung_up_at = trial.tap.now()


def _since_connection(evidence: Evidence, side: Side, rms: Sequence[float]) -> list[Any]:
    from interop.evidence import Level

    began = evidence.steps.get(f"{side} connected", 0.0)
    return [Level(began + 0.1 * number, each) for number, each in enumerate(rms)]


def judge(pair: Pair, scenario: Scenario, evidence: Evidence, failed: Finding | None) -> Verdict:
    """Draw the verdict: what the rules find explains an expectation that did not hold, if it sits below it."""
    findings = diagnose(evidence)
    if failed is not None:
        position = LAYERS.index(failed.layer)
        explains = [each for each in findings if LAYERS.index(each.layer) <= position or failed.side is None]
        findings = [*explains, failed, *(each for each in findings if each not in explains)]
    if not findings:
        known = known_faults.find(pair.peer.name, pair.side, scenario.name)
        if known is not None:
            said = f"passes, although known_faults.py says for {known.version}: {known.reason}"
            return Verdict(Outcome.HEALED, said, rule=known.rule)
        return Verdict(Outcome.PASSED, scenario.sentence + _limits(pair.peer))
    return _blame(pair, scenario, findings, evidence.longest_standstill)


def _limits(peer: Peer) -> str:
    """What of a scenario was left out because the peer is no more than it is."""
    traits = peer.traits
    said = "" if traits.can_be_asked else " As far as it shows from this side."
    said += "" if traits.hears else f" {peer.name} sends sound and takes none."
    return said + ("" if traits.has_data else f" {peer.name} has no data channels, and the call was made without.")


def _blame(pair: Pair, scenario: Scenario, findings: Sequence[Finding], standstill: float) -> Verdict:
    first = findings[0]
    known = known_faults.find(pair.peer.name, pair.side, scenario.name)
    further = tuple(each.sentence(_name(pair, each)) for each in findings[1:])
    sentence = first.sentence(_name(pair, first))
    if known is not None and known.rule in ("", first.rule):
        return Verdict(Outcome.KNOWN, f"{known.reason} ({known.version}). {sentence}", Blame.THEIRS, first.rule)
    if standstill > TOO_LONG:
        blame = Blame.UNCLEAR
        sentence = f"The harness itself had no core for {standstill:.1f} s, which may be why: {sentence}"
    elif first.side is None:
        blame = Blame.UNCLEAR
    else:
        blame = Blame.OURS if _at(pair, first.side).name == OURS else Blame.THEIRS
    return Verdict(Outcome.FAILED, sentence, blame, first.rule, further, first.layer.value)


def _at(pair: Pair, side: Side) -> Peer:
    return pair.client if side == "client" else pair.server


def _name(pair: Pair, finding: Finding) -> str:
    """Who is meant, so that two ends of the same name can be told apart."""
    if finding.side is None:
        return ""
    name = _at(pair, finding.side).name
    alike = name == _at(pair, other(finding.side)).name
    return f"{name} ({finding.side})" if alike else name
