"""How far a benchmark is: lines on the standard error, as the tables go to the standard output."""

from __future__ import annotations

import sys
import time

_BEGAN = time.monotonic()


def say(what: str) -> None:
    """Say what is measured now, or was, with the seconds since the start."""
    print(f"bench, {time.monotonic() - _BEGAN:4.0f} s: {what}", file=sys.stderr, flush=True)
