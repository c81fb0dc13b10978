"""A function of the user's in a worker thread, whatever it raises, and however long it takes.

Neither the loop nor the process waits for it at its end: a model that does not answer would hold up Ctrl-C for
ever. The threads of `concurrent.futures` are waited for, so these are others.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import inspect
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

P = ParamSpec("P")
T = TypeVar("T")

UNFIT = (
    StopIteration,  # no future takes it: what awaits it would wait for ever
    concurrent.futures.CancelledError,  # would look like the cancellation of what awaits it,
    asyncio.CancelledError,  # and so would this
    SystemExit,  # would end the event loop, and with it every call,
    KeyboardInterrupt,  # and so would this
    GeneratorExit,  # would look like the end of what awaits it
)
"""What a function may raise and an event loop takes for something else."""
MAX_THREADS = 128
"""Functions that run at once for one loop; further ones wait. Most of them wait for a server, not for a core."""
IDLE_SECONDS = 10.0
"""After so long without work a thread ends."""


async def in_thread(function: Callable[P, T], /, *args: P.args, **named: P.kwargs) -> T:
    """Return what `function` returns in a worker thread; what it raises is raised, `UNFIT` as a `RuntimeError`."""
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    call = partial(context.run, _called, function, *args, **named)
    return await loop.run_in_executor(_threads_of(loop), call)


def use_loose_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Have `asyncio.to_thread` on a loop of ours run in such threads, too."""
    loop.set_default_executor(_threads_of(loop))


def unfinished() -> list[str]:
    """Return the names of the functions that run in threads of the running loop."""
    threads = _of_loops.get(asyncio.get_running_loop())
    return [] if threads is None else threads.unfinished()


class LooseThreads(concurrent.futures.ThreadPoolExecutor):
    """Daemon threads, made when they are needed. `shutdown` does not wait for what runs.

    It is a `ThreadPoolExecutor` because a loop takes nothing else for its default; nothing of that is used.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[concurrent.futures.Future[Any], Callable[[], Any]]] = deque()
        self._count = self._idle = 0
        self._closed = False
        self._running: dict[int, Callable[[], Any]] = {}

    def submit(
        self, function: Callable[P, T], /, *args: P.args, **named: P.kwargs
    ) -> concurrent.futures.Future[T]:
        """Have a function run soon."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        call = partial(function, *args, **named) if args or named else function
        with self._changed:
            if self._closed:
                raise RuntimeError("these threads take no work any more")
            if self._idle <= len(self._waiting) and self._count < MAX_THREADS:
                threading.Thread(target=self._work, name="function of a program", daemon=True).start()
                self._count += 1
            self._waiting.append((future, call))
            self._changed.notify()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; what waits is cancelled, what runs goes on by itself."""
        with self._changed:
            self._closed = True
            while self._waiting:
                self._waiting.popleft()[0].cancel()
            self._changed.notify_all()

    def unfinished(self) -> list[str]:
        """Return the names of the functions that run."""
        with self._changed:
            return sorted(_name_of(call) for call in self._running.values())

    def _work(self) -> None:
        while (work := self._next()) is not None:
            self._do(*work)
            del work  # nothing of it is kept while this thread waits

    def _next(self) -> tuple[concurrent.futures.Future[Any], Callable[[], Any]] | None:
        with self._changed:
            self._running.pop(threading.get_ident(), None)
            self._idle += 1
            has_work = self._changed.wait_for(lambda: self._waiting or self._closed, IDLE_SECONDS)
            self._idle -= 1
            if not has_work or not self._waiting:
                self._count -= 1
                return None
            future, call = self._waiting.popleft()
            self._running[threading.get_ident()] = call
            return future, call

    def _do(self, future: concurrent.futures.Future[Any], call: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = call()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, LooseThreads] = WeakKeyDictionary()


def _threads_of(loop: asyncio.AbstractEventLoop) -> LooseThreads:
    threads = _of_loops.get(loop)
    if threads is None:
        threads = _of_loops[loop] = LooseThreads()
    return threads


def _called(function: Callable[P, T], /, *args: P.args, **named: P.kwargs) -> T:
    try:
        return function(*args, **named)
    except UNFIT as error:
        said = f": {error}" if str(error) else ""
        raise RuntimeError(f"the function raised {type(error).__name__}{said}") from error


def _name_of(call: Callable[[], Any]) -> str:
    """Return the name of the user's function in a call of `in_thread` or `asyncio.to_thread`."""
    named: object = call
    for each in getattr(call, "args", ()):
        if each is not _called and each is not next and (callable(each) or inspect.isgenerator(each)):
            named = each
            break
    return getattr(named, "__qualname__", None) or repr(named)
