"""`serve --reload`: the server runs in a process of its own, and anew when a Python file of the program changes.

For those who write a program. A process, because a module that is imported again in the same one leaves its former
self in threads, in caches and in what others have imported of it.

The files are looked at every `PERIOD`; no library, and nothing of the operating system, is needed for that.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PERIOD = 0.3
"""Seconds between two looks at the files."""
TERMINAL = 3.0
"""Seconds for Ctrl-C to arrive by itself: a terminal tells the server's process, too, and twice is too much."""
PATIENCE = 10.0
"""Seconds for the server to end its calls; then its process is killed."""
MAX_FILES = 5_000
MAX_FOLDERS = 1_000
"""Files and folders that are watched, those higher up first: a folder with more is none of one program."""
NOT_ALL = (
    "Not all Python files below this folder are watched, it has too many: start in the folder of your program."
)
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "build", "dist"})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """When each Python file was changed, by its path."""

    files: Mapping[str, int]
    is_whole: bool
    """False if there is more below the folders than is watched."""


def take_snapshot(folders: Sequence[Path]) -> Snapshot:
    """Return when the Python files below `folders` were changed; hidden folders and environments are left out."""
    found: dict[str, int] = {}
    waiting = deque(map(str, folders))
    for _ in range(MAX_FOLDERS):
        if not waiting:
            return Snapshot(found, is_whole=True)
        try:
            with os.scandir(waiting.popleft()) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError:
            continue  # gone meanwhile, or not ours
        if any(entry.name == "pyvenv.cfg" for entry in entries):
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _SKIPPED and not entry.name.startswith("."):
                    waiting.append(entry.path)
            elif entry.name.endswith(".py"):
                if len(found) == MAX_FILES:
                    return Snapshot(found, is_whole=False)
                with suppress(OSError):  # gone meanwhile
                    found[entry.path] = entry.stat().st_mtime_ns
    return Snapshot(found, is_whole=not waiting)


def changed(before: Snapshot, now: Snapshot) -> str | None:
    """Return the path of a file that is new, gone or other than before; None if there is none."""
    names = sorted(before.files.keys() | now.files.keys())
    return next((path for path in names if before.files.get(path) != now.files.get(path)), None)


def serve_reloading(arguments: Sequence[str], folders: Sequence[Path]) -> int:
    """Run `python -m stack ARGUMENTS` until a signal ends it, anew after each change; return the exit code.

    A server that does not even start the first time is not waited for: its options are wrong.
    """
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: signals.append(received))
    environment = {name: value for name, value in os.environ.items() if name != "VOICE_STACK_RELOAD"}
    is_first = True
    while True:
        before = take_snapshot(folders)
        if is_first and not before.is_whole:
            print(NOT_ALL, flush=True)
        child = subprocess.Popen([sys.executable, "-m", "stack", *arguments], env=environment)
        path = None
        while not signals and path is None:
            # a server ends by itself only if it could not start; what was written wrongly, a change may mend
            if child.poll() is not None and (is_first or child.returncode == 0):
                return child.returncode
            time.sleep(PERIOD)
            path = changed(before, take_snapshot(folders))
        by_terminal = signals[:1] == [signal.SIGINT]
        code = _end(child, signals[0] if signals else signal.SIGINT, by_terminal=by_terminal)
        if signals:
            return code
        is_first = False
        print(f"{os.path.relpath(str(path))} has changed: starting again …", flush=True)


def _end(child: subprocess.Popen[bytes], number: int, *, by_terminal: bool) -> int:
    """End the server in an orderly way; return its exit code as a shell does: 128 and the signal that ended it."""
    if by_terminal:
        with suppress(subprocess.TimeoutExpired):
            child.wait(TERMINAL)
    if child.poll() is None:
        child.send_signal(number)
    try:
        code = child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        code = child.wait()
    return code if code >= 0 else 128 - code
