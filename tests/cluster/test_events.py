"""What the caller hears when a part is killed, shut down or cut off, and for how long: the table of docs/scale.md.

Run it alone, with `-s`, on a machine that is otherwise idle: bounds in seconds are asserted.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from stack.aio import Call, ticket_file
from stack.signaling.client import dial
from tests.cluster.engine import Engine
from tests.cluster.processes import Role
from tests.cluster.test_roles import PATIENCE, Machines, who
from tests.listening import until

pytestmark = [pytest.mark.slow, pytest.mark.real_clock]
AUDIBLE = 1000
SETTLE = 2.0
"""Seconds of sound before and after an event."""


class Hearing:
    """What a caller hears, and is told, over time."""

    def __init__(self, call: Call) -> None:
        self.loop = asyncio.get_running_loop()
        self.heard: list[float] = []
        self.told: list[tuple[float, str]] = []
        self.call = call
        self._tasks = [asyncio.ensure_future(self._listen()), asyncio.ensure_future(self._read())]

    async def _listen(self) -> None:
        async for frame in self.call.microphone:
            if np.abs(frame.samples).max() > AUDIBLE:
                self.heard.append(self.loop.time())

    async def _read(self) -> None:
        async for message in await self.call.channels.wait_for("events"):
            said = json.loads(message)
            if said.get("type") == "program":
                self.told.append((self.loop.time(), said["state"]))

    async def sound(self, seconds: float = SETTLE) -> None:
        """Return when so much more was heard."""
        wanted = len(self.heard) + int(seconds / 0.02)
        await until(lambda: len(self.heard) >= wanted, PATIENCE + seconds)

    async def taken_over(self, node: Role) -> None:
        """Return when another process has the call. Where none comes to have it, the failure says why.

        A machine that is too busy for its own messages takes no process for dead (`Backbone.is_up`), and a call
        that none takes in time is ended: then a longer wait is of no use.
        """
        with suppress(TimeoutError):
            await until(lambda: self._was_told("continued") or self.call.ended, PATIENCE)
        state = "is over" if self.call.ended else "goes on"
        assert self._was_told("continued"), f"told {self.told}, the call {state}; the node said:\n{node.said}"

    def _was_told(self, state: str) -> bool:
        return any(said == state for _, said in self.told)

    def silence(self, since: float) -> float:
        """Return the longest pause that ended after an instant."""
        times = [each for each in self.heard if each > since - 1.0]
        return max((after - before for before, after in pairwise(times)), default=0.0)

    def told_after(self, since: float, state: str) -> float:
        return next(at - since for at, said in self.told if said == state)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


@pytest.fixture
async def machines(tmp_path: Path) -> AsyncIterator[Machines]:
    engine = Engine(tmp_path / "jetstream")
    engine.start()
    ticket_file.add_epoch(tmp_path / "ticket.key")
    running = Machines(engine, tmp_path / "ticket.key")
    yield running
    await running.close()
    engine.stop()


@asynccontextmanager
async def hearing(url: str) -> AsyncIterator[Hearing]:
    async with dial(url + "/") as ours:
        await asyncio.wait_for(ours.call.wait_connected(), PATIENCE)
        listening = Hearing(ours.call)
        await who(ours.call)
        await listening.sound()
        yield listening
        assert not ours.call.ended
        listening.close()


async def test_a_program_process_is_killed(machines: Machines) -> None:
    node, first = await machines.media("n1"), await machines.agent("--name", "a1")
    async with hearing(node.url) as caller:
        await machines.agent("--name", "a2")
        at = caller.loop.time()
        first.process.kill()
        await caller.taken_over(node)
        await caller.sound()
        lost, continued = caller.told_after(at, "lost"), caller.told_after(at, "continued")
        print(f"\nkilled: told {lost:.2f} s, taken {continued:.2f} s, silence {caller.silence(at):.2f} s")
        assert lost <= 1.0
        assert continued <= 1.5
        assert caller.silence(at) <= 2.0


async def test_a_program_process_stands_still_and_goes_on_again(machines: Machines) -> None:
    """As one that swaps, or whose machine is paused: what it says afterwards is said in no call."""
    node, first = await machines.media("n1"), await machines.agent("--name", "a1")
    async with hearing(node.url) as caller:
        await machines.agent("--name", "a2")
        at = caller.loop.time()
        first.process.send_signal(signal.SIGSTOP)
        try:
            await caller.taken_over(node)
            await caller.sound()
            lost = caller.told_after(at, "lost")
            async with dial(node.url + "/") as other:  # the queue group may still choose the one that stands still
                assert (await who(other.call))["pid"] != first.process.pid
        finally:
            first.process.send_signal(signal.SIGCONT)
        await caller.sound(3.0)
        print(f"\nstands still: told {lost:.2f} s, silence {caller.silence(at):.2f} s")
        assert [said for _, said in caller.told] == ["lost", "continued"]
        assert lost <= 1.0
        assert caller.silence(at) <= 2.0


async def test_a_program_process_is_shut_down(machines: Machines) -> None:
    node = await machines.media("n1")
    first = await machines.agent("--name", "a1", "--drain-seconds", "0.2")
    async with hearing(node.url) as caller:
        await machines.agent("--name", "a2")
        at = caller.loop.time()
        first.process.send_signal(signal.SIGTERM)
        await caller.taken_over(node)
        await caller.sound()
        print(f"\nshut down: silence {caller.silence(at):.2f} s")
        assert caller.silence(at) <= 1.0


async def test_the_engine_is_gone_and_the_program_is_the_nodes_own(machines: Machines) -> None:
    node = await machines.media("n1", 0, "--agent", "tests.cluster.programs:report")
    async with hearing(node.url) as caller:
        at = caller.loop.time()
        machines.engine.stop()
        await caller.sound(4.0)
        print(f"\nengine gone, local program: silence {caller.silence(at):.2f} s")
        assert caller.silence(at) <= 0.3


async def test_the_engine_is_started_again_under_a_program_behind_it(machines: Machines) -> None:
    node = await machines.media("n1")
    await machines.agent()
    async with hearing(node.url) as caller:
        at = caller.loop.time()
        machines.engine.stop()
        await asyncio.get_running_loop().run_in_executor(None, machines.engine.start)
        await caller.sound(4.0)
        print(f"\nengine started again, program behind it: silence {caller.silence(at):.2f} s")
        assert caller.told == []  # the call stays with its process
        assert caller.silence(at) <= 3.0
