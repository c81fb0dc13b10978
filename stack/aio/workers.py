"""Media workers, seen from the program's process: they are started, watched, replaced, and given calls.

`WorkerPool` is a host's media side when it has workers. Every worker is a process of its own (`worker.py`),
started as `python -m stack.aio.worker` and not by `multiprocessing`, which would run a program's script again
that has no `__main__` guard. The pool binds the sockets and keeps them, so a worker that dies is replaced behind
the same port; its calls end with `EndReason.WORKER_FAILED`, and those of other workers do not notice. Several
workers share the port by the kernel (`steering.py`) or by one process in front (`forwarding.py`), which is
replaced as they are; no call ends with it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace

from stack.aio.forwarding import forwarding_pair
from stack.aio.hosted import CallTable
from stack.aio.ipc import (
    CheckPassedOn,
    ForwarderHello,
    Hello,
    KeysLogged,
    Logged,
    PassOn,
    PathTaken,
    ReleasePath,
    Traced,
    WorkerReport,
    package_version,
)
from stack.aio.media import GatherFrom, MediaRequest, MediaTally, NoMoreServers, SetTicketKeys
from stack.aio.media_thread import MediaConfig
from stack.aio.steering import CannotSteer, Steering, bind_group
from stack.aio.ticket_site import CallMade, TicketMedia, as_pem
from stack.aio.udp import UdpSockets, bind_all
from stack.aio.worker_link import ForwarderLink, WorkerLink
from stack.aio.worker_start import modules_of_codecs
from stack.core.counters import Counters, declare
from stack.core.errors import LocalError, ParseError, StackError
from stack.core.machine import Address, Path, Transmit, TransportProtocol
from stack.core.trace import Direction, PacketTrace
from stack.ice import MAX_WORKERS
from stack.ice.servers import LocatedServer
from stack.server import Gathered

STARTED = declare("worker", "started", "Media workers that came up: those of the beginning, and replacements")
FAULT_TRACE = declare(
    "worker", "fault_trace", "Exceptions survived while showing a worker's datagrams to the trace"
)

log = logging.getLogger("stack.workers")

CHOICE_PATIENCE = 7.0
"""Seconds that an offer waits for a worker while none is up."""
BACKOFF = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a worker is replaced: after its first end, after the next one, and so on."""
PING_EVERY = 1.0
"""Seconds between two questions whether a worker is there."""


def check_workers(workers: int) -> None:
    """Raise `LocalError`, in one line, for a number of workers that this machine cannot have."""
    if not isinstance(workers, int) or not 0 <= workers <= MAX_WORKERS:
        raise LocalError(f"workers is 0 (a thread) to {MAX_WORKERS}, not {workers!r}")
    if workers and not _can_have_workers():
        raise LocalError("media workers need Linux or macOS, and a Python that can start itself: use workers=0")


def default_workers() -> int:
    """Return how many workers a server has that is not told: one, where the platform can."""
    return 1 if _can_have_workers() else 0


def _can_have_workers() -> bool:
    return sys.platform in ("linux", "darwin") and bool(sys.executable) and not getattr(sys, "frozen", False)


