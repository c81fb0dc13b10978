"""The signals that end a run: the first ends its cells, and what was found is written all the same."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_alone(main: Callable[[], object]) -> NoReturn:
    """Run what a module does as a program, and end the process with what it returns; Ctrl-C is one line."""
    try:
        code = main()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


class Interruption:
    """While inside, SIGTERM and SIGHUP end a run as Ctrl-C does; after `over` none of them ends anything."""

    def __init__(self) -> None:
        self._former: dict[signal.Signals, Any] = {}
        self.number: int = signal.SIGINT
        """The signal that came."""

    def __enter__(self) -> Self:
        self._former = {number: signal.getsignal(number) for number in SIGNALS}
        for number, former in self._former.items():
            # SIGINT is asyncio's, which cancels what runs; one that is ignored (nohup) stays so.
            if number is not signal.SIGINT and former is not signal.SIG_IGN:
                signal.signal(number, self._end)
        return self

    def _end(self, number: int, _frame: object) -> None:
        self.number = number
        raise KeyboardInterrupt

    def over(self) -> None:
        """The run has ended: from now on its results are written, which takes a moment."""
        for number in self._former:
            signal.signal(number, signal.SIG_IGN)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)
