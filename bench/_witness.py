"""What held a process up when it was late: itself, other processes, or the machine.

    python -m bench._witness PID        pinned to one core; ends with its input

A witness is a real-time process on one core that wakes 200 times a second. Nothing that is asked of a server can
keep it waiting: when it is late itself, the hypervisor or the kernel had the core. It does the same small piece of
work each time: when that takes longer, the core is slow, which processor time does not tell. And it notes how long
the watched process has run and has waited for a core until then (proc(5), `schedstat`). Together they say of a gap
that was seen elsewhere for how long the process computed in it, for how long it was ready and had no core, and
what the cores were like; for the rest it slept.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

EVERY = 0.005
"""Seconds between two looks."""
WORK = range(500)
"""What is added up each time: some 20 µs."""
AWAY, SLOW = 5.0, 2.0
"""Milliseconds, and times, up to which a core counts as whole."""
PRIORITY = 3
"""Above that of a load and its server (`--realtime`)."""


class Look(NamedTuple):
    """One wake-up: when (seconds of the real time clock), and in milliseconds how late, how long the work took,
    and what the process had done by then.
    """

    at: float
    late: float
    worked: float
    ran: float
    waited: float


@dataclass(frozen=True, slots=True)
class Account:
    """What was going on in a gap; times in milliseconds."""

    ran: float
    """The process computed."""
    waited: float
    """It was ready, and had no core."""
    late: float
    """The witness waited as well: no process could have run on that core."""
    slow: float
    """How many times as long as usual the work of the witness took, on average."""

    @property
    def has_whole_core(self) -> bool:
        """False if the machine's core was away for long, or at less than half its speed."""
        return self.late <= AWAY and self.slow <= SLOW


class Witness:
    """The looks of one core."""

    def __init__(self, looks: Sequence[Look]) -> None:
        """Take the looks in their order, one at least."""
        self._looks = looks
        self._usual = median(look.worked for look in looks)

    def account(self, end: float, milliseconds: float) -> Account:
        """Return what was going on in the gap that ended then (seconds of the real time clock)."""
        begin = end - milliseconds / 1e3
        first = max(0, bisect_right(self._looks, begin, key=lambda look: look.at) - 1)
        last = min(len(self._looks) - 1, bisect_left(self._looks, end, key=lambda look: look.at))
        before, after = self._looks[first], self._looks[last]
        within = self._looks[first : last + 1]
        late, worked = max(look.late for look in within), fmean(look.worked for look in within)
        return Account(after.ran - before.ran, after.waited - before.waited, late, worked / self._usual)


class Watch:
    """Witnesses on some cores that watch a process until `stop`; they need the right to be real-time processes."""

    def __init__(self, pid: int, cores: Sequence[int]) -> None:
        self._processes = [
            subprocess.Popen(
                ["taskset", "-c", str(core), sys.executable, "-m", "bench._witness", str(pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parent.parent,
            )
            for core in cores
        ]
        for process in self._processes:
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
        self._witnesses: list[Witness] = []

    def stop(self) -> None:
        """Have the witnesses tell what they saw, and end."""
        for process in self._processes:
            told, _ = process.communicate("")
            looks = [Look(*look) for look in json.loads(told or "[]")]
            if looks:
                self._witnesses.append(Witness(looks))

    def account(self, end: float, milliseconds: float) -> Account | None:
        """Return what was going on in a gap that ended then, for the worse of the cores; None if none was seen."""
        seen = [witness.account(end, milliseconds) for witness in self._witnesses]
        if not seen:
            return None
        late, slow = max(each.late for each in seen), max(each.slow for each in seen)
        return Account(seen[0].ran, seen[0].waited, late, slow)


@contextlib.contextmanager
def watching(pid: int, cores: Sequence[int]) -> Iterator[Watch]:
    """Context: a process is watched; when it is over, what was seen can be asked for."""
    watch = Watch(pid, cores)
    try:
        yield watch
    finally:
        watch.stop()


def main() -> None:
    """Look until the input ends, then print the looks as JSON."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
    looks: list[Look] = []
    print("LOOKING", flush=True)
    with open(f"/proc/{int(sys.argv[1])}/schedstat", "rb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            due = time.monotonic() + EVERY
            if select.select([sys.stdin], [], [], EVERY)[0]:
                break
            woken = time.monotonic()
            sum(WORK)
            worked = time.monotonic() - woken
            ran, waited, _ = file.read().split()
            file.seek(0)
            took = ((woken - due) * 1e3, worked * 1e3, int(ran) / 1e6, int(waited) / 1e6)
            looks.append(Look(time.time(), *took))
    json.dump(looks, sys.stdout)


if __name__ == "__main__":
    main()
