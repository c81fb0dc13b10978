"""A process that is started with signals held back gets them when it lets them through, and we keep ours."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from stack.aio.group_signals import held_back

CHILD = """
import os, signal
from stack.aio.group_signals import let_through
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    os.kill(os.getpid(), number)
print("loaded")
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: print(signal.Signals(number).name))
let_through()
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no mask of signals on this system")
def test_they_come_when_the_process_is_ready() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with held_back():
        process = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    output, _ = process.communicate(timeout=60)
    first, *came = output.split()
    assert (first, sorted(came)) == ("loaded", ["SIGHUP", "SIGINT", "SIGTERM"])
    assert process.returncode == 0
