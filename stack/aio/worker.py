"""A media worker: the process in which endpoint, sockets and conversations run. `workers.py` starts it.

    python -m stack.aio.worker DESCRIPTOR        of its end of the link (`ipc.py`)

The first message that comes by the link makes it a worker, or the forwarder in front of several (`forwarder.py`).

It obeys the process that started it, and no signal that a terminal or a service manager sends to the whole
group: that process ends the calls in order. When it is gone (the link says so, or the parent's number changes),
the calls go on for `PROGRAM_GRACE` seconds, so that what is being said is heard, and their clients are told to
call elsewhere (`goaway`, docs/scale.md); then each is ended with a BYE, and the worker is gone, too. It never
outlives that.

**The collector.** Reference counts free nearly everything here; cycles are rare. A collection that walks all
objects takes 40 ms and more with 20 calls, in the middle of frames. So what is there when the start-up is over
is frozen, and the collector is off; `TIDY_EVERY` seconds, and where no deadline is near, the youngest objects
are looked at (their number is bounded by what 100 ms bring: tens of microseconds), and all of them only when
there is no call, or after `MAX_UNCOLLECTED` calls came and went: a cycle that a call leaves behind is freed
then.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import FrameType
from typing import Any, Literal

import msgspec

from stack.aio import recording_writer
from stack.aio.coalescing import MediaLoop
from stack.aio.control import CallEnded
from stack.aio.driver import FAULT_COMMAND
from stack.aio.failure_alerts import FailureAlerts
from stack.aio.forwarder import Forwarder
from stack.aio.forwarding import ForwardedDriver
from stack.aio.group_signals import let_through
from stack.aio.ipc import (
    REPORTS,
    REQUESTS,
    STALE_EVENTS,
    Answered,
    Ask,
    CheckPassedOn,
    ForwarderHello,
    Happened,
    Hello,
    KeysLogged,
    Logged,
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
    package_version,
)
from stack.aio.media import CallEndpoint, Events, MediaCalls, MediaSetup, make_endpoint, many_calls
from stack.aio.message_stream import FrameReader, LinkError, MessageStream
from stack.aio.overflow import OverflowDriver
from stack.aio.steering import SteeredDriver, SteeredSockets
from stack.aio.tcp_listener import MAX_ACCEPTED_AT_ONCE, MAX_FIRST_FRAME
from stack.aio.udp import UdpSocket, UdpSockets
from stack.aio.worker_log import LinkHandler
from stack.core.counters import declare
from stack.core.errors import LocalError, ParseError, StackError
from stack.core.faults import Faults
from stack.core.machine import Instant, Path
from stack.core.trace import Direction, PacketTrace
from stack.dtls import Certificate
from stack.ice.framing import LENGTH_SIZE
from stack.server import Endpoint
from stack.voice.commands import HangUp, Tell
from stack.voice.config import prepare
from stack.voice.events import ConversationEvent
from stack.voice.recording import RecordingEvent
from stack.voice.wire import encode_error, encode_result

DROPPED_STALE = declare(
    "worker",
    "dropped_stale",
    "Frames that were heard, log lines and copies of datagrams that a program did not take in time",
)
FAULT_REPORT = declare("worker", "fault_report", "Events that could not leave the worker")

log = logging.getLogger("stack.workers")

PROGRAM_GRACE = 5.0
"""Seconds that calls go on when the program's process is gone."""
LAST_WRITES = 5.0
"""Seconds that recordings have to be completed in, after that."""
TIDY_EVERY = 0.1
"""Seconds between two looks at the youngest objects, and at the parent process."""
TIDY_ROOM = 0.002
"""Seconds that there must be before the next deadline."""
MIDDLE_EVERY = 10
"""Every so many looks, what survived some of them is looked at as well."""
MAX_UNCOLLECTED = 5000
"""Calls that may come and go before all objects are looked at although there are calls."""
REPORT_DROPS_EVERY = 60.0
"""Seconds between two log lines about what is dropped."""

_ANY_ASK = msgspec.msgpack.Decoder(tuple[int, tuple[Literal["Ask"], int, msgspec.Raw]])


