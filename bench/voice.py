"""Whole calls under load: processor time for 20 ms of an echo and of a listening call, calls a core, beside aiortc.

- `echo`: what is heard is decoded, handed to the program, encoded (complexity 5) and sent;
- `listening`: the program always speaks and the caller too (recorded people): voice detection, turns, utterances;
- `loudspeaker`: the program always speaks, and its sound comes back 60 ms later: the echo canceller works.

aiortc has an echo only. Processor time per call is linear enough in their number that a core divided by it is said
as "calls a core"; whether they are still on time is what `late` says of the number measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench._load import Absent, Contestant, Field, Run, aiortc, field_of, interleaved, note_of, ours
from bench.report import Cell, Options, Table

CALLS = 10
REPETITIONS = 3
SECONDS = 6.0
RETURNED = 3
"""Packets after which a loudspeaker's sound comes back."""
KINDS = {
    "echo": ("echo", ()),
    "listening": ("listening", ("-events",)),
    "loudspeaker": ("listening", ("-events", "-returned", str(RETURNED))),
}


def run(options: Options) -> Sequence[Table]:
    """Run everything; about 4 minutes at scale 1."""
    title = "a call with sound: µs of processor time for 20 ms of it, and lateness of what is sent"
    columns = (
        "call",
        "calls",
        "who",
        "µs",
        "least",
        "most",
        "times ours",
        "calls a core",
        "late p50 ms",
        "p99",
        "max",
    )
    seconds = max(1.0, SECONDS * options.scale)
    repetitions = max(1, round(REPETITIONS * min(1.0, options.scale * 2)))
    rows: list[Sequence[Cell]] = []
    try:
        with field_of(options) as place:
            for kind in KINDS:
                for calls in options.calls or (CALLS,):
                    rows += _rows(place, kind, calls, seconds, repetitions)
    except Absent as absent:
        return [Table(title, columns, rows, (f"not measured: {absent}",))]
    return [Table(title, columns, rows, (note_of(options, seconds, repetitions),))]


def _rows(place: Field, kind: str, calls: int, seconds: float, repetitions: int) -> list[Sequence[Cell]]:
    mode, load = KINDS[kind]
    options, sound = place.options, ("--sound", str(place.sound))
    contestants = ours(mode, options, *sound)
    if kind == "echo":
        contestants.append(aiortc("echo"))

    def measure(contestant: Contestant) -> Run:
        with place.server(contestant) as server:
            return place.load(server, "rtp", calls, seconds, *load, warm=4.0)

    samples = interleaved(options, contestants, repetitions, measure)
    own = samples["ours"].spread(Run.us_per_frame)[0]
    rows: list[Sequence[Cell]] = []
    for who, sample in samples.items():
        cost = sample.spread(Run.us_per_frame)
        late = [sample.spread(lambda run, k=k: run.result["late_ms"][k])[0] for k in (0, 2, 4)]
        rows.append((kind, calls, who, *cost, cost[0] / own, 20_000 / cost[0], *late))
    return rows
