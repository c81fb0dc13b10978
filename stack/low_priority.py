"""Run a module of this package whose imports are made at low priority: `python -m stack.low_priority MODULE …`.

A process that takes the place of another (`aio/worker_link.py`) loads its code beside calls that go on, and that
is half a second of a core. A whole process cannot be made less urgent for that time: without privileges it could
not be made as urgent as before again. On Linux a thread can, and it ends when all is loaded.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from contextlib import suppress
from importlib import import_module

NICENESS = 10
"""By how much the thread that loads is nicer than its process: against it, it gets a tenth of a core."""


def load(name: str) -> None:
    """Import a module in a thread of low priority, and wait for it; what the import raises is for the next one."""
    if sys.platform != "linux":  # elsewhere it would be the whole process
        return
    thread = threading.Thread(target=_load, args=(name,), name="loading")
    thread.start()
    thread.join()


def _load(name: str) -> None:
    os.nice(NICENESS)  # of this thread alone (nice(2), "C library/kernel differences")
    with suppress(Exception):
        import_module(name)
    gc.collect()  # 30 ms of walking what stays for ever; it is not walked again
    gc.freeze()


def main() -> None:
    """Load the module that the first argument names, and call its `main` with the rest of them."""
    name = sys.argv.pop(1)
    load(name)
    import_module(name).main()


if __name__ == "__main__":
    main()