class WorkerPool:
    """The workers of a host, and their sockets. Everything belongs to the program's loop."""

    def __init__(
        self,
        config: MediaConfig,
        table: CallTable,
        hosts: Sequence[str],
        port: int,
        workers: int,
        steering: Steering | None = None,
    ) -> None:
        self.table = table
        self.counters = Counters()
        self._config = config
        self._trace: PacketTrace | None = config.trace
        self._modules = modules_of_codecs()
        self._groups, self.steering = _bind(hosts, port, workers, steering)
        self._pairs = [forwarding_pair() for _ in range(workers)] if self.steering is Steering.FORWARDER else []
        self._shown: list[
            tuple[socket.socket, socket.socket]
        ] = []  # where each worker is shown strays, and by what
        if self.steering is Steering.KERNEL and workers > 1:
            self._shown = [forwarding_pair() for _ in range(workers)]
        self.links = [WorkerLink(self, number, self._inherited(number)) for number in range(workers)]
        self.forwarder: ForwarderLink | None = None
        if self._pairs:
            ends = [end.fileno() for end, _ in self._pairs]
            self.forwarder = ForwarderLink(self, workers, [*ends, *(udp.fileno() for udp in self._groups[0])])
        self._lost = MediaTally.nothing()  # what workers that are gone have counted, as far as it is known
        self._ends: dict[WorkerLink, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._change = asyncio.Event()
        self._gathering: list[MediaRequest[None]] = []  # what every worker is told, those that come later, too
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._pinging: asyncio.TimerHandle | None = None

    def _inherited(self, number: int) -> list[int]:
        """Return the descriptors of the sockets that a worker gets, and before them its end of a pair."""
        sockets = self._groups[number if len(self._groups) > 1 else 0]
        ends = [end.fileno() for _, end in self._pairs[number : number + 1]]
        return ends + self._ends_of_shown(number) + [udp.fileno() for udp in sockets]

    def _ends_of_shown(self, number: int) -> list[int]:
        """Return where a worker is shown strays, and the ends that lead to the other workers."""
        if not self._shown:
            return []
        others = [leading.fileno() for other, (_, leading) in enumerate(self._shown) if other != number]
        return [self._shown[number][0].fileno(), *others]

    @property
    def _processes(self) -> list[WorkerLink]:
        return [*self.links, self.forwarder] if self.forwarder is not None else self.links

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The UDP addresses on which media arrives."""
        return self._groups[0].addresses

    async def start(self) -> None:
        """Start the workers; raises `LocalError` if one does not come up."""
        results = await asyncio.gather(*(link.start() for link in self._processes), return_exceptions=True)
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
        if self.forwarder is not None:  # behind the last word of each call
            await self.forwarder.stop()
        for sockets in self._groups:
            sockets.close()
        for end in (end for pair in (*self._pairs, *self._shown) for end in pair):
            end.close()

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

    def ask_server(self, located: LocatedServer) -> None:
        """Have every worker gather candidates from a server."""
        self._tell_all(GatherFrom(located))

    def finish_asking(self) -> None:
        """Every server was named that can be by now."""
        self._tell_all(NoMoreServers())

    def _tell_all(self, request: MediaRequest[None]) -> None:
        if request not in self._gathering:
            self._gathering.append(request)
        for link in self.links:
            if link.is_up:
                link.submit(request)

    async def tally(self) -> MediaTally:
        """Return what was counted on the media side, by workers that are gone, too."""
        total = self._lost
        for counted in await asyncio.gather(*(link.tally() for link in self._processes)):
            total = total + counted
        ours = Counters.of(total.counters)
        ours.merge(self.counters)
        return MediaTally(ours.snapshot(), total.totals, total.lateness, total.lateness_total)

    # -- for the links ---------------------------------------------------------------------------------------

    def hello(self, link: WorkerLink, connections: int) -> Hello | ForwarderHello:
        """Return what a worker, or the forwarder, is told first."""
        config = self._config
        log_level = logging.getLogger("stack").getEffectiveLevel()
        if link is self.forwarder:
            workers = len(self.links)
            ends, sockets = link.inherited[:workers], link.inherited[workers:]
            return ForwarderHello(package_version(), ends, sockets, log_level)
        end, sockets = (link.inherited[0], link.inherited[1:]) if self._pairs else (None, link.inherited)
        ends, sockets = sockets[: len(self._shown)], sockets[len(self._shown) :]
        tickets = config.tickets and replace(config.tickets, over=tuple(self.table.lost))
        return Hello(
            program_version=package_version(),
            number=link.number,
            workers=len(self.links),
            certificate=as_pem(config.certificate),
            conversation=config.conversation,
            max_calls=config.max_calls,
            sockets=sockets,
            connections=connections,
            traced=self._trace is not None,
            keyed=config.key_log is not None,
            log_level=log_level,
            search_path=tuple(each for each in sys.path if each),
            modules=self._modules,
            tickets=tickets,
            forwarder=end,
            shown=ends[0] if ends else None,
            others=ends[1:],
            gathers=config.gathers,
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
        elif isinstance(report, Gathered):
            link.gathered = report
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

    def send_for(self, link: WorkerLink, alerts: Sequence[Transmit]) -> None:
        """Tell the clients of a worker that is gone that it is: they need not find out by its silence."""
        sockets = self._groups[link.number if len(self._groups) > 1 else 0]
        sockets.send([alert for alert in alerts if alert.path.protocol is TransportProtocol.UDP])

    def keep(self, tally: MediaTally) -> None:
        """Remember what a worker that is gone has counted."""
        self._lost = self._lost + tally

    def replace(self, link: WorkerLink) -> None:
        """Start another process in the place of one that is gone."""
        if self._stopping:
            return
        task = self._loop.create_task(self._replace(link), name=f"replace {link}")
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
                await link.start(at_low_priority=self._has_calls_beside(link))
            except (StackError, OSError) as error:  # no descriptor is free, say
                log.error("%s could not be replaced: %s", link, error)
            else:
                break
        if link is not self.forwarder:
            self.counters.add(STARTED)
            for request in self._gathering:
                link.submit(request)
        log.warning("%s is up again (process %s)", link, link.pid)
        self._change.set()

    def _has_calls_beside(self, link: WorkerLink) -> bool:
        """Return True if no call waits for this process, and other workers have some that it may not delay."""
        return link is not self.forwarder and any(each.load for each in self.links if each is not link)

    def _ping(self) -> None:
        for link in self._processes:
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


def _bind(
    hosts: Sequence[str], port: int, workers: int, steering: Steering | None
) -> tuple[list[UdpSockets], Steering]:
    """Bind the port: one group of sockets for each worker where the kernel steers, or else one for all."""
    if steering is not Steering.FORWARDER or workers == 1:
        try:
            return bind_group(hosts, port, workers), Steering.KERNEL
        except CannotSteer as error:
            if steering is Steering.KERNEL:
                raise
            log.info("%s: one process in front forwards", error)
    return [bind_all(hosts, port)], Steering.FORWARDER


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
                "processName": str(link),
            }
        )
        logger.handle(record)
