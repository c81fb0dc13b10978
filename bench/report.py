"""What a benchmark takes and returns: options in, tables out, as text or JSON."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from platform import machine, python_version
from typing import TypeAlias

from interop.arguments import whole

Cell: TypeAlias = str | int | float | None
MAX_SCALE = 10_000
MAX_SEED = 2**32 - 1


class BadOption(Exception):
    """An option has a value that the benchmark can do nothing with; the text says so on one line."""


def _scale(text: str) -> float:
    """Read the amount of work."""
    try:
        scale = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 < scale <= MAX_SCALE:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and up to {MAX_SCALE}")
    return scale


def add_scale(parser: argparse.ArgumentParser) -> None:
    """Let a command line say how much work is done."""
    parser.add_argument("--scale", type=_scale, default=1.0, help="multiply the amount of work (default: 1)")


def add_seed(parser: argparse.ArgumentParser, what: str = "decide what is random") -> None:
    """Let a command line say where random numbers begin; numpy takes no negative seed."""
    parser.add_argument("--seed", type=whole(0, MAX_SEED), default=1, help=f"{what} (default: 1)")


@dataclass(frozen=True, slots=True)
class Options:
    """How a benchmark is to be run: `scale` multiplies the amount of work, `seed` decides what is random.

    For the benchmarks under load: `against` is another checkout of ours that is measured beside this one, `calls`
    stands in for the numbers of calls that a benchmark would try, and with `realtime` servers and load run before
    every other process of a machine that is not ours alone. `workers` are numbers of media workers with which ours
    is measured, beside its thread; with `forwarder`, several of them have a process in front.
    """

    scale: float = 1.0
    seed: int = 1
    against: tuple[str, ...] = ()
    calls: tuple[int, ...] = ()
    realtime: bool = False
    verbose: bool = False
    workers: tuple[int, ...] = ()
    data: str | None = None
    """A folder of recordings to listen to instead of our own."""
    rtt: tuple[float, ...] = (0.0,)
    """Round trips in milliseconds, of the networks of `setup`."""
    loss: tuple[float, ...] = (0.0,)
    """Their losses, in percent."""
    clients: tuple[str, ...] = ()
    """Only these of its clients, and of its servers; none: all."""
    servers: tuple[str, ...] = ()
    trace: str | None = None
    """A file with the packets of a real network, instead of the models (`bench/_stalls.py`)."""
    forwarder: bool = False
    rooms: str | None = None
    """A folder of measured impulse responses, instead of computed rooms (bargein)."""
    keep: str | None = None
    """A file with calls that were run before, to which the others are added (`bench/_false_starts.py`)."""

    def amount(self, seconds: float, repetitions: int) -> tuple[float, int]:
        """Return the length and the number of the runs under load: above half the scale, all of them."""
        return max(1.0, seconds * self.scale), max(1, round(repetitions * min(1.0, 2 * self.scale)))


@dataclass(frozen=True, slots=True)
class Chart:
    """Which columns of a table become bars (`--plot`): one for each row, put together by `groups`."""

    value: str
    groups: tuple[str, ...] = ("calls",)
    spread: tuple[str, str] | None = ("least", "most")


@dataclass(frozen=True, slots=True)
class Curves:
    """Which columns of a table become points (`--plot`), joined for each `who` in the order of the rows."""

    across: str
    up: str


@dataclass(frozen=True, slots=True)
class Table:
    """A result: a title, columns, rows of cells (None: not measured), and what a reader must know."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default_factory=tuple)
    chart: Chart | Curves | None = None

    def text(self) -> str:
        """Return the table for a terminal; numbers stand to the right."""
        cells = [[_show(cell) for cell in row] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(self.columns, *cells, strict=True)]
        numeric = [
            any(isinstance(cell, int | float) for cell in column) for column in zip(*self.rows, strict=True)
        ] or [False] * len(widths)

        def line(row: Sequence[str]) -> str:
            padded = (
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, numeric, strict=True)
            )
            return "  ".join(padded).rstrip()

        parts = [self.title, line(self.columns), line(["-" * width for width in widths]), *map(line, cells)]
        return "\n".join([*parts, *(f"  {note}" for note in self.notes)])


def _show(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.3g}" if abs(cell) < 10 else f"{cell:,.1f}" if abs(cell) < 1000 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def as_json(name: str, options: Options, tables: Sequence[Table]) -> dict[str, object]:
    """Return what `--json` prints for one benchmark."""
    return {
        "bench": name,
        "python": python_version(),
        "machine": machine(),
        "options": asdict(options),
        "tables": [asdict(table) for table in tables],
    }
