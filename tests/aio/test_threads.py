"""The threads of a program's functions: there as many as are needed, and none of them holds up an end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from stack.aio.threads import LooseThreads, in_thread, unfinished, use_loose_threads

ROOT = Path(__file__).parents[2]
HANGS = """
import asyncio, time
from stack.aio.threads import in_thread, unfinished, use_loose_threads


async def main():
    use_loose_threads(asyncio.get_running_loop())
    for work in (in_thread(time.sleep, 3600), asyncio.to_thread(time.sleep, 3600)):
        try:
            await asyncio.wait_for(work, 0.05)
        except TimeoutError:
            print(unfinished())


asyncio.run(main())
print("ended")
"""


def test_neither_the_loop_nor_the_process_waits_for_a_function() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "['sleep']\n['sleep', 'sleep']\nended\n"


@pytest.fixture
def threads() -> LooseThreads:
    return LooseThreads()


def test_a_thread_serves_again(threads: LooseThreads) -> None:
    assert len({threads.submit(threading.get_ident).result(30) for _ in range(20)}) == 1


def test_a_function_waits_for_no_other(threads: LooseThreads) -> None:
    together = threading.Barrier(20)  # passed by none until all are there
    futures = [threads.submit(together.wait) for _ in range(20)]
    assert sorted(future.result(30) for future in futures) == list(range(20))


def test_there_are_not_more_than_a_bound(threads: LooseThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.aio.threads.MAX_THREADS", 2)
    go_on = threading.Event()
    begun: list[Future[bool]] = [threads.submit(go_on.wait) for _ in range(2)]
    later = threads.submit(int)
    assert not later.running()
    go_on.set()
    assert later.result(30) == 0
    assert all(each.result(30) for each in begun)


def test_a_thread_without_work_ends(threads: LooseThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.aio.threads.IDLE_SECONDS", 0.01)
    thread = threads.submit(threading.current_thread).result(30)
    thread.join(30)
    assert not thread.is_alive()
    assert threads.submit(int).result(30) == 0


def test_what_waits_at_the_end_is_cancelled_and_nothing_else_taken(
    threads: LooseThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stack.aio.threads.MAX_THREADS", 1)
    begun, go_on = threading.Event(), threading.Event()
    first = threads.submit(lambda: begun.set() or go_on.wait())
    assert begun.wait(30)
    second = threads.submit(int)
    threads.shutdown()
    assert second.cancelled()
    with pytest.raises(RuntimeError, match="no work any more"):
        threads.submit(int)
    go_on.set()
    assert first.result(30)


async def test_what_runs_is_named() -> None:
    go_on, begun = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    use_loose_threads(loop)

    def thinks() -> str:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait()
        return "done"

    assert unfinished() == []
    work = asyncio.create_task(in_thread(thinks))
    await begun.wait()
    assert unfinished() == ["test_what_runs_is_named.<locals>.thinks"]
    go_on.set()
    assert await work == "done"
