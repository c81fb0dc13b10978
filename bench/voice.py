"""Whole calls under load: CPU for 20 ms of an echo call and of a listening call, calls a core, beside aiortc.

- `echo`: what is heard is decoded, handed to the program, encoded (complexity 5) and sent;
- `listening`: the program always speaks and the caller too (recorded people): voice detection, turns, utterances;
- `loudspeaker`: the program always speaks, and its sound comes back 60 ms later: the echo canceller works.

aiortc has an echo only. Processor time per call is linear enough in their number that a core divided by it is said
as "calls a core"; whether they are still on time is what `late` says of the number measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench._load import Absent, Contestant, Place, Run, aiortc, interleaved, note_of, ours, place_of
from bench.report import Cell, Chart, Options, Table

CALLS = 10
REPETITIONS = 3
SECONDS = 6.0
RETURNED = 3
"""Packets after which a loudspeaker's sound comes back."""
WARM = 4.0
TITLE = "a call with sound: µs of processor time for 20 ms of it, and lateness of what is sent"
COST = ("call", "calls", "who", "µs", "least", "most", "times ours", "calls a core")
COLUMNS = (*COST, "late p50 ms", "p99", "max")
KINDS = {
    "echo": ("echo", ()),
    "listening": ("listening", ("-events",)),
    "loudspeaker": ("listening", ("-events", "-returned", str(RETURNED))),
}


def run(options: Options) -> Sequence[Table]:
    """Run everything; about 4 minutes at scale 1."""
    seconds, repetitions = options.amount(SECONDS, REPETITIONS)
    rows: list[Sequence[Cell]] = []
    try:
        with place_of(options) as place:
            for kind in KINDS:
                for calls in options.calls or (CALLS,):
                    rows += _rows(place, kind, calls, seconds, repetitions)
    except Absent as absent:
        return [Table(TITLE, COLUMNS, rows, (f"not measured: {absent}",))]
    return [Table(TITLE, COLUMNS, rows, (note_of(options, seconds, repetitions),), Chart("µs", ("call", "calls")))]


def _rows(place: Place, kind: str, calls: int, seconds: float, repetitions: int) -> list[Sequence[Cell]]:
    mode, load = KINDS[kind]
    contestants = ours(mode, place.options, "--sound", str(place.sound))
    if kind == "echo":
        contestants.append(aiortc("echo"))

    def measure(contestant: Contestant) -> Run:
        with place.server(contestant) as server:
            return place.load(server, "rtp", calls, seconds, *load, warm=WARM)

    samples = interleaved(f"{calls} calls, {kind}", place.options, contestants, repetitions, measure)
    own = samples["ours"].median(Run.us_per_frame)
    rows: list[Sequence[Cell]] = []
    for who, sample in samples.items():
        cost = sample.spread(Run.us_per_frame)
        rows.append((kind, calls, who, *cost, cost[0] / own, 20_000 / cost[0], *sample.late(50, 99, 100)))
    return rows
