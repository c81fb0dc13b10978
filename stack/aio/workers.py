"""Media workers, seen from the program's process: they are started, watched, replaced, and spoken to.

`WorkerPool` is a host's media side when it has workers. Every worker is a process of its own (`worker.py`),
started as `python -m stack.aio.worker` and not by `multiprocessing`, which would run a program's script again
that has no `__main__` guard. The pool binds the sockets and keeps them (`steering.py`), so a worker that dies is
replaced behind the same port; its calls end with `EndReason.WORKER_FAILED`, and those of other workers do not
notice.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from stack.aio.control import CallEnded
from stack.aio.hosted import CallTable
from stack.aio.ipc import (
    DESCRIPTOR_SOCKET,
    REPORTS,
    REQUESTS,
    Answered,
    Ask,
    CheckPassedOn,
    Happened,
    Hello,
    KeysLogged,
    LinkError,
    Logged,
    MessageStream,
    PassOn,
    PathTaken,
    Ping,
    Pong,
    Ready,
    Refused,
    ReleasePath,
    Stop,
    Traced,
    WorkerReport,
    WorkerRequest,
    package_version,
)
from stack.aio.media import CarryOut, GetTally, MediaRequest, MediaTally, SetTicketKeys
from stack.aio.media_thread import MediaConfig
from stack.aio.steering import bind_group, can_share_a_port
from stack.aio.ticket_site import CallMade, TicketMedia, as_pem
from stack.aio.udp import UdpSockets
from stack.aio.worker_start import environment_of_worker, modules_of_codecs, wait_for_end
from stack.core.counters import Counters, declare
from stack.core.errors import LocalError, ParseError, StackError
from stack.core.machine import Address, Path
from stack.core.trace import Direction, PacketTrace
from stack.ice import MAX_WORKERS
from stack.voice.recording import RecordingFailed, RecordingFinished, RecordingOpened
from stack.voice.wire import decode_result

STARTED = declare("worker", "started", "Media workers that came up: those of the beginning, and replacements")
DROPPED_CONNECTION = declare(
    "worker", "dropped_connection", "ICE-TCP connections closed because their worker is down or takes none"
)
LOST = declare("worker", "lost", "Media workers that ended without being told to; each took its calls with it")
HUNG = declare("worker", "hung", "Media workers that were ended because they did not answer")
FAULT_TRACE = declare(
    "worker", "fault_trace", "Exceptions survived while showing a worker's datagrams to the trace"
)

log = logging.getLogger("stack.workers")

ResultT = TypeVar("ResultT")

START_PATIENCE = 30.0
"""Seconds that a worker may take to come up."""
CHOICE_PATIENCE = 5.0
"""Seconds that an offer waits for a worker while none is up."""
STOP_PATIENCE = 8.0
"""Seconds that a worker may take to end when it is told to: what it records is completed in them."""
BACKOFF = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a worker is replaced: after its first end, after the next one, and so on."""
SETTLED_AFTER = 30.0
"""Seconds after which the end of a worker counts as its first again."""
PING_EVERY = 1.0
"""Seconds between two questions whether a worker is there."""
LATE_AFTER = 1
"""Pings in a row without an answer from which on a worker gets no new call while another one answers."""
TALLY_PATIENCE = 2.0
"""Seconds that a worker has to say what it counted; then its latest answer counts."""
MAX_UNANSWERED = 15
"""Pings in a row without an answer after which a worker is taken for hung, and ended."""


def check_workers(workers: int) -> None:
    """Raise `LocalError`, in one line, for a number of workers that this machine cannot have."""
    if not 0 <= workers <= MAX_WORKERS:
        raise LocalError(f"workers is 0 (a thread) to {MAX_WORKERS}, not {workers}")
    if workers and not _can_have_workers():
        raise LocalError("media workers need Linux or macOS, and a Python that can start itself: use workers=0")
    if workers > 1 and not can_share_a_port():
        raise LocalError("several media workers on one port need Linux: use workers=1")


def default_workers() -> int:
    """Return how many workers a server has that is not told: one, where the platform can."""
    return 1 if _can_have_workers() else 0


def _can_have_workers() -> bool:
    return sys.platform in ("linux", "darwin") and bool(sys.executable) and not getattr(sys, "frozen", False)


