"""The link from the program's process to one media worker, or to the forwarder in front of them.

It starts the process, speaks to it by `ipc.py`, sees when it has ended or hangs, and tells the pool
(`workers.py`), which has another one started. Both kinds of process are `python -m stack.aio.worker`; the first
message says what it is to be.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar, Protocol, TypeVar

from stack.aio.control import CallEnded
from stack.aio.failure_alerts import FailureAlert
from stack.aio.group_signals import held_back
from stack.aio.hosted import CallTable
from stack.aio.ipc import (
    DESCRIPTOR_SOCKET,
    REPORTS,
    REQUESTS,
    Answered,
    Ask,
    ForwarderHello,
    Happened,
    Hello,
    Ping,
    Pong,
    Ready,
    Refused,
    Stop,
    WorkerReport,
    WorkerRequest,
)
from stack.aio.media import CarryOut, GetTally, MediaRequest, MediaTally
from stack.aio.message_stream import LinkError, MessageStream
from stack.aio.worker_start import command_of_worker, environment_of_worker, wait_for_end
from stack.core.counters import CounterName, Counters, declare
from stack.core.errors import LocalError, StackError
from stack.core.machine import Transmit
from stack.server import Gathered
from stack.session import Ended
from stack.voice.commands import HangUp
from stack.voice.recording import RecordingFailed, RecordingFinished, RecordingOpened
from stack.voice.wire import decode_result

DROPPED_CONNECTION = declare(
    "worker", "dropped_connection", "ICE-TCP connections closed because their worker is down or takes none"
)
LOST = declare("worker", "lost", "Media workers that ended without being told to; each took its calls with it")
HUNG = declare("worker", "hung", "Media workers that were ended because they did not answer")
FORWARDER_LOST = declare(
    "forwarder", "lost", "Forwarders that ended without being told to; calls go on when another is up"
)
FORWARDER_HUNG = declare("forwarder", "hung", "Forwarders that were ended because they did not answer")

log = logging.getLogger("stack.workers")

ResultT = TypeVar("ResultT")

START_PATIENCE = 30.0
"""Seconds that a worker may take to come up."""
STOP_PATIENCE = 8.0
"""Seconds that a worker may take to end when it is told to: what it records is completed in them."""
SETTLED_AFTER = 30.0
"""Seconds after which the end of a worker counts as its first again."""
LATE_AFTER = 1
"""Pings in a row without an answer from which on a worker gets no new call while another one answers."""
TALLY_PATIENCE = 2.0
"""Seconds that a worker has to say what it counted; then its latest answer counts."""
MAX_UNANSWERED = 8
"""Pings in a row without an answer after which a worker is taken for hung, and ended."""


class Pool(Protocol):
    """What a link tells, and what it asks for."""

    table: CallTable
    counters: Counters

    def hello(self, link: WorkerLink, connections: int) -> Hello | ForwarderHello:
        """Return what the process behind a link is told first."""

    def take(self, link: WorkerLink, report: WorkerReport) -> None:
        """Take what it says that is not of a call."""

    def keep(self, tally: MediaTally) -> None:
        """Remember what a process that is gone has counted."""

    def send_for(self, link: WorkerLink, alerts: Sequence[Transmit]) -> None:
        """Send what the process behind a link cannot send any more."""

    def replace(self, link: WorkerLink) -> None:
        """Start another process in the place of one that is gone."""


class WorkerLink:
    """The link to one worker, and to those that take its place. Everything belongs to the program's loop.

    `inherited` are descriptors that each of them gets.
    """

    kind: ClassVar[str] = "media worker"

    def __init__(self, pool: Pool, number: int, inherited: Sequence[int]) -> None:
        self.number = number
        self.inherited = tuple(inherited)
        self.load = 0
        self.gathered = Gathered()
        self.is_up = False
        self.pid: int | None = None
        self._pool = pool
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: MessageStream | None = None
        self._descriptors: socket.socket | None = None
        self._ready: asyncio.Future[None] | None = None
        self._asked: dict[int, tuple[MediaRequest[Any], asyncio.Future[Any]]] = {}
        self._next_number = 0
        self._unanswered = 0
        self._tally = MediaTally.nothing()  # the latest that was asked for
        self._alerts: dict[str, Transmit] = {}  # of each call, for its client
        self._up_since = 0.0

    def __repr__(self) -> str:
        return f"<{self} {f'process {self.pid}' if self.is_up else 'down'}>"

    def __str__(self) -> str:
        return f"{self.kind} {self.number}"

    @property
    def _lost_counter(self) -> CounterName:
        return LOST

    @property
    def _hung_counter(self) -> CounterName:
        return HUNG

    # -- requests --------------------------------------------------------------------------------------------

    def submit(self, request: MediaRequest[object]) -> None:
        """Have something done soon; raises `LocalError` for what cannot leave this process, or is too much."""
        self._ask(0, request)

    async def execute(self, request: MediaRequest[ResultT]) -> ResultT:
        """Have something done and return (or raise) what comes of it; `CallEnded` if the worker is gone."""
        if not self.is_up:
            raise CallEnded("the media worker is gone")
        self._next_number = number = self._next_number % 0xFFFF_FFFF + 1
        answer: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self._ask(number, request)
        self._asked[number] = request, answer
        try:
            return await answer
        finally:
            self._asked.pop(number, None)

    def _ask(self, number: int, request: MediaRequest[object]) -> None:
        asked: Any = request
        if isinstance(request, CarryOut) and not isinstance(request.command, HangUp):
            if self._connection is not None:
                self._connection.send_of(request.call, REQUESTS.encode(Ask(number, asked)))
        else:  # beginning and end of a call are never refused
            self.send(Ask(number, asked))

    def send(self, message: WorkerRequest) -> None:
        """Send a message; nothing happens while the worker is down."""
        if self._connection is not None:
            self._connection.send(REQUESTS.encode(message))

    async def tally(self) -> MediaTally:
        """Return what the worker has counted; its latest answer if it is down, or does not answer in time."""
        with suppress(CallEnded, TimeoutError):
            self._tally = await asyncio.wait_for(self.execute(GetTally()), TALLY_PATIENCE)
        return self._tally

    def adopt(self, sock: socket.socket, begun: bytes) -> None:
        """Hand an ICE-TCP connection over, and what was read of it; it is closed if the worker takes none."""
        try:
            if not self.is_up or self._descriptors is None:
                raise BrokenPipeError
            socket.send_fds(self._descriptors, [begun], [sock.fileno()])
        except OSError:
            self._pool.counters.add(DROPPED_CONNECTION)
        sock.close()

    # -- the process -----------------------------------------------------------------------------------------

    async def start(self, at_low_priority: bool = False) -> None:
        """Start a process and wait until it is up; raises `LocalError` if it does not come up.

        At low priority its code is loaded so that calls beside it do not wait for that.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._close_descriptors()
        self._descriptors, arrivals = socket.socketpair(socket.AF_UNIX, DESCRIPTOR_SOCKET)
        self._descriptors.setblocking(False)
        with theirs, arrivals:
            try:
                with held_back():
                    self._process = subprocess.Popen(
                        [sys.executable, "-P", *command_of_worker(at_low_priority), str(theirs.fileno())],
                        stdin=subprocess.DEVNULL,
                        pass_fds=[theirs.fileno(), arrivals.fileno(), *self.inherited],
                        env=environment_of_worker(),
                    )
                arriving = arrivals.fileno()
            except OSError as error:
                ours.close()
                raise LocalError(f"cannot start a {self.kind}: {error.strerror}") from error
        self.pid = self._process.pid
        self._unanswered = 0
        self.gathered = Gathered()
        self._ready = asyncio.get_running_loop().create_future()
        self._connection = MessageStream(ours, self._on_message, self._on_lost, lambda: None)
        self.send(self._pool.hello(self, arriving))
        try:
            await asyncio.wait_for(self._ready, START_PATIENCE)
        except TimeoutError as error:
            await self.stop()
            raise LocalError(f"a {self.kind} was not up after {START_PATIENCE:g} s") from error
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Tell the worker to end, and wait until it has."""
        self.is_up = False
        process, connection = self._process, self._connection
        if connection is not None and connection.is_open:
            self.send(Stop())
            connection.flush_now()
        if process is not None and not await wait_for_end(process, STOP_PATIENCE):
            process.kill()
            await wait_for_end(process, None)
        if connection is not None:
            connection.close()
        self._connection = None
        self._close_descriptors()
        self._fail_asked("the server is shutting down")

    def _close_descriptors(self) -> None:
        if self._descriptors is not None:
            self._descriptors.close()
            self._descriptors = None

    def check(self) -> None:
        """Ask whether the worker is there; end one that has not answered for long."""
        if not self.is_up or self._process is None:
            return
        if self._unanswered >= MAX_UNANSWERED:
            log.error("%s (process %s) does not answer and is ended", self, self.pid)
            self._pool.counters.add(self._hung_counter)
            self._unanswered = 0
            self._process.kill()
            return
        self._unanswered += 1
        self.send(Ping())

    @property
    def is_late(self) -> bool:
        """True if it has not answered the latest pings: it gets no new call while another worker does."""
        return self._unanswered > LATE_AFTER

    @property
    def has_settled(self) -> bool:
        """True if the latest process was up for long."""
        return time.monotonic() - self._up_since >= SETTLED_AFTER

    # -- what comes ------------------------------------------------------------------------------------------

    def _on_message(self, data: memoryview) -> None:
        report = REPORTS.decode(data)
        table = self._pool.table
        if isinstance(report, Happened):
            if isinstance(report.event, Ended):
                self._alerts.pop(report.call, None)
            table.deliver([(report.call, report.event)])
        elif isinstance(report, FailureAlert):
            if report.call in table.calls:  # not one that a ticket has made and the host has refused
                self._alerts[report.call] = Transmit(report.data, report.path)
        elif isinstance(report, Answered):
            self._on_answer(report)
        elif isinstance(report, Pong):
            self._unanswered = 0
        elif isinstance(report, RecordingOpened | RecordingFinished | RecordingFailed):
            table.note_recording(report)
        elif self._ready is not None and isinstance(report, Ready | Refused):
            self._on_ready(report, self._ready)
        else:
            self._pool.take(self, report)

    def _on_ready(self, report: Ready | Refused, ready: asyncio.Future[None]) -> None:
        if ready.done():
            return
        if isinstance(report, Refused):
            ready.set_exception(LocalError(report.reason))
        else:
            ready.set_result(None)
            self.is_up = True
            self._up_since = time.monotonic()

    def _on_answer(self, report: Answered) -> None:
        known = self._asked.get(report.number)
        if known is None or known[1].done():  # who asked does not wait any more
            return
        request, answer = known
        command: Any = request.command if isinstance(request, CarryOut) else request
        try:
            answer.set_result(decode_result(command, report.result))
        except StackError as error:  # what it raised, or an answer that cannot be read
            answer.set_exception(error)

    def _on_lost(self, error: LinkError) -> None:
        """The worker is gone, or what it says cannot be read."""
        self._connection = None
        self._close_descriptors()
        was_up, self.is_up = self.is_up, False
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()  # a link that has failed is never used again
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(LocalError(f"a {self.kind} did not come up: {error}"))
        if not was_up:
            return
        self._pool.counters.add(self._lost_counter)
        log.error("%s (process %s) is lost: %s; calls that end: %d", self, self.pid, error, self.load)
        self._pool.keep(self._tally)
        self._tally = MediaTally.nothing()
        alerts, self._alerts = self._alerts, {}
        self._pool.send_for(self, list(alerts.values()))
        self._pool.table.lose(self, "its process ended")
        self._fail_asked("the media worker is gone")
        self._pool.replace(self)

    def _fail_asked(self, reason: str) -> None:
        asked, self._asked = self._asked, {}
        for _, answer in asked.values():
            if not answer.done():
                answer.set_exception(CallEnded(reason))

    async def reap(self) -> None:
        """Wait for the end of a process whose link is closed."""
        process = self._process
        if process is not None:
            await wait_for_end(process, None)
            log.info("%s (process %d) ended: %s", self, process.pid, process.returncode)


class ForwarderLink(WorkerLink):
    """The link to the process that forwards to all workers, which carries no call."""

    kind = "forwarder"

    def __str__(self) -> str:
        return self.kind

    @property
    def _lost_counter(self) -> CounterName:
        return FORWARDER_LOST

    @property
    def _hung_counter(self) -> CounterName:
        return FORWARDER_HUNG
