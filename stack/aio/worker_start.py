"""What a media worker needs to come up: where it finds this package, and what it imports. And its end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path

from stack.audio import registered_codecs
from stack.core.errors import LocalError

POLL_EVERY = 0.01
"""Seconds between two looks at a process that is to end."""


def command_of_worker(at_low_priority: bool) -> tuple[str, ...]:
    """Return what the interpreter is to run."""
    return ("-m", *(["stack.low_priority"] if at_low_priority else []), "stack.aio.worker")


def environment_of_worker() -> dict[str, str]:
    """Return a worker's environment: it finds this very package, and numpy starts no threads in it.

    A call's matrices are small, and its loop would wait for a thread that has no core.
    """
    root = str(Path(__file__).resolve().parents[2])
    former = os.environ.get("PYTHONPATH")
    path = os.pathsep.join((root, former)) if former else root
    return {"OPENBLAS_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path}


def modules_of_codecs() -> tuple[str, ...]:
    """Return the modules outside of this package that have registered codecs: a worker has to import them, too.

    Raises `LocalError` for a codec of the program's own script, which a worker does not run.
    """
    modules = dict.fromkeys(codec.make_decoder.__module__ for codec in registered_codecs())
    if "__main__" in modules:
        raise LocalError(
            "a codec is registered by the program's own script, which a media worker does not run: "
            "put it into a module, or use workers=0"
        )
    return tuple(name for name in modules if not name.startswith("stack."))


async def wait_for_end(process: subprocess.Popen[bytes], patience: float | None) -> bool:
    """Wait until a process has ended; False if it has not within `patience` seconds.

    Not in a thread: all of the program's threads may be busy, and then no worker would be replaced.
    """
    began = time.monotonic()
    while process.poll() is None:
        if patience is not None and time.monotonic() - began > patience:
            return False
        await asyncio.sleep(POLL_EVERY)
    return True
