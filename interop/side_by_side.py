"""`--jobs`: cells of different peers at the same time, each in a process of its own (`interop.worker`).

A cell mostly waits: for timers, for sound. What only one of them may have is named by `Pair.resources`: a browser
or a peer. Scenarios that measure load or time (`Scenario.is_alone`) run when nothing else does. A cell that is red
beside others is tried once more alone, and that verdict counts: what a busy machine breaks is no finding.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from interop.lab import LabError, ProcessLab, process
from interop.runner import PATIENCE, Cell, Note, Pair, Plan, Task, empty_cell, given_up, without_a_call
from interop.verdict import Outcome, Verdict
from interop.worker import order_of

WORKER = (sys.executable, "-m", "interop.worker")
START_SECONDS = 4.0
"""About what the ends of a cell take to start; only to guess which peer takes longest."""
FAREWELL = 10.0
"""Seconds in which a worker that is told to stop ends its cell's processes."""
MAX_JOBS = 64


def run_side_by_side(plan: Plan, note: Note, jobs: int) -> Sequence[Cell]:
    """Run everything, up to `jobs` cells at once; `plan.cells` is in the order of the plan, whatever happens."""
    run = SideBySide(plan, note)
    try:
        asyncio.run(run.run(jobs))
    finally:
        # What was red beside others and could not be tried again counts as it is.
        plan.close({**run.first, **run.done})
    return plan.cells


class Schedule:
    """Which cell is next: that of the peer with the most work left, among those whose resources are free.

    A browser stays with the worker that began with it, which keeps it, for as long as there are cells of it.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._beside: dict[frozenset[str], deque[Task]] = {}
        self._alone: deque[Task] = deque()
        self._running: list[Task] = []
        self._keepers: dict[frozenset[str], int] = {}
        for task in tasks:
            if task.scenario.is_alone:
                self.add_alone(task)
            else:
                self._beside.setdefault(task.pair.resources, deque()).append(task)
        self._seconds = {key: sum(_guess(task) for task in waiting) for key, waiting in self._beside.items()}

    def add_alone(self, task: Task) -> None:
        """A cell that runs when no other does, after all those that can run beside others."""
        self._alone.append(replace(task, scenario=replace(task.scenario, is_alone=True)))

    @property
    def is_over(self) -> bool:
        """Nothing waits and nothing runs."""
        return not (self._alone or self._running or any(self._beside.values()))

    def take(self, worker: int) -> Task | None:
        """The next cell of a worker, which runs from now on; None: wait until one is done."""
        if any(task.scenario.is_alone for task in self._running):
            return None
        held = frozenset[str]().union(*(task.pair.resources for task in self._running))
        free = [
            key
            for key, waiting in self._beside.items()
            if waiting and not key & held and self._keepers.get(key, worker) == worker
        ]
        if free:
            key = max(free, key=lambda each: (each in self._keepers, self._seconds[each]))
            task = self._beside[key].popleft()
            self._seconds[key] -= _guess(task)
            if task.pair.is_kept and self._beside[key]:
                self._keepers[key] = worker
            else:
                self._keepers.pop(key, None)
        elif self._alone and not self._running:
            task = self._alone.popleft()
        else:
            return None
        self._running.append(task)
        return task

    def end(self, task: Task) -> None:
        """A cell runs no longer."""
        self._running.remove(task)

    def drop(self, pair: Pair) -> list[Task]:
        """The cells of a pair that wait, which are not run."""
        found = []
        for waiting in (*self._beside.values(), self._alone):
            dropped = [task for task in waiting if task.pair == pair]
            for task in dropped:
                waiting.remove(task)
            found += dropped
        return found

    def leave(self, worker: int) -> None:
        """A worker has died: what it kept another may take."""
        self._keepers = {key: keeper for key, keeper in self._keepers.items() if keeper != worker}


def _guess(task: Task) -> float:
    return task.scenario.seconds + START_SECONDS


class SideBySide:
    """One run of a plan."""

    def __init__(self, plan: Plan, note: Note) -> None:
        self.done: dict[int, Cell] = {}
        self.first: dict[int, Cell] = {}
        """What was red beside others, until it has been tried alone."""
        self._plan = plan
        self._total = len(plan)
        self._note = note
        self._changed = asyncio.Condition()

    async def run(self, jobs: int) -> None:
        """Run everything."""
        tasks = []
        for task in self._plan.tasks():
            cell = without_a_call(task.pair, task.scenario)
            if cell is None:
                tasks.append(task)
            else:
                self._finish(task, cell)
        schedule = Schedule(tasks)
        async with asyncio.TaskGroup() as group:
            for number in range(min(jobs, len(tasks))):
                group.create_task(self._work(schedule, number))

    def _finish(self, task: Task, cell: Cell) -> None:
        self.done[task.number] = cell
        self._note(cell, len(self.done), self._total)

    async def _work(self, schedule: Schedule, number: int) -> None:
        """Have a worker run one cell after the other; one that dies is replaced."""
        while not schedule.is_over:
            async with self._new_worker() as worker:
                while (task := await self._next(schedule, number)) is not None:
                    cell, lives = await self._run(worker, task)
                    async with self._changed:
                        schedule.end(task)
                        self._take(schedule, task, cell)
                        if not lives:
                            schedule.leave(number)
                        self._changed.notify_all()
                    if not lives:
                        break

    async def _next(self, schedule: Schedule, worker: int) -> Task | None:
        async with self._changed:
            while not schedule.is_over:
                task = schedule.take(worker)
                if task is not None:
                    return task
                await self._changed.wait()
        return None

    def _take(self, schedule: Schedule, task: Task, cell: Cell) -> None:
        # A server that is elsewhere is called by one cell at a time: nothing was beside it.
        had_company = not task.scenario.is_alone and not task.pair.server.is_elsewhere
        if cell.verdict.outcome.is_red and had_company:
            self.first[task.number] = cell
            schedule.add_alone(task)
            return
        first = self.first.pop(task.number, None)
        if first is not None and not cell.verdict.outcome.is_red and cell.call is not None:
            told = {"beside other cells it failed": f"{first.verdict.sentence} {first.kept}".strip()}
            cell.call = {**cell.call, "measured": {**cell.call["measured"], **told}}
        self._finish(task, cell)
        self._plan.first_calls.saw(task.pair, cell)
        if self._plan.first_calls.why_not(task.pair) is not None:
            for left in schedule.drop(task.pair):
                untried = given_up(self._plan, left)
                assert untried is not None
                self._finish(left, untried)

    def _new_worker(self) -> AbstractAsyncContextManager[ProcessLab]:
        return process("worker", WORKER, FAREWELL)

    async def _run(self, worker: ProcessLab, task: Task) -> tuple[Cell, bool]:
        """Run a cell; whether the worker lives on."""
        order = order_of(task.pair, self._plan)
        order |= {"scenario": task.scenario.name, "seed": self._plan.seed + task.round_, "round_": task.round_}
        try:
            told = await worker.do("run", patience=task.scenario.seconds + 2 * PATIENCE, **order)
        except LabError as error:
            return empty_cell(task.pair, task.scenario, Verdict(Outcome.BROKEN, str(error))), False
        cell = empty_cell(task.pair, task.scenario, Verdict.from_json(told["verdict"]))
        cell.seconds, cell.kept, cell.call = told["seconds"], told["kept"], told["call"]
        return cell, True
