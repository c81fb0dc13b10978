"""Commands and events as values: what it costs to make one, and to have it cross a process.

The dataclasses beside ours say what the same fields cost as the house's other kind of value, read by msgspec as
well. Processor time, the best of several runs: what other programs do on this machine stays out.
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.report import Cell, Options, Table
from stack.audio import AudioFrame, Samples
from stack.voice import wire
from stack.voice.commands import Write
from stack.voice.events import AudioReceived, KeyPressed

RATE = 16_000
RUNS = 7
LOOPS = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class PlainFrame:
    """`AudioFrame` as a dataclass."""

    samples: Samples
    sample_rate: int
    media_time: float
    concealed: bool = False


@dataclass(frozen=True, slots=True)
class PlainReceived:
    """`AudioReceived` as a dataclass."""

    frame: PlainFrame


def run(options: Options) -> Table:
    """Return microseconds for each value."""
    loops = max(100, round(LOOPS * options.scale))
    samples = np.arange(320, dtype=np.int16)
    event = AudioReceived(AudioFrame(samples, RATE, 1.0))
    plain = PlainReceived(PlainFrame(samples, RATE, 1.0))
    write, key = Write(samples, RATE), KeyPressed("5")
    codec: wire.ValueCodec[Any] = wire.ValueCodec(PlainReceived)

    def row(name: str, make: Callable[[], object], encode: Callable[[], bytes], decode: Callable[[bytes], object]):
        data = encode()
        return name, *(_cost(step, loops) for step in (make, encode, lambda: decode(data))), len(data)

    rows: list[tuple[Cell, ...]] = [
        row(
            "AudioReceived, 20 ms",
            lambda: AudioReceived(AudioFrame(samples, RATE, 1.0)),
            lambda: wire.encode_event(event),
            wire.decode_event,
        ),
        row(
            "the same as dataclasses",
            lambda: PlainReceived(PlainFrame(samples, RATE, 1.0)),
            lambda: codec.encode(plain),
            codec.decode,
        ),
        row("Write, 20 ms", lambda: Write(samples, RATE), lambda: wire.encode_command(write), wire.decode_command),
        row("KeyPressed", lambda: KeyPressed("5"), lambda: wire.encode_event(key), wire.decode_event),
    ]
    notes = (
        "The dataclasses' bytes do not say of what type they are, and what is unknown in them is passed over.",
    )
    return Table("values across a process", ("value", "make µs", "encode µs", "decode µs", "bytes"), rows, notes)


def _cost(step: Callable[[], object], loops: int) -> float:
    return min(timeit.repeat(step, timer=time.process_time, number=loops, repeat=RUNS)) / loops * 1e6
