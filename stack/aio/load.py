"""How busy the thread is that carries the media, told once a second to what follows it (encoder complexity).

The load is the thread's own processor time as a share of a core: what other threads take is not in it. The
selector of the loop (`coalescing.py`) looks at the same clock ten times a second, for a choice that may change as
often; what is heard may not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

INTERVAL = 1.0
"""Seconds from one look to the next."""


class LoadWatch:
    """Calls `tell(load)` every `INTERVAL` on the running loop, whose thread it measures.

    `spent` returns seconds of that thread's processor time.
    """

    def __init__(self, tell: Callable[[float], None], spent: Callable[[], float] = time.thread_time) -> None:
        self.load = 0.0
        """Of the last interval, 0 to 1."""
        self._tell = tell
        self._read_spent = spent
        self._loop = asyncio.get_running_loop()
        self._looked, self._spent = self._loop.time(), spent()
        self._timer = self._loop.call_later(INTERVAL, self._look)

    def _look(self) -> None:
        now, spent = self._loop.time(), self._read_spent()
        self.load = min(1.0, (spent - self._spent) / max(now - self._looked, 1e-9))
        self._looked, self._spent = now, spent
        self._timer = self._loop.call_later(INTERVAL, self._look)
        self._tell(self.load)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()
