"""The driver: the only code that joins machines, sockets and an event loop.

After every input (datagrams, a command, a timeout) it pumps once: transmits to the sockets, events to their
listener, the next timeout to the loop. Whatever raises on the way costs its own step: it is logged, at most once a
minute for each place in the code, and the rest goes on.

`MediaThread` gives the driver an event loop in a thread of its own. What the program does on *its* loop (a slow
model, a blocking call) can therefore not stall the media (`docs/decisions/0004-media-thread.md`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

from stack.aio.coalescing import MediaLoop
from stack.aio.tcp_connections import TcpConnections
from stack.aio.udp import UdpSocket, UdpSockets
from stack.core.counters import CounterName, Counters, declare
from stack.core.faults import Fault, Faults
from stack.core.machine import Instant, Path, Transmit, TransportProtocol
from stack.core.trace import Direction, PacketTrace
from stack.server import PathChange

EventT = TypeVar("EventT")
EventT_co = TypeVar("EventT_co", covariant=True)
ResultT = TypeVar("ResultT")

log = logging.getLogger("stack.aio")

FAULT_RECEIVE = declare("driver", "fault_receive", "Exceptions survived while reading a socket")
FAULT_HANDLE_TIMEOUT = declare("driver", "fault_handle_timeout", "Exceptions survived while waking the endpoint")
FAULT_PUMP = declare("driver", "fault_pump", "Exceptions survived while pumping the endpoint")
FAULT_SEND = declare("driver", "fault_send", "Exceptions survived while sending datagrams")
FAULT_REPORT = declare("driver", "fault_report", "Exceptions survived while handing events on")
FAULT_ARM = declare("driver", "fault_arm", "Exceptions survived while setting the timer")
FAULT_TRACE = declare(
    "driver",
    "fault_trace",
    "Exceptions survived while showing datagrams to the trace, which is then not asked again",
)
FAULT_COMMAND = declare("driver", "fault_command", "Exceptions survived while carrying out a command")


class DatagramEndpoint(Protocol[EventT_co]):
    """What a driver drives: an `Endpoint`, or a `SingleEndpoint`."""

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Take a batch of datagrams."""

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""

    def poll_timeout(self) -> Instant | None:
        """Return the next deadline."""

    def pump(self) -> None:
        """Collect what machines have to send and to say after commands."""

    def drain_transmits(self) -> Sequence[Transmit]:
        """Return datagrams to send."""

    def drain_events(self) -> Sequence[tuple[str, EventT_co]]:
        """Return events, each with the name of its session."""

    def drain_path_changes(self) -> Sequence[PathChange]:
        """Return which paths sessions have proven or lost."""

    def drain_faults(self) -> Sequence[Fault]:
        """Return what machines have raised, as far as it is to be logged."""


class Outside(Protocol):
    """Sockets and connections besides those of the port (`outside.py`)."""

    def send(self, transmits: Sequence[Transmit]) -> Sequence[Transmit]:
        """Send what is theirs, and return the rest."""

    def tell(self) -> None:
        """Say what is new."""

    def close(self) -> None:
        """Close them."""


