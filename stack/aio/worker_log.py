"""The log of a media worker, or of the forwarder, on its way to the program's process."""

from __future__ import annotations

import logging
from collections.abc import Callable

from stack.aio.ipc import Logged


class LinkHandler(logging.Handler):
    """Gives each record to `report`, in the thread that logs."""

    def __init__(self, report: Callable[[Logged], None]) -> None:
        super().__init__()
        self._report = report
        self._formatter = logging.Formatter()

    @classmethod
    def install(cls, report: Callable[[Logged], None]) -> None:
        """Have all that this process logs reported."""
        logging.getLogger().addHandler(cls(report))

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one on."""
        try:
            traceback = self._formatter.formatException(record.exc_info) if record.exc_info else None
            self._report(Logged(record.name, record.levelno, record.getMessage(), record.created, traceback))
        except Exception:
            self.handleError(record)
