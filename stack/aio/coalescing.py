"""Fewer wake-ups under load, as network drivers do it: a selector for the loop that carries the media.

A wake-up costs as much as the packet it is for: system calls, and caches that have gone cold. While the loop's
thread is busy, two wake-ups are therefore at least `INTERVAL` apart, and what arrives or falls due between them is
handled together. Nothing waits longer than that for it, and nothing waits at all while the thread is calm.

The handshake of a call is never held back: while one is going on (`SetUps`) there is no pause.

It is the selector that waits, so sockets, timers and calls from other threads are all part of it, and none of them
knows. What it costs and brings: `docs/decisions/0015-coalesced-wakeups.md`.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from typing import Any

INTERVAL = 0.002
"""Seconds between two wake-ups of a busy thread: a tenth of a frame."""
BUSY = 0.1
"""The share of a core from which on wake-ups are coalesced."""
CALM = 0.05
"""The share below which they are not any more; lower, as coalescing itself makes the share fall."""
WINDOW = 0.1
"""Seconds over which the share is measured."""
SET_UP = 3.0
"""Seconds from the beginning of a call for which wake-ups are not coalesced on its account, if it is set up no
sooner: a call that never comes about does not keep its thread from coalescing."""
AFTER = 0.3
"""Seconds for which they are not when it is: SCTP's handshake follows that of DTLS."""


class CoalescingSelector(selectors.DefaultSelector):
    """The platform's selector, with the pause. `select` belongs to one thread, whose processor time is measured.

    `clock` and `spent` return seconds of time and of the thread's processor time, `sleep` waits.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.thread_time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__()
        self.share = 0.0
        """How much of a core the thread has taken in the latest window, 0 to 1."""
        self.is_coalescing = False
        self.urgent_until = 0.0
        """Until this instant of `clock` nothing is held back."""
        self._clock, self._read_spent, self._sleep = clock, spent, sleep
        self._woken = self._measured = clock()
        self._spent: float | None = None  # at the latest measurement; none before the thread's first `select`

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, Any]]:
        """Wait as any selector does; while the thread is busy, at least until the pause is over."""
        if self.is_coalescing and (timeout is None or timeout > 0):
            now = self._clock()
            pause = self._woken + INTERVAL - now
            if pause > 0 and now >= self.urgent_until:
                self._sleep(pause)
                if timeout is not None:
                    timeout = max(0.0, timeout - pause)
        ready = super().select(timeout)
        now = self._woken = self._clock()
        if now - self._measured >= WINDOW:
            self._measure(now)
        return ready

    def _measure(self, now: float) -> None:
        spent = self._read_spent()
        if self._spent is not None:
            self.share = (spent - self._spent) / (now - self._measured)
            self.is_coalescing = self.share >= (CALM if self.is_coalescing else BUSY)
        self._measured, self._spent = now, spent


class MediaLoop(asyncio.SelectorEventLoop):
    """An event loop for media: it watches sockets on every platform, and coalesces its wake-ups."""

    def __init__(self) -> None:
        self.coalescing = CoalescingSelector()
        super().__init__(self.coalescing)


class SetUps:
    """The calls of the running loop that are being set up."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._calls)

    def begin(self, call_id: str) -> None:
        """A call begins."""
        self._calls.add(call_id)
        self._hurry_until(SET_UP)

    def end(self, call_id: str) -> None:
        """A call is set up, or over."""
        self._calls.discard(call_id)
        if not self._calls:
            self._hurry_until(AFTER)

    def _hurry_until(self, seconds: float) -> None:
        if isinstance(self._loop, MediaLoop):
            self._loop.coalescing.urgent_until = self._loop.time() + seconds
