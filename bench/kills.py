"""Two media workers, one killed again and again beside standing calls: what the other's calls notice, what is
left.

Twenty calls stand, ten on each worker; their programs always speak. Others come and go through both, and after
each hundred of them the first worker is killed. Its standing calls are over with the first time; those of the
second are measured for the whole time, against their RTP timestamps: a gap of theirs is a lateness. Then memory,
descriptors and processes are held against those from before. Ours alone: no peer has workers.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bench._load import Absent, Place, Server, family, memory_kb, ours, place_of
from bench.report import Options, Table

STANDING = 20
KILLS = 10
CALLS = 100
"""That come and go before each kill."""
SETTLE = 3.0
"""Seconds after the last call until what is left is counted."""
PER_SECOND = 20
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


def run(options: Options) -> Sequence[Table]:
    """Run everything; about two minutes at scale 1."""
    calls = max(10, round(CALLS * options.scale))
    try:
        with place_of(options) as place:
            front = ("--forwarder",) if options.forwarder else ()
            (contestant, *_) = ours("speaking", options, "--sound", str(place.sound), "--workers", "2", *front)
            with place.server(contestant, cores="0,1", realtime=False) as server:
                return [_measure(place, server, calls)]
    except Absent as absent:
        return [Table(TITLE, COLUMNS, [], (f"not measured: {absent}",))]


def _measure(place: Place, server: Server, calls: int) -> Table:
    def churn() -> int:
        coming = ("-at-once", "4", "-rate", str(PER_SECOND))
        return int(place.load(server, "churn", calls, 0.0, *coming).result["calls"])

    churn()  # what the first calls leave for ever is no leak
    time.sleep(SETTLE)
    before = _held(server)
    seconds = KILLS * (calls / PER_SECOND + 3.0)
    with ThreadPoolExecutor(1) as pool:
        standing = pool.submit(place.load, server, "rtp", STANDING, seconds, "-silent")
        time.sleep(6.0)  # they are set up
        went = 0
        known = set(family(server.pid)[1:])
        victim = min(known)  # the first worker: a forwarder is begun after them
        for _ in range(KILLS):
            went += churn()
            os.kill(victim, signal.SIGKILL)
            victim = _replacement(server, known)
        result = standing.result().result
    time.sleep(SETTLE)
    after = _held(server)
    late = [result["late_ms"][place] for place in (0, 2, 3, 4)]
    left = [f"{one:.0f} to {other:.0f}" for one, other in zip(before, after, strict=True)]
    row = (KILLS, went, *late, result["lost"], *left)
    note = "Lateness is that of the standing calls whose worker was not killed; `lost` are packets of theirs."
    return Table(TITLE, COLUMNS, [row], (note,))


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
