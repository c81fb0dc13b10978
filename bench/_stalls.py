"""Networks that stall, as models and as traces of real ones, for `python -m bench sound`.

A trace is a text file with a line for each packet, in the order of sending:

    # anything
    0.000,0.031
    0.020,0.050
    0.040,lost

The first figure is the second at which the packet was sent, the second the one at which it arrived, or `lost`.
The two clocks need not agree: the fastest packet is taken to have needed `PATH_DELAY`. Our packets go every 20 ms;
each meets what the packet of the trace met that was sent nearest to it.
"""

from __future__ import annotations

from bisect import bisect_left
from math import isfinite
from pathlib import Path

from interop.network_model import Jitter, NetworkModel, Stall
from stack.core.errors import LocalError

PATH_DELAY = 0.030
MAX_LINES = 1_000_000

MODELS = {
    "6 stalls/min of 100-300 ms, 5 ms jitter": (6, 0.1, 0.3, 0.005),
    "6 stalls/min of 100-500 ms, 15 ms jitter": (6, 0.1, 0.5, 0.015),
    "9 stalls/min of 100-500 ms, 15 ms jitter": (9, 0.1, 0.5, 0.015),
    "12 stalls/min of 100-500 ms, 15 ms jitter": (12, 0.1, 0.5, 0.015),
    "12 stalls/min of 100-300 ms, 30 ms jitter": (12, 0.1, 0.3, 0.030),
}
"""Name to stalls in a minute, the shortest and the longest in seconds, jitter between them in seconds."""


def stalling(name: str) -> NetworkModel:
    """Return the network of one of `MODELS`."""
    per_minute, shortest, longest, jitter = MODELS[name]
    mean = (shortest + longest) / 2
    return NetworkModel(
        delay=PATH_DELAY,
        jitter=Jitter(jitter),
        stall=Stall(60 / per_minute - mean, shortest, longest),
    )


class SentTrace:
    """When packets were sent, and how long each was under way (None: lost)."""

    def __init__(self, text: str) -> None:
        self.sent: list[float] = []
        self._under_way: list[float | None] = []
        for number, line in enumerate(text.splitlines(), start=1):
            line = line.partition("#")[0].strip()
            if not line:
                continue
            try:
                first, second = line.split(",")
                sent = float(first)
                arrived = None if second.strip().lower() == "lost" else float(second)
            except ValueError:
                raise LocalError(f"line {number} of the trace is not 'sent,arrived' or 'sent,lost'") from None
            if not isfinite(sent) or (arrived is not None and not isfinite(arrived)):
                raise LocalError(f"line {number} of the trace has no finite figures")
            if self.sent and sent < self.sent[-1]:
                raise LocalError(f"line {number} of the trace was sent before the one above it")
            self.sent.append(sent)
            self._under_way.append(None if arrived is None else arrived - sent)
        came = [delay for delay in self._under_way if delay is not None]
        if not came or len(self.sent) > MAX_LINES:
            raise LocalError(f"a trace has at least one packet that arrived, and at most {MAX_LINES} lines")
        self._offset = PATH_DELAY - min(came)
        self.seconds = self.sent[-1] - self.sent[0]

    @classmethod
    def load(cls, path: Path) -> SentTrace:
        """Read a file; `LocalError` where it is not in the format."""
        try:
            return cls(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise LocalError(f"no trace in {path}: {error}") from None

    def delay(self, at: float) -> float | None:
        """Return how long a packet sent `at` seconds after the first is under way; None: it is lost."""
        at += self.sent[0]
        after = min(bisect_left(self.sent, at), len(self.sent) - 1)
        before = max(after - 1, 0)
        nearest = before if at - self.sent[before] < self.sent[after] - at else after
        delay = self._under_way[nearest]
        return None if delay is None else round(delay + self._offset, 6)
