"""Frames on schedule beside a busy program, under load: lateness of what is sent, ours beside aiortc.

The program of every call always speaks; the callers say nothing. On the loop of the programs something else runs
for 200 ms of each second: nothing, a blocking call, numpy, pure Python, or a full collection of a heap of two
million objects. `set-ups`: beside the standing calls, others are set up and torn down, some each second, so that
the collector has work. Lateness is measured against the RTP timestamps, by the kernel's receive times.

Ours is measured with its media in a thread and in a worker process (`--workers`: in so many).

The server has two cores here, as the interpreter lock is what is looked at, and is never a real-time process: its
threads would wait for each other's time slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from bench._load import Absent, Contestant, Place, Run, aiortc, interleaved, note_of, ours, place_of
from bench.report import Cell, Chart, Options, Table

CALLS = (1, 20)
REPETITIONS = 3
SECONDS = 10.0
BESIDE = ("idle", "sleep", "numpy", "python", "collector", "set-ups")
SETUPS_PER_SECOND = 19
CORES = "0,1"
TITLE = "lateness of outgoing frames beside a program that is busy 200 ms in each second"
LATENESS = ("calls", "beside", "who", "late p50 ms", "p99", "p99.9", "least", "most", "max")
COLUMNS = (*LATENESS, "core", "jumps", "mute")


def run(options: Options) -> Sequence[Table]:
    """Run everything; about 30 minutes at scale 1."""
    seconds, repetitions = options.amount(SECONDS, REPETITIONS)
    rows: list[Sequence[Cell]] = []
    try:
        with place_of(options) as place:
            for calls in options.calls or (*CALLS, _half_load(place)):
                for beside in BESIDE:
                    rows += _rows(place, calls, beside, seconds, repetitions)
    except Absent as absent:
        return [Table(TITLE, COLUMNS, rows, (f"not measured: {absent}",))]
    note = f"{note_of(options, seconds, repetitions, CORES)} Least and most are those of p99.9."
    return [Table(TITLE, COLUMNS, rows, (note,), Chart("p99.9", ("calls", "beside")))]


def _half_load(place: Place) -> int:
    """Return how many calls take half a core of ours, a hundred at most."""
    calls = max(CALLS)
    (contestant, *_) = ours("speaking", place.options, "--sound", str(place.sound))
    with place.server(contestant) as server:
        core = place.load(server, "rtp", calls, 2.0, "-silent").core()
    return min(100, max(1, round(calls * 0.5 / core)))


def _rows(place: Place, calls: int, beside: str, seconds: float, repetitions: int) -> list[Sequence[Cell]]:
    companion = "idle" if beside == "set-ups" else beside
    arguments = ("--beside", companion, "--sound", str(place.sound))
    options = place.options if place.options.workers else replace(place.options, workers=(1,))
    contestants = [*ours("speaking", options, *arguments), aiortc("speaking", *arguments)]

    def measure(contestant: Contestant) -> Run:
        with place.server(contestant, cores=CORES, realtime=False) as server:
            if beside != "set-ups":
                return place.load(server, "rtp", calls, seconds, "-silent")
            amount = round(SETUPS_PER_SECOND * (seconds + 6))  # the standing calls are to be set up first
            with ThreadPoolExecutor(1) as pool:
                coming = ("-at-once", "2", "-rate", str(SETUPS_PER_SECOND))
                others = pool.submit(place.load, server, "churn", amount, 0.0, *coming)
                standing = place.load(server, "rtp", calls, seconds, "-silent")
                others.result()
                return standing

    samples = interleaved(f"{calls} calls beside {beside}", place.options, contestants, repetitions, measure)
    rows: list[Sequence[Cell]] = []
    for who, sample in samples.items():
        p999 = sample.percentile("late_ms", 99.9)
        core = f"{sample.median(Run.core):.0%}"
        jumps, mute = (sum(run.result[name] for run in sample.runs) for name in ("jumps", "mute"))
        rows.append((calls, beside, who, *sample.late(50, 99), *p999, *sample.late(100), core, jumps, mute))
    return rows
