"""A browser's process: found, started in a group of its own, watched, and ended with all that it started."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

STDERR_LINES_KEPT = 40


class BrowserError(Exception):
    """A browser could not be started, or did not do what it was told."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A browser of this machine."""

    name: str
    executable: str
    version: str


@cache
def find(name: str, executables: tuple[str, ...]) -> Installed | None:
    """The first of `executables` on PATH that can say its version (a stub of a package that is absent cannot)."""
    for candidate in executables:
        path = shutil.which(candidate)
        if path is None:
            continue
        try:
            said = subprocess.run(
                [path, "--version"], capture_output=True, text=True, timeout=60, check=True
            ).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        number = re.search(r"\d+(\.\d+)+", said)
        if number is not None:
            return Installed(name, path, number[0])
    return None


class Process:
    """A running browser, whose stderr is read to the end so that it never blocks on it."""

    def __init__(self, process: asyncio.subprocess.Process, profile: Path) -> None:
        self.profile = profile
        self._process = process
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES_KEPT)
        self._found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def read(self, pattern: str) -> None:
        """Read stderr until it closes. The first group of the first match of `pattern` is the address."""
        assert self._process.stderr is not None
        while raw := await self._process.stderr.readline():
            line = raw.decode(errors="replace").rstrip()
            self._stderr.append(line)
            match = re.search(pattern, line)
            if match is not None and not self._found.done():
                self._found.set_result(match[1])
        if not self._found.done():
            self._found.set_exception(BrowserError(self.explain("ended before it could be driven")))

    async def address(self, timeout: float) -> str:
        """The address at which the browser takes commands."""
        try:
            return await asyncio.wait_for(asyncio.shield(self._found), timeout)
        except TimeoutError:
            raise BrowserError(self.explain(f"gave no address within {timeout:g} s")) from None

    async def ended(self) -> None:
        """Wait until it has ended by itself."""
        await self._process.wait()

    def explain(self, what: str) -> str:
        """A sentence with the last words of the browser's stderr."""
        return "\n    ".join([f"the browser {what}; its stderr ends with:", *self._stderr])


@asynccontextmanager
async def run(argv: Sequence[str], profile: Path, pattern: str) -> AsyncIterator[Process]:
    """Run a browser, whose stderr announces its address by `pattern`."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a group of its own, so that it can be ended as a whole
        limit=1 << 20,
        env=os.environ | {"MOZ_CRASHREPORTER_DISABLE": "1", "HOME": str(profile)},
    )
    browser = Process(process, profile)
    reader = asyncio.create_task(browser.read(pattern))
    try:
        yield browser
    finally:
        # The profile is thrown away, so there is nothing to save: no reason to ask politely and wait.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        reader.cancel()
        with suppress(asyncio.CancelledError, BrowserError):
            await reader
        if browser._found.done() and not browser._found.cancelled():
            browser._found.exception()


@asynccontextmanager
async def fresh_profile(name: str) -> AsyncIterator[Path]:
    """A directory for a profile, gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix=f"voice-stack-{name}-"))
    try:
        yield directory
    finally:
        # A process of the ended group may still be writing for a moment.
        for _ in range(20):
            shutil.rmtree(directory, ignore_errors=True)
            if not directory.exists():
                break
            await asyncio.sleep(0.05)
