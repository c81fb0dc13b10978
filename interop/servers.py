"""Servers to be called, ours and others', each in a process of its own on ports of the system's choice."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parent.parent


class ServerError(Exception):
    """A server did not start."""


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 on which no process listens at this moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def ours(
    agent: str = "echo", extra_args: Sequence[str] = (), host: str | None = "127.0.0.1"
) -> AsyncIterator[str]:
    """`python -m stack serve`; yields the address of its page. `host` None: it is not told where to listen.

    It waits for no call when it ends: a browser that is closed by then does not say goodbye.
    """
    port, udp_port = free_port(), free_port(socket.SOCK_DGRAM)
    argv = ["-m", "stack", "serve", "--agent", agent, "--port", str(port), "--udp-port", str(udp_port)]
    argv += ["--drain-seconds", "0"]
    if host is not None:
        argv += ["--host", host]
    async with _python([*argv, *extra_args], port) as (url, _):
        yield url


@asynccontextmanager
async def ours_to_be_killed(agent: str = "echo") -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """Our server; yields the address of its page, and what ends its process without a word to its clients."""
    port, udp_port = free_port(), free_port(socket.SOCK_DGRAM)
    argv = ["-m", "stack", "serve", "--agent", agent, "--port", str(port), "--udp-port", str(udp_port)]
    # The media in the same process: a worker would speak on for a moment, and say BYE.
    async with _python([*argv, "--host", "127.0.0.1", "--workers", "0"], port) as (url, process):
        yield url, process.kill


@asynccontextmanager
async def aiortc_echo(host: str = "127.0.0.1") -> AsyncIterator[str]:
    """The baseline, with its media on an address of this machine."""
    port = free_port()
    arguments = ["-m", "interop.peers.aiortc_echo", "--port", str(port), "--media-host", host]
    async with _python(arguments, port) as (url, _):
        yield url


@asynccontextmanager
async def mutant(name: str) -> AsyncIterator[str]:
    """Our server with a fault (`interop/mutants.py`), or `healthy`; yields its WHIP address."""
    port = free_port()
    async with _python(["-m", "interop.mutants", name, "--port", str(port)], port) as (url, _):
        yield f"{url}/whip"


@asynccontextmanager
async def _python(
    arguments: Sequence[str], port: int, patience: float = 60.0
) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            answers = await _answers(process, url, patience)
            if not answers:
                output.seek(0)
                said = output.read().decode(errors="replace").strip()
                raise ServerError(f"python {' '.join(arguments)} did not start: {said or 'it said nothing'}")
            yield url, process
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _answers(process: asyncio.subprocess.Process, url: str, patience: float) -> bool:
    """Ask for `url` until there is an answer (True), or the process has ended or the time is up (False)."""
    deadline = asyncio.get_running_loop().time() + patience
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        while process.returncode is None and asyncio.get_running_loop().time() < deadline:
            try:
                async with session.get(url):
                    return True
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.1)
    return False
