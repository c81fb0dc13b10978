"""Whether anything comes from a server: noticed within half a second, as the page does (`stack/web/call.js`).

A program that is silent sends nothing, and that is no loss: so after `PING_AFTER` a message is sent on the channel
`events`, which a server that is there acknowledges within a round trip. Without that channel only its answers to
checks are there, each few seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from stack.core.errors import StackError
from stack.voice.statistics import CallStatistics

LOOK_EVERY = 0.05
"""Seconds between two looks at what has come."""
PING_AFTER = 0.25
SILENT_AFTER = 0.5
"""Seconds without a packet, if the message was not acknowledged either."""
CONSENT_PERIOD = 6.0
"""Seconds in which a server without the channel answers a check (RFC 7675 §5.1)."""


class LastArrival:
    """When something came last, by looks at a call; times in seconds, by a clock of the caller's choice."""

    def __init__(self, now: float) -> None:
        self.is_silent = False
        self._packets = -1
        self._came = now
        self._pinged: float | None = None

    def look(self, packets: int, round_trip: float, now: float) -> None:
        """Take how many packets have come so far, and how long a round trip takes."""
        if packets != self._packets:
            self._packets, self._came, self._pinged, self.is_silent = packets, now, None, False
            return
        silence = now - self._came
        waited = now - self._pinged if self._pinged is not None else silence - CONSENT_PERIOD
        patience = max(SILENT_AFTER - PING_AFTER - LOOK_EVERY, 2 * round_trip)
        self.is_silent = silence > SILENT_AFTER and waited > patience

    def wants_ping(self, now: float) -> bool:
        """Return True if the message is to be sent that a server acknowledges."""
        return self._pinged is None and now - self._came > PING_AFTER

    def note_ping(self, now: float) -> None:
        """It was sent."""
        self._pinged = now


class SilenceWatch:
    """Looks at what comes: `silent` is set while nothing does, `heard` while something does.

    `stats` are the call's, `ping` sends the message and may raise `StackError`. Use `run` as a task, which returns
    when the call's statistics are gone.
    """

    def __init__(
        self, stats: Callable[[], Awaitable[CallStatistics]], ping: Callable[[], Awaitable[None]]
    ) -> None:
        self.silent = asyncio.Event()
        self.heard = asyncio.Event()
        self._stats = stats
        self._ping = ping

    async def run(self) -> None:
        """Look until the call is closed."""
        clock = asyncio.get_running_loop().time
        silence = LastArrival(clock())
        with suppress(StackError):
            while True:
                report = await self._stats()
                silence.look(report.session.transport.packets_received, report.round_trip_time or 0.0, clock())
                now_set, now_clear = (self.silent, self.heard) if silence.is_silent else (self.heard, self.silent)
                now_set.set()
                now_clear.clear()
                if silence.wants_ping(clock()):
                    with suppress(StackError):  # the channel is closed, or was never there
                        await self._ping()
                        silence.note_ping(clock())
                await asyncio.sleep(LOOK_EVERY)
