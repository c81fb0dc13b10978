"""Memory of a call that stands, under load: idle, with sound, listening; beside aiortc and Pion v4.

Proportional set size of the server and its children with so many calls, less what it was after a few had come
and gone, divided by the calls. Pion has no codec: its `sounding` is an echo of packets.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench._load import Absent, Contestant, Place, Run, aiortc, interleaved, ours, pion, place_of
from bench.report import Cell, Chart, Options, Table

CALLS = 50
REPETITIONS = 3
SECONDS = 4.0
KINDS = {
    "idle": ("echo", ("-silent",)),
    "sounding": ("echo", ()),
    "listening": ("listening", ("-events",)),
}
TITLE = "memory of a call that stands"
COLUMNS = ("call", "calls", "who", "kB a call", "least", "most", "times ours", "server, MB")


def run(options: Options) -> Sequence[Table]:
    """Run everything; about 7 minutes at scale 1."""
    _, repetitions = options.amount(1.0, REPETITIONS)
    rows: list[Sequence[Cell]] = []
    try:
        with place_of(options) as place:
            for kind in KINDS:
                for calls in options.calls or (max(5, round(CALLS * options.scale)),):
                    rows += _rows(place, kind, calls, repetitions)
    except Absent as absent:
        return [Table(TITLE, COLUMNS, rows, (f"not measured: {absent}",))]
    note = f"{repetitions} runs each, in turn; median (least-most). There are a fifth as many listening calls."
    return [Table(TITLE, COLUMNS, rows, (note,), Chart("kB a call", ("call", "calls")))]


def _rows(place: Place, kind: str, calls: int, repetitions: int) -> list[Sequence[Cell]]:
    mode, load = KINDS[kind]
    if mode == "listening":
        calls = max(1, calls // 5)
    contestants = ours(mode, place.options, "--sound", str(place.sound))
    if mode == "echo":
        contestants += [aiortc("echo"), pion()]

    def measure(contestant: Contestant) -> Run:
        with place.server(contestant) as server:
            place.load(server, "rtp", 2, 1.0, *load, warm=1.0)
            return place.load(server, "rtp", calls, SECONDS, *load)

    samples = interleaved(f"{calls} calls, {kind}", place.options, contestants, repetitions, measure)
    own = samples["ours"].median(Run.kilobytes_per_call)
    rows: list[Sequence[Cell]] = []
    for who, sample in samples.items():
        size = sample.spread(Run.kilobytes_per_call)
        total = sample.median(lambda run: run.memory / 1024)
        rows.append((kind, calls, who, *size, size[0] / own, total))
    return rows
