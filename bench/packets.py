"""Packets without a codec, under load: processor time for a packet in and out and lateness, beside aiortc and Pion v4.

Every server sends each RTP payload back as it came, through its own ICE, DTLS, SRTP, RTP and RTCP. Ours is an
endpoint of sessions on a media thread, as `Host` has it, without conversations; aiortc's decoder and encoder are
taken out; Pion is measured with its default interceptors and without any (`bare`: no RTCP, no NACK).
"""

from __future__ import annotations

from collections.abc import Sequence

from bench._load import Absent, Contestant, Run, aiortc, field_of, interleaved, note_of, ours, pion
from bench.report import Cell, Options, Table

CALLS = (20, 50, 100)
REPETITIONS = 3
SECONDS = 5.0


def run(options: Options) -> Sequence[Table]:
    """Run everything; about 5 minutes at scale 1."""
    title = "a packet in and out, no codec: µs of processor time, and lateness of what is sent"
    columns = (
        "calls",
        "who",
        "µs",
        "least",
        "most",
        "times ours",
        "core",
        "late p50 ms",
        "p99",
        "p99.9",
        "max",
        "lost",
    )
    seconds = max(1.0, SECONDS * options.scale)
    repetitions = max(1, round(REPETITIONS * min(1.0, options.scale * 2)))
    rows: list[Sequence[Cell]] = []
    try:
        with field_of(options) as place:
            contestants = [*ours("packets", options), aiortc("packets"), pion(), pion("-bare")]

            for calls in options.calls or CALLS:

                def measure(contestant: Contestant, calls: int = calls) -> Run:
                    with place.server(contestant) as server:
                        return place.load(server, "rtp", calls, seconds)

                samples = interleaved(options, contestants, repetitions, measure)
                own = samples["ours"].spread(lambda run: run.us_per_packet)[0]
                for who, sample in samples.items():
                    cost = sample.spread(lambda run: run.us_per_packet)
                    late = [sample.spread(lambda run, k=k: run.result["late_ms"][k])[0] for k in (0, 2, 3, 4)]
                    lost = sum(run.result["went"] - run.result["came"] for run in sample.runs)
                    core = f"{sample.spread(lambda run: run.core)[0]:.0%}"
                    rows.append((calls, who, *cost, cost[0] / own, core, *late, lost))
    except Absent as absent:
        return [Table(title, columns, rows, (f"not measured: {absent}",))]
    return [Table(title, columns, rows, (note_of(options, seconds, repetitions),))]
