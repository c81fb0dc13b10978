"""Packets without a codec, under load: CPU for a packet in and out, and lateness, beside aiortc and Pion v4.

Every server sends each RTP payload back as it came, through its own ICE, DTLS, SRTP, RTP and RTCP. Ours is an
endpoint of sessions on a media thread, as `Host` has it, without conversations; aiortc's decoder and encoder are
taken out; Pion is measured with its default interceptors and without any (`bare`: no RTCP, no NACK).

With `--workers 2` there are two more, two servers of ours with a worker each and two of Pion's, that share nothing
but the core (`2 apart`). What they cost more than one of them is the price of being two: each finds half as many
packets at each of its wake-ups, in caches that the other has filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench._load import (
    Absent,
    Contestant,
    Place,
    Run,
    aiortc,
    interleaved,
    note_of,
    ours,
    pion,
    place_of,
    side_by_side,
)
from bench.report import Cell, Chart, Options, Table

CALLS = (20, 50, 100)
REPETITIONS = 3
SECONDS = 5.0
TITLE = "a packet in and out, no codec: µs of processor time, and lateness of what is sent"
COST = ("calls", "who", "µs", "least", "most", "times ours", "core")
COLUMNS = (*COST, "late p50 ms", "p99", "p99.9", "max", "lost", "load µs")


def run(options: Options) -> Sequence[Table]:
    """Run everything; about 8 minutes at scale 1."""
    seconds, repetitions = options.amount(SECONDS, REPETITIONS)
    rows: list[Sequence[Cell]] = []
    try:
        with place_of(options) as place:
            for calls in options.calls or CALLS:
                rows += _rows(place, calls, seconds, repetitions)
    except Absent as absent:
        return [Table(TITLE, COLUMNS, rows, (f"not measured: {absent}",))]
    notes = (note_of(options, seconds, repetitions), "load: what the generator spends on the same packets.")
    return [Table(TITLE, COLUMNS, rows, notes, Chart("µs"))]


def _rows(place: Place, calls: int, seconds: float, repetitions: int) -> list[Sequence[Cell]]:
    contestants = [*ours("packets", place.options), aiortc("packets"), pion(), pion("-bare")]
    (_, one_worker, *_) = ours("packets", replace(place.options, workers=(1,)))
    for number in place.options.workers:
        if number > 1:
            contestants += [side_by_side(number, each) for each in (one_worker, pion())]

    def measure(contestant: Contestant) -> Run:
        with place.server(contestant) as server:
            return place.load(server, "rtp", calls, seconds)

    samples = interleaved(f"{calls} calls", place.options, contestants, repetitions, measure)
    own = samples["ours"].median(Run.us_per_packet)
    rows: list[Sequence[Cell]] = []
    for who, sample in samples.items():
        cost = sample.spread(Run.us_per_packet)
        lost = sum(max(0, run.result["went"] - run.result["came"]) for run in sample.runs)
        load = sample.median(Run.load_us_per_packet)
        core = f"{sample.median(Run.core):.0%}"
        rows.append((calls, who, *cost, cost[0] / own, core, *sample.late(50, 99, 99.9, 100), lost, load))
    return rows