class Driver(Generic[EventT]):
    """Pumps one endpoint over its sockets on the running loop. Every method belongs to that loop's thread."""

    def __init__(
        self,
        endpoint: DatagramEndpoint[EventT],
        sockets: UdpSockets,
        on_events: Callable[[Sequence[tuple[str, EventT]]], None],
        trace: PacketTrace | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.sockets = sockets
        self.counters = Counters()
        self._faults = Faults(self.counters)
        self._on_events = on_events
        self._trace = trace
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._armed: Instant | None = None
        self.tcp = TcpConnections(self.take_together)
        self.outside: Outside | None = None
        """May be set before anything is sent."""
        self._listen()

    def _listen(self) -> None:
        """Begin to read the sockets."""
        for udp in self.sockets:
            self._loop.add_reader(udp.fileno(), self._readable, udp)

    def now(self) -> Instant:
        """Return the instant that machines are to be told."""
        return self._loop.time()

    def pump(self) -> None:
        """Move everything that the endpoint has to send and to say, and arm the timer for its next deadline."""
        self._try(FAULT_PUMP, self.endpoint.pump)
        self._try(FAULT_SEND, self._send)
        self._try(FAULT_REPORT, self._report)
        if self.outside is not None:
            self._try(FAULT_REPORT, self.outside.tell)
        self._try(FAULT_ARM, self._arm_next)
        for fault in (*self.endpoint.drain_faults(), *self._faults.drain()):
            log.error("a bug was survived while doing %s", fault.doing, exc_info=fault.error)

    def _try(self, counter: CounterName, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._faults.note(counter, error, self._loop.time())

    def _send(self) -> None:
        changes = self.endpoint.drain_path_changes()
        if changes:
            self._follow(changes)
        transmits = self.endpoint.drain_transmits()
        if transmits:
            rest = transmits if self.outside is None else self.outside.send(transmits)
            self.sockets.send(self.tcp.send(rest) if len(self.tcp) else rest)
            self._record(Direction.OUT, transmits)
        for path, is_bound in changes:  # behind the last word of a call
            if path.protocol is TransportProtocol.TCP:
                self.tcp.note_path(path, is_bound)

    def _follow(self, changes: Sequence[PathChange]) -> None:
        """Paths were proven or lost: what sockets are to do about it before anything is sent there."""

    def adopt(self, sock: socket.socket, begun: bytes) -> None:
        """Take an ICE-TCP connection over, and what was read of it (`tcp_listener.py`)."""
        self._try(FAULT_RECEIVE, lambda: self.tcp.adopt(sock, begun))
        self.pump()

    def _report(self) -> None:
        events = self.endpoint.drain_events()
        if events:
            self._on_events(events)

    def _arm_next(self) -> None:
        self._arm(self.endpoint.poll_timeout())

    def _record(self, direction: Direction, datagrams: Sequence[tuple[bytes, Path]]) -> None:
        """Show datagrams to the trace; one that fails, say for a full disk, is not asked again."""
        if self._trace is None:
            return
        now = self._loop.time()
        try:
            for data, path in datagrams:
                self._trace.datagram(direction, data, path, now)
        except Exception as error:
            self._trace = None
            self._faults.note(FAULT_TRACE, error, now)

    def close(self) -> None:
        """Stop reading and close the sockets."""
        if self.outside is not None:
            self._try(FAULT_SEND, self.outside.close)
        if self._timer is not None:
            self._timer.cancel()
        for udp in self.sockets:
            self._loop.remove_reader(udp.fileno())
        self.sockets.close()
        self.tcp.close()

    def _readable(self, udp: UdpSocket) -> None:
        self._try(FAULT_RECEIVE, lambda: self._receive(udp))
        self.pump()

    def _receive(self, udp: UdpSocket) -> None:
        self._take(udp.receive())

    def take_together(self, batch: Sequence[tuple[bytes, Path]]) -> None:
        """Take datagrams that have come another way than by the port's sockets."""
        self._try(FAULT_RECEIVE, lambda: self._take(batch))
        self.pump()

    def _take(self, batch: Sequence[tuple[bytes, Path]]) -> None:
        self._record(Direction.IN, batch)
        self.endpoint.handle_datagrams(batch, self._loop.time())

    def _arm(self, at: Instant | None) -> None:
        if at == self._armed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed = at
        self._timer = None if at is None else self._loop.call_at(at, self._due)

    def _due(self) -> None:
        self._timer = self._armed = None
        self._try(FAULT_HANDLE_TIMEOUT, lambda: self.endpoint.handle_timeout(self._loop.time()))
        self.pump()


class MediaThread:
    """An event loop in a daemon thread; commands are handed over in batches."""

    def __init__(self, name: str = "media") -> None:
        self._loop = MediaLoop()
        self._commands: deque[Callable[[], None]] = deque()
        self._scheduled = False
        self.counters = Counters()
        self._faults = Faults(self.counters)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, command: Callable[[], None]) -> None:
        """Run `command` on the media loop soon; commands keep their order. Callable from any thread."""
        with self._lock:
            self._commands.append(command)
            if self._scheduled:
                return
            self._scheduled = True
        try:
            self._loop.call_soon_threadsafe(self._run_commands)
        except RuntimeError:  # the loop is closed: the process is going down
            log.debug("a command came after the media thread had stopped")

    async def run(self, function: Callable[[], ResultT]) -> ResultT:
        """Run `function` on the media loop and return (or raise) what it does. It runs if who waits is cancelled,
        too.
        """
        future: Future[ResultT] = Future()

        def command() -> None:
            is_awaited = future.set_running_or_notify_cancel()
            try:
                result = function()
            except BaseException as error:
                if is_awaited:
                    future.set_exception(error)
            else:
                if is_awaited:
                    future.set_result(result)

        self.submit(command)
        return await asyncio.wrap_future(future)

    def stop(self) -> None:
        """Stop the loop and wait for the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _run_commands(self) -> None:
        with self._lock:
            commands, self._commands = self._commands, deque()
            self._scheduled = False
        for command in commands:
            try:
                command()
            except Exception as error:  # one call's command may not take the others down
                self._faults.note(FAULT_COMMAND, error, self._loop.time())
        for fault in self._faults.drain():
            log.error("a command to the media thread failed", exc_info=fault.error)
