"""Signals that a terminal or a service manager sends to all processes of a group, and a process that we start.

It obeys the process that starts it. Until it has set its own handlers, such a signal would be an exception in the
middle of its imports: it is started with them blocked, and lets them through when it is ready to ignore them.
Windows has no such mask.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


def _numbers() -> set[signal.Signals]:
    return {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@contextmanager
def held_back() -> Iterator[None]:
    """Context: a process that this thread starts inside has the signals of its group blocked."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, _numbers())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def let_through() -> None:
    """Unblock them in a process that was started so; those that came meanwhile come now."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _numbers())
