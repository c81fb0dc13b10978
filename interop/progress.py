"""Progress while the harness runs: a bar on a terminal, a line for each cell anywhere else."""

from __future__ import annotations

import shutil
import sys
import time

from interop.runner import Cell
from interop.verdict import Outcome

MARKS = {
    Outcome.PASSED: "ok",
    Outcome.FAILED: "FAIL",
    Outcome.KNOWN: "known",
    Outcome.HEALED: "HEALED",
    Outcome.UNSUPPORTED: "-",
    Outcome.ABSENT: "absent",
    Outcome.UNTRIED: "not tried",
    Outcome.BROKEN: "BROKEN",
}
BAR = 24


class Progress:
    """Hears of each cell."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._began = time.monotonic()
        self._is_terminal = sys.stdout.isatty()
        self._reds = 0
        self._untried: set[str] = set()
        """Why cells were not tried, each said once."""

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def note(self, cell: Cell, number: int, total: int) -> None:
        """Say what came of a cell."""
        outcome = cell.verdict.outcome
        self._reds += outcome.is_red
        if self._is_terminal:
            print("\r\x1b[K", end="")
        if outcome is Outcome.UNTRIED:
            if cell.verdict.sentence not in self._untried:
                self._untried.add(cell.verdict.sentence)
                print(f"[{number}/{total}] {cell.pair}: the rest is not tried: {cell.verdict.sentence}")
        elif not self._is_terminal or outcome.is_red:
            print(f"[{number}/{total}] {MARKS[outcome]:6} {cell.pair}: {cell.scenario} ({cell.seconds:.1f} s)")
            if outcome not in (Outcome.PASSED, Outcome.ABSENT, Outcome.UNSUPPORTED):
                blame = f"{cell.verdict.blame.value}: " if cell.verdict.blame is not None else ""
                print(f"         {blame}{cell.verdict.sentence}")
        if self._is_terminal:
            done = BAR * number // max(1, total)
            line = f"{'█' * done}{'░' * (BAR - done)} {number}/{total}, {self._reds} red, {self.seconds:.0f} s  "
            line += f"{cell.pair}: {cell.scenario}"
            print(line[: shutil.get_terminal_size().columns - 1], end="")
        sys.stdout.flush()

    def close(self) -> None:
        """Leave the line of the bar."""
        if self._is_terminal:
            print()
