"""The server's side of the models: one process for all calls, asked from any event loop.

`start` runs it and waits until the models are loaded. Every request is awaited; one that is cancelled is stopped
in the process, too. If the process dies, what waits fails and the next `start` runs another.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import queue
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, Final

import numpy as np

from stack.agents.local.frames import PipeFrame, read_frame, write_frame
from stack.agents.local.text import Message
from stack.aio.group_signals import held_back
from stack.audio import Samples
from stack.core.errors import LocalError

COMMAND: Final = (sys.executable, "-m", "stack.agents.local.models")
_CLOSE_TIMEOUT = 2.0
"""Seconds that the process has to end after it was told to."""


class Worker:
    """A process with the models in it."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        """Start it and wait until it is ready; `LocalError` says in one line why it is not."""
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        environment = {**os.environ, "PYTHONPATH": path}
        with held_back():
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        hello = read_frame(self._stdout)
        if hello is None or "ready" not in hello.head:
            self._process.kill()
            self._process.wait()
            self._stdin.close()
            self._stdout.close()
            raise LocalError(
                hello.head["failed"] if hello else "the local assistant's models crashed while loading"
            )
        self._slots = list(range(hello.head["ready"]))
        self._numbers = count()
        self._lock = threading.Lock()
        self._dead = False
        self._open: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Queue[PipeFrame]]] = {}
        self._outbox: queue.SimpleQueue[PipeFrame | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=run, name=f"local models: {run.__name__}", daemon=True)
            for run in (self._write, self._read)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """False once the process is gone."""
        return not self._dead and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def close(self) -> None:
        """End the process; what waits for it fails."""
        self._outbox.put(None)
        try:
            self._process.wait(_CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join(_CLOSE_TIMEOUT)
        self._stdout.close()

    def lease(self) -> int | None:
        """Return a slot of the language model, to be given back; None if all are taken."""
        with self._lock:
            return self._slots.pop(0) if self._slots else None

    def give_back(self, slot: int) -> None:
        """That conversation is over."""
        with self._lock:
            self._slots.append(slot)

    async def recognise(self, samples: Samples) -> str:
        """Return the words in int16 samples of shape (n,) at 16 kHz."""
        async with self._asking({"type": "recognise"}, samples.astype("<i2").tobytes()) as answers:
            text: str = (await _next(answers)).head["text"]
            return text

    async def synthesise(self, text: str) -> tuple[Samples, int]:
        """Return `text` as int16 samples of shape (n,), and their rate in Hz."""
        async with self._asking({"type": "synthesise", "text": text}) as answers:
            answer = await _next(answers)
            return np.frombuffer(answer.body, "<i2").astype(np.int16), answer.head["rate"]

    @asynccontextmanager
    async def generating(self, messages: Sequence[Message], slot: int, tokens: int) -> AsyncIterator[Generation]:
        """Context: an answer to `messages` in pieces; leaving it before the end stops the model."""
        request = {"type": "generate", "messages": list(messages), "slot": slot, "tokens": tokens}
        async with self._asking(request) as answers:
            yield Generation(answers)

    @asynccontextmanager
    async def _asking(self, head: dict[str, Any], body: bytes = b"") -> AsyncIterator[asyncio.Queue[PipeFrame]]:
        number, answers = next(self._numbers), asyncio.Queue[PipeFrame]()
        with self._lock:
            if self._dead:
                raise LocalError("the local assistant's models are gone")
            self._open[number] = (asyncio.get_running_loop(), answers)
        self._outbox.put(PipeFrame({**head, "id": number}, body))
        try:
            yield answers
        finally:
            with self._lock:
                self._open.pop(number, None)
            self._outbox.put(PipeFrame({"type": "stop", "id": number}))  # harmless when it is done

    def _write(self) -> None:
        """The thread that fills the pipe, which may be full for a moment."""
        with suppress(OSError):
            while (frame := self._outbox.get()) is not None:
                write_frame(self._stdin, frame)
        with suppress(OSError):
            self._stdin.close()

    def _read(self) -> None:
        """The thread that hands answers to the loops that wait for them."""
        while (frame := read_frame(self._stdout)) is not None:
            with self._lock:
                waiting = self._open.get(frame.head["id"])
            if waiting is not None:
                _post(*waiting, frame)
        with self._lock:
            self._dead, waiting_all, self._open = True, list(self._open.values()), {}
        for waiting in waiting_all:
            _post(*waiting, PipeFrame({"error": "the local assistant's models crashed"}))
        self._outbox.put(None)


class Generation:
    """An answer as it comes: iterate over its pieces. Afterwards `cut` says if it ran into the limit of tokens."""

    def __init__(self, answers: asyncio.Queue[PipeFrame]) -> None:
        self._answers = answers
        self.cut = False

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> str:
        head = (await _next(self._answers)).head
        if "piece" in head:
            piece: str = head["piece"]
            return piece
        self.cut = head.get("done") == "length"
        raise StopAsyncIteration


async def _next(answers: asyncio.Queue[PipeFrame]) -> PipeFrame:
    frame = await answers.get()
    if "error" in frame.head:
        raise LocalError(frame.head["error"])
    return frame


def _post(loop: asyncio.AbstractEventLoop, answers: asyncio.Queue[PipeFrame], frame: PipeFrame) -> None:
    with suppress(RuntimeError):  # that loop has closed
        loop.call_soon_threadsafe(answers.put_nowait, frame)


_shared: Worker | None = None
_starting = threading.Lock()


def start() -> Worker:
    """Return the worker that all calls share, started if it does not run; blocks while models are loaded."""
    global _shared
    with _starting:
        if _shared is None or not _shared.alive:
            _shared = Worker()
            atexit.register(_shared.close)
        return _shared
