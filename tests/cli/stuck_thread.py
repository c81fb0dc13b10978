"""A program that waits in a thread, for ever."""

import asyncio
import threading

from stack.aio import program_runner

program_runner.END_GRACE = 0.05


async def program(call: object) -> None:
    """Wait."""
    await asyncio.to_thread(_wait)


def _wait() -> None:
    print("waiting", flush=True)
    threading.Event().wait()
