"""An event loop on which waiting takes no time: its clock jumps to the next deadline when nothing is left to do.

While a function runs in one of its threads (`asyncio.to_thread`), the clock stands still. Sockets are refused:
they would be waited for in real time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from stack.aio.threads import unfinished, use_loose_threads
from stack.core.errors import LocalError

TICK = 1e-9
"""Seconds that a round of the loop takes.

asyncio wakes sleepers up to so much early (its clock's resolution): one that sleeps again for the rest would do so
for ever if no time passed.
"""
THREAD_PATIENCE = 300.0
"""Seconds of real time that functions in threads have, until it is said that they do not return."""
END_PATIENCE = 60.0
"""Seconds of virtual time that all tasks have to end once it is known that the call cannot go on."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`time()` begins at 1000.0 and passes only between deadlines."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.threads = 0
        """Functions that run in threads at this moment."""
        super().__init__(_JumpingSelector(self))
        use_loose_threads(self)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.now

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run a function in a thread; the clock stands still until it has returned."""
        future: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)
        self.threads += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Close the threads: in real time, as they run in it."""
        self.threads += 1
        await super().shutdown_default_executor()
        self.threads -= 1

    def _thread_done(self, _: object) -> None:
        self.threads = max(0, self.threads - 1)


class _JumpingSelector(selectors.BaseSelector):
    """Waits for nothing but threads."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._inner = selectors.DefaultSelector()
        self._failure = ""
        self._until = 0.0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a file."""
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Watch it no more."""
        return self._inner.unregister(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; where nothing is, let the time pass that would be waited."""
        ready = self._inner.select(0)
        if ready or (timeout is not None and timeout <= 0):
            if not self._loop.threads:
                self._loop.now += TICK
            return ready
        if len(self._inner.get_map()) > 1 and not self._failure:  # one is the loop's own
            self._fail("this program uses the network, which virtual time cannot wait for: say virtual=False")
        if self._loop.threads:
            returned = self._inner.select(THREAD_PATIENCE)
            if returned:
                return returned
            self._loop.threads = 0  # they are left, so that the rest can end
            names = ", ".join(unfinished()) or "a function in a thread"
            self._fail(f"{names} has not returned in {THREAD_PATIENCE:g} s")
        if timeout is None:
            self._fail("nothing will happen any more: the program and the test both wait for ever")
        self._loop.now += timeout
        if self._failure and self._loop.now > self._until:
            raise LocalError(self._failure)
        return []

    def _fail(self, why: str) -> NoReturn:
        if not self._failure:
            self._failure, self._until = why, self._loop.now + END_PATIENCE
        raise LocalError(self._failure)

    def close(self) -> None:
        """Close it."""
        self._inner.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return what is watched."""
        return self._inner.get_map()
