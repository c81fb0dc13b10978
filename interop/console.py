"""What the harness says while it runs, to whatever listens: a run outlives the reader of its words."""

from __future__ import annotations

import os
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any


class Outlet(FileIO):
    """A descriptor that is written to for as long as it takes anything, and to nowhere after that.

    `… | head` closes the pipe, a terminal goes away, a disk fills: a run goes on, and its files hold all.
    """

    def write(self, data: Any) -> int | None:
        try:
            return super().write(data)
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(data)


def speak_to_whatever_listens() -> None:
    """Make stdout and stderr outlive their readers; a letter that an output does not have is replaced."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper):
            stream.flush()
            outlet = BufferedWriter(Outlet(stream.fileno(), "w", closefd=False))
            setattr(
                sys, name, TextIOWrapper(outlet, stream.encoding, "replace", line_buffering=stream.line_buffering)
            )
