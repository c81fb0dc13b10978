"""The far end of a data channel trial, whatever it is: a browser, a stack for Node, aiortc.

A `Lab` is told what to do by commands: `offer` and `answer` make the connection; `open`, `wait_open`, `close` and
`wait_closed` are about one channel, named by its label; `send` and `receive` about messages, which are described
by kind, size and seed and come back as digests; `transfer` and `collect` about a long stream of binary messages.
The commands are carried out by `interop/peers/lab.js`, and for aiortc by `interop/peers/aiortc_lab.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from interop.browsers import Browser
from interop.impair import ImpairedRelay
from interop.network_model import NetworkModel
from interop.redirect import rewrite_candidates
from stack import Call
from stack.aio import HostConfig
from stack.sdp import Setup
from stack.signaling.server import ServeConfig, Serving, serving

ROOT = Path(__file__).resolve().parent.parent
NODE_PEERS = ROOT / "interop" / "peers" / "node"
PATIENCE = 120.0
"""Seconds that one command may take; only to turn something that hangs into an error."""


class Ask:
    """A command that is a function of the conversation and the instant: what a trial wants to know of it."""

    def __init__(self, function: Callable[[Any, float], Any]) -> None:
        self._function = function

    def apply(self, conversation: Any, now: float) -> Any:
        return self._function(conversation, now)


class LabError(Exception):
    """The far end could not do what it was told."""


def content(size: int, seed: int) -> bytes:
    """Return the stream of bytes with this seed: a hash of each byte's place, so that every piece is another."""
    with np.errstate(over="ignore"):
        x = np.arange(size, dtype=np.uint32) + np.uint32(seed * 0x9E3779B1 & 0xFFFFFFFF)
        x *= np.uint32(0x85EBCA6B)
        x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return (x >> np.uint32(24)).astype(np.uint8).tobytes()


def letters(size: int, seed: int) -> str:
    """Return text of `size` small letters: a byte each."""
    return (97 + np.frombuffer(content(size, seed), np.uint8) % 26).tobytes().decode()


@dataclass(frozen=True, slots=True)
class Sample:
    """A message to be sent: `size` bytes of text or binary; or this very `text`."""

    kind: str
    size: int = 0
    seed: int = 0
    text: str | None = None

    @property
    def data(self) -> str | bytes:
        """The message itself."""
        if self.text is not None:
            return self.text
        return content(self.size, self.seed) if self.kind == "binary" else letters(self.size, self.seed)

    def order(self) -> dict[str, Any]:
        """How a lab is told to send it."""
        return {"kind": self.kind, "size": self.size, "seed": self.seed, "text": self.text}


def receipt(message: str | bytes) -> dict[str, Any]:
    """Return what a lab reports of a message that it received."""
    data = message.encode() if isinstance(message, str) else message
    kind = "text" if isinstance(message, str) else "binary"
    return {"kind": kind, "size": len(data), "sha256": sha256(data).hexdigest()}


class Lab(ABC):
    """One far end."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    async def do(self, command: str, *, patience: float = PATIENCE, **args: Any) -> Any:
        """Carry out a command and return its result; raises `LabError` or `BrowserError`."""


class BrowserLab(Lab):
    """A browser's page."""

    def __init__(self, browser: Browser) -> None:
        super().__init__(browser.name)
        self._browser = browser

    async def load(self, url: str) -> None:
        """Open a page of this origin (WebCrypto wants a secure one: loopback is) and put the lab into it."""
        await self._browser.goto(url)
        # Firefox gathers the candidates of loopback only while something is captured.
        capture = (
            "navigator.mediaDevices.getUserMedia({ audio: true }).then(stream => { window.captured = stream; })"
        )
        await self._browser.evaluate(capture)
        source = (ROOT / "interop" / "peers" / "lab.js").read_text("utf-8")
        await self._browser.evaluate(f"(() => {{ {source}\n }})()")

    async def do(self, command: str, *, patience: float = PATIENCE, **args: Any) -> Any:
        """See `Lab`."""
        return await self._browser.evaluate(f"lab({json.dumps(command)}, {json.dumps(args)})", patience)


