"""The processes that run in namespaces: when one is said to be gone, its own processes are gone, too."""

from __future__ import annotations

import os
import subprocess
import sys

from interop.namespaces import Part, is_running

SIZE = 64 << 20
"""Bytes that the kernel has to free when the child process ends: it does not end at once."""
CHILD = f"memory = b'x' * {SIZE}; print('up', flush=True); input()"
PARENT = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {CHILD!r}], stdin=subprocess.PIPE).wait()"
)
"""Its child's output is its own, and the child waits for an input that never comes."""


async def test_a_part_that_was_killed_has_no_child_process_left() -> None:
    part = Part("parent", [sys.executable, "-c", PARENT], ("up",))
    await part.start()
    (child,) = part.children()
    assert is_running(child)
    await part.kill_all()
    assert not is_running(child)
    assert not is_running(part.pid)


async def test_a_part_that_is_gone_can_be_killed() -> None:
    part = Part("short", [sys.executable, "-c", "print('up')"], ("up",))
    await part.start()
    await part.end()
    await part.kill_all()


def test_a_process_whose_end_was_not_asked_for_yet_does_not_run() -> None:
    assert is_running(os.getpid())
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert not is_running(ended.pid)
    assert not is_running(ended.pid)
