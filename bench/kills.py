"""Two media workers, one killed again and again beside standing calls: what the other's calls notice, what is
left.

Twenty calls stand, ten on each worker; their programs always speak. Others come and go through both, and after
each hundred of them the first worker is killed. Its standing calls are over with the first time; those of the
second are measured for the whole time, against their RTP timestamps: a gap of theirs is a lateness. Then memory,
descriptors and processes are held against those from before. Ours alone: no peer has workers.

With `--realtime`, the second table says of the worst gaps what the worker did meanwhile (`bench/_witness.py`):
nothing that the generator does is part of them, as the kernel stamps a packet when the worker sends it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import astuple

from bench._load import Absent, Place, Server, family, memory_kb, ours, place_of
from bench._progress import say
from bench._witness import AWAY, SLOW, Watch, watching
from bench.report import Cell, Options, Table

STANDING = 20
KILLS = 10
CALLS = 100
"""That come and go before each kill."""
SETTLE = 3.0
"""Seconds after the last call until what is left is counted."""
PER_SECOND = 20
CORES = (0, 1)
TITLE = "two workers, one killed again and again beside standing calls"
COLUMNS = (
    "kills",
    "came and went",
    "late p50 ms",
    "p99",
    "p99.9",
    "max",
    "lost",
    "MB",
    "descriptors",
    "processes",
)
GAPS = "the worst gaps in standing calls of the other worker, and what it did meanwhile"
GAPS_SHOWN = 3
"""Of all, and of those that came about on whole cores."""
GAPS_COLUMNS = (
    "s after a kill",
    "late ms",
    "computed",
    "waited for a core",
    "core away",
    "slower, times",
    "whole core",
)
GAPS_NOTES = (
    "Away (ms) and slower (times): what a real-time process met on the worse core; no other process delays it.",
    f"A whole core: away {AWAY:g} ms at most, no more than {SLOW:g} times slower. Else the gap is the machine's.",
)


def run(options: Options) -> Sequence[Table]:
    """Run everything; about two minutes at scale 1."""
    calls = max(10, round(CALLS * options.scale))
    try:
        with place_of(options) as place:
            front = ("--forwarder",) if options.forwarder else ()
            (contestant, *_) = ours("speaking", options, "--sound", str(place.sound), "--workers", "2", *front)
            cores = ",".join(map(str, CORES))
            with place.server(contestant, cores=cores, realtime=False) as server:
                return _measure(place, server, calls)
    except Absent as absent:
        return [Table(TITLE, COLUMNS, [], (f"not measured: {absent}",))]


def _measure(place: Place, server: Server, calls: int) -> list[Table]:
    def churn() -> int:
        coming = ("-at-once", "4", "-rate", str(PER_SECOND))
        return int(place.load(server, "churn", calls, 0.0, *coming).result["calls"])

    say(f"{calls} calls that are not counted")
    churn()  # what the first calls leave for ever is no leak
    time.sleep(SETTLE)
    before = _held(server)
    seconds = KILLS * (calls / PER_SECOND + 3.0)
    known = set(family(server.pid)[1:])
    victim, other, *_ = sorted(known)  # the workers in their order: a forwarder is begun after them
    killed_at: list[float] = []
    with (
        ThreadPoolExecutor(1) as pool,
        watching(other, CORES) if place.options.realtime else nullcontext() as watch,
    ):
        standing = pool.submit(place.load, server, "rtp", STANDING, seconds, "-silent")
        time.sleep(6.0)  # they are set up
        went = 0
        for number in range(KILLS):
            say(f"{calls} calls, then kill {number + 1} of {KILLS}")
            went += churn()
            killed_at.append(time.time())
            os.kill(victim, signal.SIGKILL)
            victim = _replacement(server, known)
        result = standing.result().result
    time.sleep(SETTLE)
    after = _held(server)
    late = [result["late_ms"][place] for place in (0, 2, 3, 4)]
    left = [f"{one:.0f} to {other:.0f}" for one, other in zip(before, after, strict=True)]
    row = (KILLS, went, *late, result["lost"], *left)
    note = "Lateness is that of the standing calls whose worker was not killed; `lost` are packets of theirs."
    tables = [Table(TITLE, COLUMNS, [row], (note,))]
    return tables if watch is None else [*tables, _gaps(result["gaps"], killed_at, watch)]


def _gaps(gaps: Sequence[tuple[float, float]], killed_at: Sequence[float], watch: Watch) -> Table:
    """Return what was going on in gaps, each given by its end (seconds of the real time clock) and length (ms)."""
    accounts = [(at, late, account) for at, late in gaps if (account := watch.account(at, late)) is not None]
    whole = [each for each in accounts if each[2].has_whole_core]
    chosen = accounts[:GAPS_SHOWN] + whole[:GAPS_SHOWN]
    rows: list[Sequence[Cell]] = []
    for at, late, account in sorted(set(chosen), key=lambda each: -each[1]):
        since = min((at - kill for kill in killed_at if kill < at), default=None)
        rows.append((since, late, *astuple(account), "yes" if account.has_whole_core else "no"))
    return Table(GAPS, GAPS_COLUMNS, rows, GAPS_NOTES)


def _replacement(server: Server, known: set[int]) -> int:
    """Return the worker that has come up in the place of the one killed."""
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        for pid in family(server.pid)[1:]:
            if pid not in known:
                known.add(pid)
                time.sleep(1.0)  # it is up by then
                if pid in family(server.pid):  # and no short-lived child of it, which looks for a library
                    return pid
        time.sleep(0.01)
    raise Absent("a killed worker was not replaced")


def _held(server: Server) -> tuple[float, int, int]:
    """Return the memory in MB, the descriptors and the number of the server's processes."""
    pids = family(server.pid)
    return memory_kb(server.pid) / 1024, sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids), len(pids)
