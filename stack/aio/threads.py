"""A function of the user's in a worker thread, whatever it raises."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

UNFIT = (
    StopIteration,  # no future takes it: what awaits it would wait for ever
    concurrent.futures.CancelledError,  # would look like the cancellation of what awaits it,
    asyncio.CancelledError,  # and so would this
    SystemExit,  # would end the event loop, and with it every call,
    KeyboardInterrupt,  # and so would this
    GeneratorExit,  # would look like the end of what awaits it
)
"""What a function may raise and an event loop takes for something else."""


async def in_thread(function: Callable[P, T], /, *args: P.args, **named: P.kwargs) -> T:
    """Return what `function` returns in a worker thread; what it raises is raised, `UNFIT` as a `RuntimeError`."""
    return await asyncio.to_thread(_called, function, *args, **named)


def _called(function: Callable[P, T], /, *args: P.args, **named: P.kwargs) -> T:
    try:
        return function(*args, **named)
    except UNFIT as error:
        said = f": {error}" if str(error) else ""
        raise RuntimeError(f"the function raised {type(error).__name__}{said}") from error
