"""Calls come and go through two workers, one of which is killed again and again: nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from stack.agents import echo
from stack.aio import HostConfig
from stack.aio.steering import Steering
from stack.core.errors import StackError
from stack.signaling.client import ClientCall, DialConfig, dial
from stack.signaling.server import ServeConfig, Serving, SignalingConfig, serving
from tests.listening import until
from tests.signaling.workers import STEERINGS

pytestmark = [
    pytest.mark.real_clock,
    pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc"),
]

UNLIMITED = SignalingConfig(offers_per_second=1e6, offers_per_client=1e6, calls_per_client=100_000)


def descriptors(pid: int | str) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:"))


async def one_call(url: str, limit: asyncio.Semaphore) -> bool:
    """Place a call and hang it up; return whether it came about: one whose worker is killed does not."""
    async with limit:
        with contextlib.suppress(StackError, TimeoutError):
            async with dial(url, DialConfig()) as placed:
                await asyncio.wait_for(placed.call.wait_connected(), 2.0)
                return True
    return False


async def standing_on(server: Serving, stack: contextlib.AsyncExitStack, amount: int) -> list[ClientCall]:
    placed = [await stack.enter_async_context(dial(server.url)) for _ in range(2 * amount)]
    for each in placed:
        await each.call.wait_connected()
    return placed


@pytest.mark.parametrize(
    ("calls", "kills", "standing"),
    [(20, 2, 1), pytest.param(1000, 10, 10, marks=pytest.mark.slow)],
    ids=["a few", "many"],
)
@pytest.mark.parametrize("steering", STEERINGS)
async def test_calls_come_and_go_while_one_of_two_workers_is_killed(
    steering: Steering, calls: int, kills: int, standing: int
) -> None:
    media = HostConfig(udp_port=0, workers=2, steering=steering)
    config = ServeConfig(port=0, media=media, signaling=UNLIMITED)
    tasks, own = len(asyncio.all_tasks()), descriptors("self")
    async with (
        asyncio.timeout(600),
        serving(echo, config) as server,
    ):
        pool: Any = server.host._media
        table: Any = server.host._table
        killed, other = pool.links
        async with contextlib.AsyncExitStack() as stack:
            await standing_on(server, stack, standing)
            kept = [hosted.call for hosted in table.calls.values() if hosted.link is other]
            assert len(kept) == standing
            before, memory = descriptors(other.pid), resident_kb(other.pid)
            limit, came = asyncio.Semaphore(4), 0
            for _ in range(kills):
                placing = [asyncio.create_task(one_call(server.url, limit)) for _ in range(calls // kills)]
                await asyncio.wait(placing[: len(placing) // 2])
                former = killed.pid
                os.kill(former, signal.SIGKILL)
                came += sum(await asyncio.gather(*placing))
                await until(lambda: killed.is_up and killed.pid != former)  # noqa: B023
            assert came >= calls // 2
            assert not any(call.ended for call in kept)
            await until(lambda: len(table.calls) == standing, 40)
            await until(lambda: descriptors(other.pid) <= before, 40)  # each call's connected socket is closed
            assert other.load == standing
            assert killed.load == 0
            assert resident_kb(other.pid) - memory < 4096 + 2 * calls
            for call in kept:  # each still answers
                await call.stats()
            tally = await server.host.tally()
            assert tally.counters["worker.lost"] == kills
            assert tally.totals.calls >= came // 2
            pids = [link.pid for link in pool.links]
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    assert descriptors("self") <= own + 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
