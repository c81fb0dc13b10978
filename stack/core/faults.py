"""Exceptions that the code around a machine survives: counted, and kept for the log.

A machine never raises for what a peer sends; when it does all the same, that is a bug on our side, and it costs
the one datagram. Code that feeds machines notes it here, and the edge, which may log, drains what is new. Each
place in the code is told of once a minute, or a stranger who has found a bug could fill the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stack.core.counters import CounterName, Counters
from stack.core.machine import Instant

LOG_INTERVAL = 60.0
"""Seconds between two reports of exceptions from one place."""
MAX_PLACES = 256
"""Places remembered; when there are more, all are forgotten, so that the log is never without the newest."""


class Fault(NamedTuple):
    """What was raised, and what its survivor was doing."""

    doing: str
    error: Exception


class Faults:
    """Counts exceptions, and keeps at most one a minute of each place in the code."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._told: dict[tuple[str, str, int], Instant] = {}
        self._fresh: list[Fault] = []

    def note(self, counter: CounterName, error: Exception, now: Instant) -> None:
        """Take an exception; `counter` is named `fault_` and what the survivor was doing."""
        self._counters.add(counter)
        doing = counter.partition("fault_")[2]
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        place = (doing, "", 0)
        if traceback is not None:
            place = (doing, traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
        told = self._told.get(place)
        if told is not None and now - told < LOG_INTERVAL:
            return
        if told is None and len(self._told) >= MAX_PLACES:
            self._told.clear()
        self._told[place] = now
        self._fresh.append(Fault(doing, error))

    def drain(self) -> Sequence[Fault]:
        """Return what is to be logged since the last call."""
        if not self._fresh:
            return ()
        fresh, self._fresh = self._fresh, []
        return fresh
