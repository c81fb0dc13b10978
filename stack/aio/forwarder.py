"""The forwarder: the process that reads the port for several workers (`forwarding.py` says what it does and why).

`worker_link.py` starts it as it starts workers, and a first message of another kind makes `worker.py` become this.
It is a process of its own, not a task of the program's: a program that computes would delay every packet.

When the program is gone it goes on for as long as a worker does, which is `PROGRAM_GRACE` seconds at most.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from contextlib import suppress

from stack.aio.forwarding import Forwarding
from stack.aio.ipc import (
    REPORTS,
    REQUESTS,
    Answered,
    Ask,
    ForwarderHello,
    Logged,
    Ping,
    Pong,
    Ready,
    Stop,
    WorkerReport,
)
from stack.aio.media import GetTally, MediaTally
from stack.aio.message_stream import LinkError, MessageStream
from stack.aio.udp import UdpSocket, UdpSockets
from stack.aio.worker_log import LinkHandler
from stack.core.errors import ParseError
from stack.voice.wire import encode_result

LOOK_EVERY = 0.1
"""Seconds between two looks at the parent process, and without it at the workers."""


class Forwarder:
    """The process; everything here belongs to its loop."""

    def __init__(self, hello: ForwarderHello, link: socket.socket) -> None:
        self._parent = os.getppid()
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._connection = MessageStream(link, self._on_message, self._on_lost, lambda: None)
        sockets = UdpSockets([UdpSocket.adopt(socket.socket(fileno=each)) for each in hello.sockets])
        self._forwarding = Forwarding(sockets, [socket.socket(fileno=each) for each in hello.ends])

    async def run(self) -> None:
        """Forward until there is nothing more to do."""
        LinkHandler.install(self._report_log)
        self._report(Ready())
        gc.collect()
        gc.freeze()  # what is left for the collector is little
        self._loop.call_later(LOOK_EVERY, self._look)
        await self._over.wait()
        self._forwarding.close()
        self._connection.flush_now()
        self._connection.close()

    def _on_message(self, data: memoryview) -> None:
        request = REQUESTS.decode(data)
        if isinstance(request, Ping):
            self._report(Pong())
        elif isinstance(request, Ask) and isinstance(request.request, GetTally):
            nothing = MediaTally.nothing()
            counted = self._forwarding.all_counters().snapshot()
            tally = MediaTally(counted, nothing.totals, nothing.lateness, nothing.lateness_total)
            self._report(Answered(request.number, encode_result(tally)))
        elif isinstance(request, Stop):
            self._over.set()
        else:
            raise ParseError(f"a forwarder cannot be asked for {type(request).__name__}")

    def _report(self, report: WorkerReport) -> None:
        self._connection.send(REPORTS.encode(report))

    def _report_log(self, record: Logged) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._report, record)

    def _on_lost(self, error: LinkError) -> None:
        """The program is gone: `_look` sees when the workers are."""

    def _look(self) -> None:
        if self._connection.is_open and os.getppid() != self._parent:
            self._connection.fail(LinkError("the program's process is gone"))
        if not self._connection.is_open and not self._forwarding.has_workers:
            self._over.set()
            return
        self._loop.call_later(LOOK_EVERY, self._look)
