"""Calls that stand and say nothing, up to 1,000 on one port: processor time and memory of each, and its trend.

The generator holds the calls with its connectivity checks and RTCP alone. If anything on the way of a packet grew
with the number of calls, a call would cost more among many. Ours alone; `python -m bench memory` has the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench._load import Absent, Run, note_of, ours, place_of
from bench._progress import say
from bench.report import Cell, Options, Table

CALLS = (100, 1000)
SECONDS = 10.0
TITLE = "calls that stand and say nothing"
COLUMNS = ("calls", "who", "core", "µs a call and second", "kB a call", "came about")


def run(options: Options) -> Sequence[Table]:
    """Run everything; about two minutes at scale 1."""
    seconds, _ = options.amount(SECONDS, 1)
    rows: list[Sequence[Cell]] = []
    try:
        with place_of(options) as place:
            for calls in options.calls or tuple(max(5, round(each * options.scale)) for each in CALLS):
                for contestant in ours("echo", options):
                    say(f"{calls} calls: {contestant.name}")
                    with place.server(contestant) as server:
                        place.load(server, "rtp", 2, 1.0, "-silent", warm=1.0)
                        measured = place.load(server, "rtp", calls, seconds, "-silent", warm=5.0)
                        rows.append(_row(contestant.name, measured))
    except Absent as absent:
        return [Table(TITLE, COLUMNS, rows, (f"not measured: {absent}",))]
    return [Table(TITLE, COLUMNS, rows, (note_of(options, seconds, 1),))]


def _row(who: str, measured: Run) -> Sequence[Cell]:
    share = measured.cpu / measured.seconds
    return (
        measured.calls,
        who,
        share,
        share / measured.calls * 1e6,
        measured.kilobytes_per_call(),
        int(measured.result["calls"]),
    )
