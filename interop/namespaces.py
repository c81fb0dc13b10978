"""Processes in network namespaces: how they are made, what runs in them, and that all of it ends.

A namespace lives as long as a process in it. The kernel kills all of them when the process that has started them
ends, whichever way that is. It needs root, `ip` (iproute2), `nsenter`, `unshare` and `setpriv` (util-linux).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_PATIENCE = 180.0
END_PATIENCE = 10.0
TOOLS = ("ip", "nsenter", "unshare", "setpriv")
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")


def why_not(*more: str) -> str | None:
    """Return why there can be no namespaces here, or that one of the programs `more` is absent; None otherwise."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [each for each in (*TOOLS, *more) if find_program(each) is None]
    return f"absent here: {', '.join(missing)}" if missing else None


def find_program(name: str) -> str | None:
    """Return the path of a program, also of one that is for root."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class NamespaceError(Exception):
    """A part did not start, or the network could not be made."""


def ip(*words: str, inside: int | None = None) -> None:
    """Run `ip`, in the namespace of the process `inside`. Raises `NamespaceError`."""
    prefix = ["nsenter", "-t", str(inside), "-n"] if inside is not None else []
    done = subprocess.run(
        [*prefix, find_program("ip") or "ip", *words], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise NamespaceError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Namespaces:
    """One for each machine, by its name, with a loopback and nothing else."""

    def __init__(self) -> None:
        self._holders: dict[str, subprocess.Popen[bytes]] = {}

    def pid(self, machine: str) -> int:
        """Return the process that keeps a namespace."""
        return self._holders[machine].pid

    def command(self, machine: str, *words: str) -> list[str]:
        """Return the command that runs `words` on a machine, and dies with this process."""
        return ["nsenter", "-t", str(self.pid(machine)), "-n", *_DIES_WITH_US, *words]

    def add(self, machine: str) -> None:
        """Make one. Raises `NamespaceError`."""
        self._holders[machine] = _hold()

    def close(self) -> None:
        """End the processes that keep them."""
        for holder in self._holders.values():
            holder.kill()
            holder.wait()


@contextmanager
def namespaces(machines: Iterable[str]) -> Iterator[Namespaces]:
    """Context: a namespace for each name. Raises `NamespaceError`."""
    made = Namespaces()
    try:
        for name in machines:
            made.add(name)
        yield made
    finally:
        made.close()


def _hold() -> subprocess.Popen[bytes]:
    """Start a process that keeps a network namespace."""
    holder = subprocess.Popen([*_DIES_WITH_US, "unshare", "-n", "sleep", "infinity"], start_new_session=True)
    ours = os.readlink("/proc/thread-self/ns/net")
    deadline = time.monotonic() + END_PATIENCE
    while holder.poll() is None and os.readlink(f"/proc/{holder.pid}/ns/net") == ours:
        if time.monotonic() > deadline:
            holder.kill()
        time.sleep(0.005)
    if holder.poll() is not None:
        raise NamespaceError("no network namespace can be made here")
    ip("link", "set", "lo", "up", inside=holder.pid)
    return holder


# -- what runs in them ---------------------------------------------------------------------------------------


class Part:
    """A process of ours. With `restarts` it is started again whenever it dies, as a supervisor would do."""

    def __init__(self, name: str, command: Sequence[str], ready: tuple[str, ...], restarts: bool = False) -> None:
        self.name = name
        self.lines: list[str] = []
        self.process: asyncio.subprocess.Process | None = None
        self.restarts = restarts
        self._command = command
        self._ready = ready
        self._up = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._readings: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start it and wait until it says that it is up. Raises `NamespaceError`."""
        self._up.clear()
        self._running = asyncio.ensure_future(self._run())
        waiting = asyncio.ensure_future(self._up.wait())
        await asyncio.wait({waiting, self._running}, timeout=START_PATIENCE, return_when="FIRST_COMPLETED")
        waiting.cancel()
        if not self._up.is_set():
            await self.end()
            raise NamespaceError(f"{self.name} did not start:\n{''.join(self.lines[-20:])}")

    async def _run(self) -> None:
        while True:
            self.process = await asyncio.create_subprocess_exec(
                *self._command, stdin=subprocess.DEVNULL, stdout=-1, stderr=asyncio.subprocess.STDOUT, cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C is for us: parts end in order
            )  # fmt: skip
            assert self.process.stdout is not None
            reading = asyncio.create_task(self._read(self.process.stdout))
            self._readings.add(reading)
            reading.add_done_callback(self._readings.discard)
            await self.process.wait()
            if not self.restarts:  # else at once, whatever its children still say
                await reading
                return

    async def _read(self, said: asyncio.StreamReader) -> None:
        while line := (await said.readline()).decode("utf-8", "replace"):
            self.lines.append(line)
            if not self._ready or line.startswith(self._ready):
                self._up.set()

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self.process is not None
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    def children(self) -> list[int]:
        """Return its child processes: a node's are its media workers."""
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(each) for each in text.split()]

    async def kill_all(self) -> None:
        """Kill it and its child processes at once, as the loss of its machine does; they are gone then.

        Raises `NamespaceError` if one is not.
        """
        children: list[int] = []
        if self.process is not None and self.process.returncode is None:
            children = self.children()
            for pid in (*children, self.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        await self.end()

        async def are_gone() -> bool:  # init waits for them, we cannot
            return not any(map(is_running, children))

        await wait_for(are_gone, f"the child processes of {self.name} to end", END_PATIENCE)

    async def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, and wait until it is gone; by SIGKILL if it takes too long."""
        self.restarts = False
        self.send(number)
        if self._running is not None:
            done, _ = await asyncio.wait({self._running}, timeout=END_PATIENCE)
            if not done:
                self.send(signal.SIGKILL)
                await asyncio.wait({self._running}, timeout=END_PATIENCE)


def is_running(pid: int) -> bool:
    """Return False for a process that is gone, also if its parent has yet to ask how it ended."""
    try:
        after_its_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except OSError:
        return False
    return after_its_name.split()[0] not in ("Z", "X")  # proc(5)


async def wait_for(condition: Callable[[], Awaitable[bool]], what: str, patience: float = START_PATIENCE) -> None:
    """Wait until something holds. Raises `NamespaceError` after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not await condition():
        if time.monotonic() > deadline:
            raise NamespaceError(f"waited {patience:g} s for {what}")
        await asyncio.sleep(0.05)


async def fetch(url: str) -> str:
    """Return the body at an URL; an empty text if nothing answers."""
    import aiohttp

    try:
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            return await response.text()
    except (aiohttp.ClientError, OSError):
        return ""