class MediaWorker:
    """One worker; everything here belongs to its loop, where nothing else is said."""

    def __init__(self, hello: Hello, link: socket.socket) -> None:
        self._hello = hello
        self._parent = os.getppid()
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._orphaned_at: float | None = None
        self._sent_away: set[str] = set()  # calls whose clients were told that the program is gone
        self._looks = 0
        self._collected = 0  # calls that were closed when all objects were looked at last
        self._told_drops = 0.0
        self._connection = MessageStream(link, self._on_message, self._on_lost, self._on_dropped)
        self._arrivals = socket.socket(fileno=hello.connections)
        self._arrivals.setblocking(False)
        self._thread = threading.get_ident()
        self.media = self._make_media()
        self._alerts = FailureAlerts(self.media.conversations, self._report)
        self._faults = Faults(self.media.counters)

    def _make_media(self) -> MediaCalls:
        hello = self._hello
        setup = MediaSetup(
            Certificate.from_pem(*hello.certificate),
            hello.conversation,
            self._on_events,
            self._on_recording,
            _LinkTrace(self._connection) if hello.traced else None,
            hello.max_calls,
            self._log_keys if hello.keyed else None,
            hello.tickets,
            self._report,
            hello.gathers,
            self._report,
        )
        listeners = [UdpSocket.adopt(socket.socket(fileno=descriptor)) for descriptor in hello.sockets]
        is_alone = hello.workers == 1 and hello.forwarder is None
        if is_alone and not all(udp.is_shared for udp in listeners):
            return many_calls(setup, UdpSockets(listeners))
        addresses = [udp.address for udp in listeners]
        endpoint = make_endpoint(setup, addresses, hello.number, keeps_strays=hello.shown is not None)
        media = (self._alone if is_alone else self._steer)(hello, setup, endpoint, listeners)
        media.make_by_tickets(endpoint)
        return media

    @staticmethod
    def _alone(
        _: Hello, setup: MediaSetup, endpoint: Endpoint[ConversationEvent], listeners: list[UdpSocket]
    ) -> MediaCalls:
        """Return the calls of the only worker, which get sockets of their own while the port is flooded."""
        steered = SteeredSockets(listeners)

        def overflowing(
            _: CallEndpoint, __: UdpSockets, on_events: Callable[[Events], None], trace: PacketTrace | None
        ) -> OverflowDriver:
            return OverflowDriver(endpoint, steered, on_events, trace)

        return MediaCalls(setup, steered, endpoint, overflowing)

    def _steer(
        self,
        hello: Hello,
        setup: MediaSetup,
        endpoint: Endpoint[ConversationEvent],
        listeners: list[UdpSocket],
    ) -> MediaCalls:
        """Return the calls of one of several workers, behind a forwarder or a kernel that steers."""

        def forwarded(
            _: CallEndpoint, sockets: UdpSockets, on_events: Callable[[Events], None], trace: PacketTrace | None
        ) -> ForwardedDriver:
            assert hello.forwarder is not None
            return ForwardedDriver(endpoint, sockets, on_events, trace, end=socket.socket(fileno=hello.forwarder))

        if hello.forwarder is not None:
            return MediaCalls(setup, UdpSockets(listeners), endpoint, forwarded)
        steered = SteeredSockets(listeners)

        def by_kernel(
            _: CallEndpoint, __: UdpSockets, on_events: Callable[[Events], None], trace: PacketTrace | None
        ) -> SteeredDriver:
            self._steered = SteeredDriver(
                endpoint,
                steered,
                on_events,
                trace,
                number=hello.number,
                workers=hello.workers,
                pass_on=self._pass_on,
                on_path_taken=self._on_path_taken,
                others=[socket.socket(fileno=descriptor) for descriptor in hello.others],
                shown=None if hello.shown is None else socket.socket(fileno=hello.shown),
            )
            return self._steered

        return MediaCalls(setup, steered, endpoint, by_kernel)

    def _log_keys(self, line: str) -> None:
        self._report(KeysLogged(line))

    async def run(self) -> None:
        """Serve until there is nothing more to do."""
        LinkHandler.install(self.report_log)
        self.media.driver.pump()
        self._loop.add_reader(self._arrivals.fileno(), self._on_connections)
        self._report(Ready())
        gc.collect()
        gc.freeze()
        gc.disable()
        self._loop.call_later(TIDY_EVERY, self._tidy)
        await self._over.wait()
        self._loop.remove_reader(self._arrivals.fileno())
        self.media.stop()
        deadline = time.monotonic() + LAST_WRITES
        while recording_writer.is_writing() and time.monotonic() < deadline:
            await asyncio.sleep(TIDY_EVERY)
        self._connection.flush_now()
        self._connection.close()

    # -- what comes ------------------------------------------------------------------------------------------

    def _on_message(self, data: memoryview) -> None:
        try:
            request = REQUESTS.decode(data)
        except ParseError as error:
            self._refuse(data, error)
            return
        if isinstance(request, Ask):
            self._do(request)
        elif isinstance(request, Ping):
            self._report(Pong())
        elif isinstance(request, CheckPassedOn):
            self._steered.take_passed_on(request.data, request.path)
        elif isinstance(request, ReleasePath):
            self._steered.release_path(request.path)
        elif isinstance(request, Stop):
            self._over.set()
        else:
            raise ParseError(f"{type(request).__name__} comes first, and once")

    def _on_connections(self) -> None:
        """Take ICE-TCP connections over (`tcp_listener.py`)."""
        for _ in range(MAX_ACCEPTED_AT_ONCE):
            try:
                begun, descriptors, _, _ = socket.recv_fds(self._arrivals, MAX_FIRST_FRAME + LENGTH_SIZE, 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # no descriptor is free, say
                log.error("an ICE-TCP connection could not be taken over: %s", error)
                return
            if not begun:  # the program's end is closed: it is gone, and the link says so
                self._loop.remove_reader(self._arrivals.fileno())
                return
            for descriptor in descriptors:
                self.media.driver.adopt(socket.socket(fileno=descriptor), begun)

    def _do(self, ask: Ask) -> None:
        try:
            result = encode_result(ask.request.apply(self.media)) if ask.number else ask.request.apply(self.media)
        except StackError as error:
            self._answer_error(ask.number, error)
        except Exception as error:  # one call's command may not take the others down
            self._faults.note(FAULT_COMMAND, error, time.monotonic())
            self._answer_error(ask.number, StackError(f"{type(error).__name__}: {error}"))
        else:
            if ask.number and isinstance(result, bytes):
                self._report(Answered(ask.number, result))
        for fault in self._faults.drain():
            log.error("a command to the media worker failed", exc_info=fault.error)

    def _refuse(self, data: memoryview, error: ParseError) -> None:
        """Take something asked that cannot be read: a value with a field of a wrong type is its caller's error."""
        try:
            _, (_, number, _) = _ANY_ASK.decode(data)
        except (msgspec.MsgspecError, ValueError):
            raise error from None
        self._answer_error(number, LocalError(str(error)))

    def _answer_error(self, number: int, error: StackError) -> None:
        if number:
            self._report(Answered(number, encode_error(error)))
        elif not isinstance(error, CallEnded):  # what is submitted after the end is passed over
            self.media.counters.add(FAULT_COMMAND)
            log.error("a command to the media worker failed: %s", error)

    # -- what goes -------------------------------------------------------------------------------------------

    def _report(self, report: WorkerReport, is_stale_when_late: bool = False) -> None:
        self._connection.send(REPORTS.encode(report), is_stale_when_late)

    def _on_events(self, events: Events) -> None:
        for call_id, event in events:
            try:
                self._report(Happened(call_id, event), isinstance(event, STALE_EVENTS))
            except LocalError as error:
                self.media.counters.add(FAULT_REPORT)
                log.error("call %s: %s could not be reported: %s", call_id, type(event).__name__, error)
            self._alerts.note(call_id, event)

    def _on_recording(self, event: RecordingEvent) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._report, event)

    def _pass_on(self, worker: int, data: bytes, path: Path) -> None:
        self._report(PassOn(worker, data, path))

    def _on_path_taken(self, path: Path) -> None:
        self._report(PathTaken(path))

    def report_log(self, record: Logged) -> None:
        """Hand on a line of the log, from any thread."""
        if threading.get_ident() == self._thread:
            self._report(record, True)
        else:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._report, record, True)

    def _on_dropped(self) -> None:
        self.media.counters.add(DROPPED_STALE)
        now = time.monotonic()
        if now - self._told_drops >= REPORT_DROPS_EVERY:
            self._told_drops = now
            log.warning("the program takes nothing: what it would hear too late is dropped")

    # -- the end ---------------------------------------------------------------------------------------------

    def _on_lost(self, error: LinkError) -> None:
        if self._over.is_set() or self._orphaned_at is not None:
            return
        if len(self.media.endpoint):
            print(f"media worker {self._hello.number}: {error}", file=sys.stderr, flush=True)
        self._orphaned_at = time.monotonic()
        self._check_orphan()

    def _check_orphan(self) -> None:
        """Without a program: end when the grace is over, or there is no call any more."""
        assert self._orphaned_at is not None
        left = PROGRAM_GRACE - (time.monotonic() - self._orphaned_at)
        if len(self.media.endpoint) and left > 0:
            self._send_away(left)
            return
        for call_id in list(self.media.conversations):
            with suppress(StackError):
                self.media.carry_out(call_id, HangUp())
        self._over.set()

    def _send_away(self, seconds: float) -> None:
        """Have clients call again, those too whose call a ticket has made since."""
        for call_id in self.media.conversations.keys() - self._sent_away:
            self._sent_away.add(call_id)
            with suppress(StackError):
                message = {"type": "goaway", "pc_id": call_id, "seconds": round(seconds, 1)}
                self.media.carry_out(call_id, Tell(message))

    # -- housekeeping ----------------------------------------------------------------------------------------

    def _tidy(self) -> None:
        if self._over.is_set():
            return
        if self._orphaned_at is not None:
            self._check_orphan()
        elif os.getppid() != self._parent:  # a child of the program may hold the other end of the link
            self._connection.fail(LinkError("the program's process is gone"))
        self._collect()
        self._alerts.look_again(time.monotonic())
        self._loop.call_later(TIDY_EVERY, self._tidy)

    def _is_due(self) -> bool:
        return self.media.closed - self._collected >= MAX_UNCOLLECTED

    def _collect(self) -> None:
        at = self.media.endpoint.poll_timeout()
        if (not self.media.conversations and gc.get_count()[2]) or self._is_due():
            gc.collect()
            self._collected = self.media.closed
        elif at is None or at - self._loop.time() > TIDY_ROOM:
            self._looks += 1
            gc.collect(0 if self._looks % MIDDLE_EVERY else 1)


