"""The roles as processes on loopback."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_PATIENCE = 60.0


class Role:
    """One process; `url` is where its HTTP is."""

    def __init__(self, process: asyncio.subprocess.Process, first: str) -> None:
        self.process = process
        self.lines: list[str] = [first]
        found = re.search(r"https?://\S+?(?=/? )", first)
        self.url = found[0] if found else ""
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.lines.append(line.decode())

    @property
    def said(self) -> str:
        return "".join(self.lines)

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self._reading.cancel()


@asynccontextmanager
async def role(*arguments: str, **variables: str) -> AsyncIterator[Role]:
    """Context: `python -m stack ARGUMENTS` is up."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stack", *arguments, stdout=-1, stderr=asyncio.subprocess.STDOUT, cwd=ROOT,
        env=os.environ | variables,
    )  # fmt: skip
    assert process.stdout is not None
    running = None
    said = []
    try:
        async with asyncio.timeout(START_PATIENCE):
            while line := (await process.stdout.readline()).decode():
                said.append(line)
                if line.startswith(("Open ", "Taking calls", "Relaying")):
                    running = Role(process, line)
                    break
        assert running is not None, "".join(said)
        yield running
    finally:
        if running is not None:
            await running.end()
        elif process.returncode is None:
            process.kill()
            await process.wait()