class WorkerLink:
    """The link to one worker, and to those that take its place. Everything belongs to the program's loop."""

    def __init__(self, pool: WorkerPool, number: int, sockets: UdpSockets) -> None:
        self.number = number
        self.load = 0
        self.is_up = False
        self.pid: int | None = None
        self._pool = pool
        self._sockets = sockets
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: MessageStream | None = None
        self._descriptors: socket.socket | None = None
        self._ready: asyncio.Future[None] | None = None
        self._asked: dict[int, tuple[MediaRequest[Any], asyncio.Future[Any]]] = {}
        self._next_number = 0
        self._unanswered = 0
        self._tally = MediaTally.nothing()  # the latest that was asked for
        self._up_since = 0.0

    def __repr__(self) -> str:
        return f"<WorkerLink {self.number}: {f'process {self.pid}' if self.is_up else 'down'}>"

    # -- requests --------------------------------------------------------------------------------------------

    def submit(self, request: MediaRequest[object]) -> None:
        """Have something done soon; raises `LocalError` for what cannot leave this process."""
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

    async def start(self) -> None:
        """Start a process and wait until it is up; raises `LocalError` if it does not come up."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._close_descriptors()
        self._descriptors, arrivals = socket.socketpair(socket.AF_UNIX, DESCRIPTOR_SOCKET)
        self._descriptors.setblocking(False)
        descriptors = [udp.fileno() for udp in self._sockets]
        with theirs, arrivals:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "stack.aio.worker", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno(), arrivals.fileno(), *descriptors],
                    env=environment_of_worker(),
                )
                arriving = arrivals.fileno()
            except OSError as error:
                ours.close()
                raise LocalError(f"cannot start a media worker: {error.strerror}") from error
        self.pid = self._process.pid
        self._unanswered = 0
        self._ready = asyncio.get_running_loop().create_future()
        self._connection = MessageStream(ours, self._on_message, self._on_lost, lambda: None)
        self.send(self._pool.hello(self.number, tuple(descriptors), arriving))
        try:
            await asyncio.wait_for(self._ready, START_PATIENCE)
        except TimeoutError as error:
            await self.stop()
            raise LocalError(f"a media worker was not up after {START_PATIENCE:g} s") from error
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
            log.error("media worker %d (process %s) does not answer and is ended", self.number, self.pid)
            self._pool.counters.add(HUNG)
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
            table.deliver([(report.call, report.event)])
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
            self._ready.set_exception(LocalError(f"a media worker did not come up: {error}"))
        if not was_up:
            return
        self._pool.counters.add(LOST)
        log.error(
            "media worker %d (process %s) is lost: %s; calls that end: %d", self.number, self.pid, error, self.load
        )
        self._pool.keep(self._tally)
        self._tally = MediaTally.nothing()
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
            log.info("media worker %d (process %d) ended: %s", self.number, process.pid, process.returncode)


class WorkerPool:
    """The workers of a host, and their sockets. Everything belongs to the program's loop."""

    def __init__(
        self, config: MediaConfig, table: CallTable, hosts: Sequence[str], port: int, workers: int
    ) -> None:
        self.table = table
        self.counters = Counters()
        self._config = config
        self._trace: PacketTrace | None = config.trace
        self._modules = modules_of_codecs()
        self._groups = bind_group(hosts, port, workers)
        self.links = [WorkerLink(self, number, sockets) for number, sockets in enumerate(self._groups)]
        self._lost = MediaTally.nothing()  # what workers that are gone have counted, as far as it is known
        self._ends: dict[WorkerLink, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._change = asyncio.Event()
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._pinging: asyncio.TimerHandle | None = None

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The UDP addresses on which media arrives."""
        return self._groups[0].addresses

    async def start(self) -> None:
        """Start the workers; raises `LocalError` if one does not come up."""
        results = await asyncio.gather(*(link.start() for link in self.links), return_exceptions=True)
        failures = [each for each in results if isinstance(each, BaseException)]
        if failures:
            await self.stop()
            raise failures[0]
        self.counters.add(STARTED, len(self.links))
        self._ping()

    async def stop(self) -> None:
        """End the workers and close the port."""
        self._stopping = True
        if self._pinging is not None:
            self._pinging.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.gather(*(link.stop() for link in self.links))
        for sockets in self._groups:
            sockets.close()

    async def choose_any(self) -> WorkerLink:
        """Return the link for a call whose first packet makes it: any that is up, as it counts for none before."""
        fit = [link for link in self.links if link.is_up and not link.is_late]
        return random.choice(fit) if fit else await self.choose()

    async def choose(self) -> WorkerLink:
        """Return the link for a new call: of the worker that has fewest; `LocalError` if none comes up in time."""
        deadline = self._loop.time() + CHOICE_PATIENCE
        while not (up := [link for link in self.links if link.is_up]):
            self._change.clear()
            try:
                await asyncio.wait_for(self._change.wait(), deadline - self._loop.time())
            except TimeoutError:
                raise LocalError("no media worker is up") from None
        return min(up, key=lambda link: (link.is_late, link.load))

    def link(self, worker: int) -> WorkerLink | None:
        """Return the link that a fragment's digit names, modulo the number of workers (`steering.py`)."""
        return self.links[worker % len(self.links)]

    def set_ticket_keys(self, tickets: TicketMedia) -> None:
        """Have tickets opened with these keys from now on, by workers that take the place of others, too."""
        self._config = replace(self._config, tickets=tickets)
        for link in self.links:
            if link.is_up:
                link.submit(SetTicketKeys(tickets.ring))

    async def tally(self) -> MediaTally:
        """Return what was counted on the media side, by workers that are gone, too."""
        total = self._lost
        for counted in await asyncio.gather(*(link.tally() for link in self.links)):
            total = total + counted
        ours = Counters.of(total.counters)
        ours.merge(self.counters)
        return MediaTally(ours.snapshot(), total.totals, total.lateness, total.lateness_total)

    # -- for the links ---------------------------------------------------------------------------------------

    def hello(self, number: int, sockets: tuple[int, ...], connections: int) -> Hello:
        """Return what a worker is told first."""
        config = self._config
        return Hello(
            program_version=package_version(),
            number=number,
            workers=len(self.links),
            certificate=as_pem(config.certificate),
            conversation=config.conversation,
            max_calls=config.max_calls,
            sockets=sockets,
            connections=connections,
            traced=self._trace is not None,
            keyed=config.key_log is not None,
            log_level=logging.getLogger("stack").getEffectiveLevel(),
            search_path=tuple(each for each in sys.path if each),
            modules=self._modules,
            tickets=config.tickets,
        )

    def take(self, link: WorkerLink, report: WorkerReport) -> None:
        """Take what a worker says that is not of a call."""
        if isinstance(report, Logged):
            _log(link, report)
        elif isinstance(report, Traced):
            self._show(report)
        elif isinstance(report, KeysLogged):
            if self._config.key_log is not None:
                self._config.key_log(report.line)
        elif isinstance(report, CallMade):
            self.table.note_made(link, report)
        elif isinstance(report, PassOn):
            self.links[report.worker % len(self.links)].send(CheckPassedOn(report.data, report.path))
        elif isinstance(report, PathTaken):
            for other in self.links:
                if other is not link:
                    other.send(ReleasePath(report.path))
        else:
            raise ParseError(f"{type(report).__name__} comes first, and once")

    def keep(self, tally: MediaTally) -> None:
        """Remember what a worker that is gone has counted."""
        self._lost = self._lost + tally

    def replace(self, link: WorkerLink) -> None:
        """Start another process in the place of one that is gone."""
        if self._stopping:
            return
        task = self._loop.create_task(self._replace(link), name=f"replace media worker {link.number}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, link: WorkerLink) -> None:
        await link.reap()
        if link.has_settled:
            self._ends[link] = 0
        while True:
            ends = self._ends.get(link, 0)
            self._ends[link] = ends + 1
            await asyncio.sleep(BACKOFF[min(ends, len(BACKOFF) - 1)])
            try:
                await link.start()
            except (StackError, OSError) as error:  # no descriptor is free, say
                log.error("media worker %d could not be replaced: %s", link.number, error)
            else:
                break
        self.counters.add(STARTED)
        log.warning("media worker %d is up again (process %s)", link.number, link.pid)
        self._change.set()

    def _ping(self) -> None:
        for link in self.links:
            link.check()
        self._pinging = self._loop.call_later(PING_EVERY, self._ping)

    def _show(self, report: Traced) -> None:
        if self._trace is None:
            return
        direction = Direction.OUT if report.sent else Direction.IN
        try:
            self._trace.datagram(direction, report.data, Path(report.local, report.remote), report.now)
        except Exception:  # say for a full disk: it is not asked again
            self._trace = None
            self.counters.add(FAULT_TRACE)
            log.exception("the trace failed")


def _log(link: WorkerLink, report: Logged) -> None:
    """Put a line of a worker's log into ours."""
    logger = logging.getLogger(report.name)
    if logger.isEnabledFor(report.level):
        record = logging.makeLogRecord(
            {
                "name": report.name,
                "levelno": report.level,
                "levelname": logging.getLevelName(report.level),
                "msg": report.message,
                "created": report.created,
                "msecs": report.created % 1 * 1000.0,
                "exc_text": report.traceback,
                "process": link.pid,
                "processName": f"media worker {link.number}",
            }
        )
        logger.handle(record)