class _LinkTrace:
    """Hands copies of datagrams on to the program's process."""

    def __init__(self, connection: MessageStream) -> None:
        self._connection = connection

    def datagram(self, direction: Direction, data: bytes, path: Path, now: Instant) -> None:
        """Hand one on."""
        report = Traced(direction is Direction.OUT, data, path.local, path.remote, now)
        self._connection.send(REPORTS.encode(report), True)


def _read_hello(link: socket.socket) -> Hello | ForwarderHello:
    """Read the first message, and no byte more."""
    link.setblocking(True)
    frames = FrameReader()
    found: list[memoryview] = []
    wanted = 4
    while not found:
        data = link.recv(wanted, socket.MSG_WAITALL)
        if not data:
            raise LinkError("the program was gone before it had said anything")
        found = frames.feed(data)
        wanted = frames.missing
    hello = REQUESTS.decode(found[0])
    if not isinstance(hello, Hello | ForwarderHello):
        raise ParseError(f"{type(hello).__name__} is no beginning")
    return hello


def _settle_in(hello: Hello | ForwarderHello) -> None:
    """Become what the program wants; raises `LocalError`."""
    installed = package_version()
    if hello.program_version != installed:
        raise LocalError(
            f"the program runs version {hello.program_version}, and what is installed now is {installed}: "
            "start it again"
        )
    logging.getLogger().setLevel(hello.log_level)
    if isinstance(hello, Hello):
        _find_parts(hello)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS names a limit that it does not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _find_parts(hello: Hello) -> None:
    """Import what conversations look up by name; raises `LocalError`."""
    sys.path.extend(each for each in hello.search_path if each not in sys.path)
    for name in hello.modules:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise LocalError(f"a media worker cannot import {name!r}: {type(error).__name__}: {error}") from error
    prepare(replace(hello.conversation, endpointer="rules"))  # the endpointer runs beside the program


def _ignore(number: int, frame: FrameType | None) -> None:
    """The process that started us says when to end."""


async def _run(hello: Hello | ForwarderHello, link: socket.socket) -> None:
    await (MediaWorker(hello, link) if isinstance(hello, Hello) else Forwarder(hello, link)).run()


def main() -> None:
    """Be a worker, or the forwarder."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ignore)
    let_through()
    link = socket.socket(fileno=int(sys.argv[1]))
    try:
        hello = _read_hello(link)
        _settle_in(hello)
    except StackError as error:
        refused: Any = REPORTS.encode(Refused(str(error)))
        with suppress(OSError):
            link.sendall(len(refused).to_bytes(4, "big") + refused)
        sys.exit(1)
    with asyncio.Runner(loop_factory=MediaLoop) as runner:
        runner.run(_run(hello, link))
    os._exit(0)  # a thread that hangs on a disk may not hold the process


if __name__ == "__main__":
    main()
