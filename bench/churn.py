"""Calls that come and go, under load: CPU of a set-up and tear-down, time to connect, beside aiortc and Pion.

Each call is an offer by HTTP, ICE, a DTLS handshake with new keys, and a goodbye; `kept` is by how much the server
has grown for each when all are gone, those of a first tenth left out. Calls come evenly spaced: of those that wait
for one another, a server that answers late gets convenient batches, and seems the cheaper for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench._load import Absent, Contestant, Place, Run, aiortc, interleaved, ours, pion, place_of
from bench.report import Cell, Chart, Options, Table

CALLS = 300
REPETITIONS = 3
RATE = 40
"""Calls a second: a tenth to a fifth of what a core can do, and no two at the same step."""
AT_ONCE = 32
"""Calls that may be under way, far more than are."""
TITLE = "a call set up and torn down: processor time of the server"
COST = ("calls", "who", "CPU ms", "least", "most", "times ours", "a second and core")
COLUMNS = (*COST, "connected p50 ms", "p99", "failed", "kept, kB a call")


def run(options: Options) -> Sequence[Table]:
    """Run everything; about 3 minutes at scale 1."""
    _, repetitions = options.amount(1.0, REPETITIONS)
    rows: list[Sequence[Cell]] = []
    try:
        with place_of(options) as place:
            for calls in options.calls or (max(20, round(CALLS * options.scale)),):
                rows += _rows(place, calls, repetitions)
    except Absent as absent:
        return [Table(TITLE, COLUMNS, rows, (f"not measured: {absent}",))]
    note = f"{repetitions} runs each, in turn, {RATE} set-ups a second; median (least-most)."
    waiting = "Of the time to connect, 200 ms are the generator's own: Pion checks a path that often."
    return [Table(TITLE, COLUMNS, rows, (note, waiting), Chart("CPU ms"))]


def _rows(place: Place, calls: int, repetitions: int) -> list[Sequence[Cell]]:
    contestants = [*ours("echo", place.options), aiortc("echo"), pion()]
    spaced = ("-rate", str(RATE), "-at-once", str(AT_ONCE))

    def measure(contestant: Contestant) -> Run:
        with place.server(contestant) as server:
            place.load(server, "churn", max(10, calls // 10), 0.0, *spaced)
            return place.load(server, "churn", calls, 0.0, *spaced)

    samples = interleaved(f"{calls} set-ups", place.options, contestants, repetitions, measure)
    own = samples["ours"].median(Run.ms_per_call)
    rows: list[Sequence[Cell]] = []
    for who, sample in samples.items():
        cost = sample.spread(Run.ms_per_call)
        took = [sample.percentile("connected_ms", percentile)[0] for percentile in (50, 99)]
        failed = sum(run.result["failed"] for run in sample.runs)
        kept = sample.median(Run.kilobytes_per_call)
        rows.append((calls, who, *cost, cost[0] / own, 1e3 / cost[0], *took, failed, kept))
    return rows
