"""Interleaving (RFC 8260): round trips of small messages beside a saturating transfer, DATA against I-DATA.

Ours to ours in virtual time, as `bench data` does it (whose second table has aiortc beside us for one size). Here
the size of the transfer's messages varies: without interleaving a small message waits until the large one that was
begun has left, with it only until the next packet; what both wait for is the queue of the network itself.
"""

from __future__ import annotations

from statistics import quantiles
from typing import Any

from bench.data import Contestant, _in_virtual_time, _small_beside_bulk
from bench.report import Options, Table

SIZES = (16_384, 65_536, 200_000, 262_144)
CONTESTANTS = (
    Contestant("DATA", {"interleaving": False}),
    Contestant("I-DATA", {"interleaving": True}),
)


def run(options: Options) -> Table:
    """Return the table; about 20 s at scale 1."""
    seconds = max(2.0, 15 * options.scale)
    idle = _measure(CONTESTANTS[1], False, seconds, SIZES[0], options.seed)
    rows = [("-", "idle link", *_figures(idle), None)]
    for size in SIZES:
        without = 0.0
        for who in CONTESTANTS:
            figures = _figures(_measure(who, True, seconds, size, options.seed))
            without = without or figures[1]
            rows.append((f"{size:,}", who.name, *figures, without / figures[1]))
    return Table(
        "round trip of small messages beside a transfer on another channel; 10 Mbit/s, 50 ms, 50 ms of queue",
        ("bytes/message", "chunks", "messages", "p50 ms", "p90 ms", "p99 ms", "max ms", "times DATA"),
        rows,
        ("'times DATA': how many times quicker in the median. In virtual time: the same on any machine.",),
    )


def _measure(who: Contestant, busy: bool, seconds: float, size: int, seed: int) -> list[float]:
    def make(loop: Any) -> Any:
        return _small_beside_bulk(loop, who, busy, seconds, seed, bytes(size))

    times: list[float] = _in_virtual_time(make)
    return times


def _figures(times: list[float]) -> tuple[int, float, float, float, float]:
    cut = quantiles(times, n=100)
    return len(times), cut[49], cut[89], cut[98], max(times)