class ProcessLab(Lab):
    """A program that takes commands as JSON lines."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        super().__init__(name)
        self._process = process
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {0: asyncio.get_running_loop().create_future()}
        self._said = bytearray()

    async def ready(self) -> None:
        """Wait until it has started."""
        try:
            await asyncio.wait_for(self._waiting[0], PATIENCE)
        except asyncio.CancelledError as error:
            error.add_note(f"{self.name} was started and has not said that it is ready")
            raise

    async def read(self) -> None:
        """Hand out answers until the program ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            try:
                answer = json.loads(line)
                future = self._waiting.get(answer["id"])
            except (ValueError, TypeError, KeyError):
                continue  # a stack that talks to itself
            if future is None or future.done():
                continue
            if "error" in answer:
                future.set_exception(LabError(f"{self.name}: {answer['error']}"))
            else:
                future.set_result(answer["result"])
        for future in self._waiting.values():
            if not future.done():
                said = self._said.decode(errors="replace").strip()[-2000:]
                future.set_exception(LabError(f"{self.name} has ended: {said or 'it said nothing'}"))

    async def read_errors(self) -> None:
        """Keep the end of what it says on stderr."""
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(4096):
            self._said += data
            del self._said[:-8192]

    async def do(self, command: str, *, patience: float = PATIENCE, **args: Any) -> Any:
        """See `Lab`."""
        assert self._process.stdin is not None
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._process.stdin.write(json.dumps({"id": number, "command": command, "args": args}).encode() + b"\n")
        try:
            return await asyncio.wait_for(future, patience)
        except TimeoutError:
            said = self._said.decode(errors="replace").strip()[-1000:]
            raise LabError(f"{self.name}: {command} {args} took more than {patience:g} s; {said}") from None
        except asyncio.CancelledError as error:
            error.add_note(f"{self.name} has not answered `{command}`")
            raise
        finally:
            del self._waiting[number]


def why_absent(name: str) -> str | None:
    """Return one line that says why the stack `name` cannot be tried here, or None if it can."""
    if name == "aiortc":
        return None
    if shutil.which("node") is None:
        return f"{name}: there is no node here"
    if not (NODE_PEERS / "node_modules" / name / "package.json").exists():
        return f"{name} is not installed here: `npm install` in {NODE_PEERS.relative_to(ROOT)}"
    return None


def process_lab(name: str) -> AbstractAsyncContextManager[ProcessLab]:
    """Start the lab of aiortc, node-datachannel or werift."""
    if name == "aiortc":
        return process(name, [sys.executable, "-m", "interop.peers.aiortc_lab"])
    return process(name, ["node", str(NODE_PEERS / "lab.mjs"), name])


@asynccontextmanager
async def process(name: str, argv: Sequence[str], farewell: float = 0.0) -> AsyncIterator[ProcessLab]:
    """Start a program that takes commands; it is killed on the way out, with all that it started.

    `farewell` are the seconds that it is given to end by itself when its stdin has.
    """
    child = await asyncio.create_subprocess_exec(
        *argv,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 22,
        start_new_session=True,  # a group of its own, so that it can be ended as a whole
    )
    lab = ProcessLab(name, child)
    readers = [asyncio.create_task(lab.read()), asyncio.create_task(lab.read_errors())]
    try:
        await lab.ready()
        yield lab
    finally:
        if farewell:
            assert child.stdin is not None
            child.stdin.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), farewell)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()
        await asyncio.gather(*readers)


async def stay(call: Call) -> None:
    """The program of a server under trial: the trial itself does everything."""
    await call.wait_ended()


@asynccontextmanager
async def trial_server(setup: Setup = Setup.PASSIVE, pcap: str | None = None) -> AsyncIterator[Serving]:
    """Our server, in this process."""
    config = ServeConfig(port=0, pcap=pcap, media=HostConfig(host="127.0.0.1", udp_port=0, setup=setup))
    async with serving(stay, config) as server:
        yield server


@dataclass(frozen=True, slots=True)
class Line:
    """A connection under trial: the far end, our end, and the network between them."""

    lab: Lab
    call: Call
    relay: ImpairedRelay
    network: NetworkModel
    peer_takes: int | None
    """The longest message that the far end says it may send, in bytes; None: it does not say."""


@asynccontextmanager
async def connected(server: Serving, lab: Lab, network: NetworkModel, seed: int = 1) -> AsyncIterator[Line]:
    """Connect a lab with the server over this network, both ways; hung up afterwards."""
    async with ImpairedRelay(network, network, server.host.addresses[0], seed=seed) as relay:
        accepted = await server.host.accept(await lab.do("offer"))
        answer = rewrite_candidates(accepted.answer, relay.address)
        told = await lab.do("answer", sdp=answer)
        await accepted.call.wait_connected()
        try:
            yield Line(lab, accepted.call, relay, network, told["maxMessageSize"])
        finally:
            accepted.call.hang_up()
            await asyncio.wait_for(accepted.call.wait_ended(), 10)
            await lab.do("hang_up")
