"""The matrix as text, for a terminal or a log: every pair, in as many tables as the width asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil

from interop.runner import Cell
from interop.verdict import Outcome

SIGNS: Mapping[Outcome, str] = {
    Outcome.BROKEN: "?",
    Outcome.FAILED: "✗",
    Outcome.HEALED: "!",
    Outcome.KNOWN: "≈",
    Outcome.UNTRIED: "○",
    Outcome.PASSED: "✓",
    Outcome.UNSUPPORTED: "–",
    Outcome.ABSENT: "·",
}
"""Those of the page. The worst of a cell's repetitions is the first of them here, and stands for all."""
PLAIN: Mapping[str, str] = {"○": "o", "✗": "X", "≈": "~", "✓": "+", "–": "-", "·": ".", "→": "->"}
"""What stands for them where the output has no other letters."""
COLUMN = 3
"""Letters of a column: the number of the pair, or a sign, after a space or two."""


def matrix(cells: Sequence[Cell], width: int) -> Iterator[str]:
    """Yield the lines: rows are scenarios, columns pairs, whose numbers are explained below each table.

    A scenario that was not tried at all has no row.
    """
    pairs = list(dict.fromkeys(cell.pair for cell in cells))
    tried = [cell for cell in cells if cell.verdict.outcome is not Outcome.UNTRIED]
    scenarios = list(dict.fromkeys(cell.scenario for cell in tried))
    worst: dict[tuple[str, str], Outcome] = {}
    rank = list(SIGNS)
    for cell in cells:
        key, outcome = (cell.pair, cell.scenario), cell.verdict.outcome
        worst[key] = min(worst.get(key, outcome), outcome, key=rank.index)
    head = max((len(name) for name in scenarios), default=0)
    tables = ceil(len(pairs) / max(1, (width - head) // COLUMN))
    many = max(1, ceil(len(pairs) / max(1, tables)))
    for begin in range(0, len(pairs), many):
        columns = pairs[begin : begin + many]
        numbers = range(begin + 1, begin + 1 + len(columns))
        yield ""
        yield " " * head + "".join(f"{number:{COLUMN}}" for number in numbers)
        for name in scenarios:
            signs = (SIGNS[worst[pair, name]] if (pair, name) in worst else " " for pair in columns)
            yield f"{name:{head}}" + "".join(f"{sign:>{COLUMN}}" for sign in signs)
        yield from _wrapped([f"{number} {pair}" for number, pair in zip(numbers, columns, strict=True)], width)
    shown = {outcome for (_, name), outcome in worst.items() if name in scenarios}
    seen = [outcome for outcome in SIGNS if outcome in shown]
    yield ""
    yield from _wrapped([f"{SIGNS[outcome]} {outcome.value}" for outcome in seen], width)


def plain(line: str) -> str:
    """A line for an output that has ASCII alone."""
    for sign, letter in PLAIN.items():
        line = line.replace(sign, letter)
    return line.encode("ascii", "replace").decode("ascii")


def _wrapped(entries: Sequence[str], width: int) -> Iterator[str]:
    """Entries one after the other, as many in a line as fit; none is broken."""
    line = ""
    for entry in entries:
        if line and len(line) + 3 + len(entry) > width:
            yield line
            line = ""
        line += f"   {entry}" if line else entry
    if line:
        yield line
