"""The sockets of a relay, and its loop: what is read goes to the machine, and what that drains is sent.

One socket for each address that clients send to, so that each is answered from the address it has sent to; and one
connected socket for each flow, which takes what its node sends and nothing else. The loop waits for all of them
with `epoll`, without asyncio: to import that takes as long as all the rest of the start.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeVar

from stack.core.counters import Counters, declare
from stack.core.errors import LocalError
from stack.core.machine import Address, Path
from stack.relay.flow_file import MAGIC, FlowFile
from stack.relay.machine import PortClosed, PortOpened, Relay, RelaySettings
from stack.relay.node_list import AGAIN_AFTER, NodeFeed
from stack.relay.status import MAX_CONNECTIONS, RelayStatus, StatusConnection, StatusListener

ResultT = TypeVar("ResultT")

RECEIVE_ERRORS = declare(
    "relay", "receive_errors", "Errors of the kernel while receiving, such as an ICMP message about a datagram"
)
RESTARTED = declare("relay", "restarted", "How often the process that forwards was begun again")
DROPPED_SEND = declare("relay", "dropped_send", "Datagrams that the kernel did not take")
FAULT_LOOP = declare("relay", "fault_loop", "Exceptions survived in a turn of the loop")

MAX_BATCH = 256
"""Datagrams taken from one socket before others get their turn."""
MAX_DATAGRAM = 65_535
SOCKET_BUFFER = 1 << 22
MAX_CACHED_PATHS = 16_384
PATIENCE = 1.0
"""Seconds in which a relay that ends lets go of its port and its file."""
SPARE_FILES = 128
"""Descriptors beside those of the flows."""
RETRY_EVERY = 0.002
LONGEST_WAIT = 1.0
"""Seconds that the loop waits when nothing happens: the death of the child is noticed."""


class RelayConfig(NamedTuple):
    """What a relay is run with."""

    hosts: tuple[str, ...]
    port: int = 3478
    inner_host: str = "0.0.0.0"
    first_port: int = 20_000
    max_flows: int = 4096
    flows: str | None = None
    """The file of the flows; None: they are forgotten with the process."""
    region: str = ""
    http_host: str = "127.0.0.1"
    http_port: int = 8080
    drain_seconds: float = 0.0


def own_addresses() -> list[str]:
    """Return the addresses from which this machine would reach others, one for each family; else loopback."""
    found = []
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))  # sends nothing: it asks the routing table
            found.append(str(probe.getsockname()[0]))
    return found or ["127.0.0.1"]


def _bind(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if ":" in host:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            made.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
        made.setblocking(False)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def _once_free(take: Callable[[], ResultT]) -> ResultT:
    """Take a port or a file as soon as a relay that has just been killed has let go of it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return take()
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EWOULDBLOCK) or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_EVERY)


def _cannot(do: str, error: OSError, option: str) -> str:
    other = f"; {option} takes another, 0 any" if error.errno == errno.EADDRINUSE else ""
    return f"cannot {do}: {error.strerror}{other}"


@contextmanager
def mapped(file: str | None, size: int) -> Iterator[memoryview]:
    """Context: a buffer of so many bytes, the content of `file` if there is one, which is ours alone.

    Raises `LocalError` if the file cannot be had, or another relay has it.
    """
    if file is None:
        yield memoryview(mmap.mmap(-1, size))
        return
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LocalError(f"cannot write {file}: {error.strerror}") from error
    try:
        _once_free(lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB))
        if os.pread(descriptor, len(MAGIC), 0).strip(b"\0") not in (b"", MAGIC):
            raise LocalError(f"{file} holds something else than a relay's flows: name another file, or remove it")
        os.posix_fallocate(descriptor, 0, size)  # a full disk is noticed here, not by SIGBUS later
        content = mmap.mmap(descriptor, size)
    except BlockingIOError as error:
        raise LocalError(f"another relay has {file}") from error
    except OSError as error:
        raise LocalError(f"cannot use {file}: {error.strerror}") from error
    else:
        yield memoryview(content)
    finally:
        os.close(descriptor)


_WOKEN, _PARENT = object(), object()


class _Outer:
    """A socket that clients send to."""

    def __init__(self, bound: socket.socket) -> None:
        self.socket = bound
        self.address = Address(*bound.getsockname()[:2])
        self._paths: dict[tuple[str, int], Path] = {}
        self._buffer = bytearray(MAX_DATAGRAM)
        self._view = memoryview(self._buffer)

    def receive(self, counters: Counters) -> Iterator[tuple[bytes, Path]]:
        """Yield what waits."""
        receive, buffer, view, paths = self.socket.recvfrom_into, self._buffer, self._view, self._paths
        for _ in range(MAX_BATCH):
            try:
                size, source = receive(buffer)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # an ICMP error of an earlier send surfaces here
                counters.add(RECEIVE_ERRORS)
                continue
            key = source[:2]
            path = paths.get(key)
            if path is None:
                if len(paths) >= MAX_CACHED_PATHS:
                    paths.clear()
                path = paths[key] = Path(self.address, Address(key[0].partition("%")[0], key[1]))
            yield bytes(view[:size]), path


class RelaySockets:
    """What clients and monitors send to. Raises `LocalError` for a port or an address that cannot be had."""

    def __init__(self, config: RelayConfig) -> None:
        self.outer: dict[Address, _Outer] = {}
        _raise_file_limit(config.max_flows + SPARE_FILES)
        port = config.port
        for host in config.hosts:
            try:
                outer = _Outer(_once_free(lambda: _bind(host, port)))  # noqa: B023 (it is called at once)
            except OSError as error:
                raise LocalError(_cannot(f"bind UDP {Address(host, port)}", error, "--udp-port")) from error
            self.outer[outer.address] = outer
            port = outer.address.port  # 0 asks for any: the same on all
        host, port = config.http_host, config.http_port
        try:
            self.status = _once_free(lambda: StatusListener(host, port))
        except OSError as error:
            raise LocalError(_cannot(f"listen on {host} port {port}", error, "--port")) from error

    def __enter__(self) -> RelaySockets:
        return self

    def __exit__(self, *_: object) -> None:
        for outer in self.outer.values():
            outer.socket.close()
        self.status.socket.close()


class RelayServer:
    """One relay on its sockets, in the process that forwards.

    `former`: how many such processes there were before; `parent`: a descriptor that is at its end when the
    process that has begun this one is gone.
    """

    def __init__(
        self, config: RelayConfig, sockets: RelaySockets, feed: NodeFeed, follows: bool, buffer: memoryview,
        former: int, parent: int,
    ) -> None:  # fmt: skip
        self.config = config
        self.counters = Counters()
        self._feed = feed
        self._follows = follows
        self._selector = selectors.DefaultSelector()
        self._outer = sockets.outer
        self._inner: dict[Address, socket.socket] = {}
        self._connections: dict[int, StatusConnection] = {}
        self._draining_since: float | None = None
        self._is_orphan = False
        self._start_feed_at = 0.0
        for outer in self._outer.values():
            self._selector.register(outer.socket, selectors.EVENT_READ, outer)
        if former:
            self.counters.add(RESTARTED, former)
        settings = RelaySettings(tuple(self._outer), config.inner_host, config.first_port, config.max_flows)
        file = FlowFile(buffer, config.max_flows, config.first_port)
        self.relay = Relay(settings, file, time.monotonic())
        self.relay.set_nodes(feed.nodes)
        self._follow()  # the ports of the flows that are up, before anything is read
        self._status = sockets.status
        self._selector.register(self._status.socket, selectors.EVENT_READ, self._status)
        self._woken, waking = socket.socketpair()
        waking.setblocking(False)
        self._waking = waking
        self._selector.register(self._woken, selectors.EVENT_READ, _WOKEN)
        self._selector.register(parent, selectors.EVENT_READ, _PARENT)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(waking.fileno())

    @property
    def addresses(self) -> Sequence[Address]:
        """Where clients send to."""
        return tuple(self._outer)

    @property
    def http_address(self) -> Address:
        """Where `/metrics` is."""
        return self._status.address

    def status(self) -> RelayStatus:
        """Return what `/metrics` and `/readyz` tell."""
        counters = Counters.of(self.counters.snapshot())
        counters.merge(self.relay.counters)
        relay = self.relay
        return RelayStatus(
            self.config.region,
            relay.flows,
            relay.unproven,
            self.config.max_flows,
            len(relay.nodes),
            self._draining_since is not None,
            counters.snapshot(),
        )

    def run(self) -> None:
        """Forward until SIGINT, or SIGTERM and the end of the flows or of `drain_seconds`."""
        try:
            while not self._is_over():
                try:
                    self._turn()
                except Exception as error:  # it costs this turn, and no flow
                    self.counters.add(FAULT_LOOP)
                    print(f"relay: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            self._feed.stop()

    def _on_signal(self, number: int, _frame: object) -> None:
        is_second = self._draining_since is not None
        self._draining_since = time.monotonic()
        if number == signal.SIGINT or is_second:
            self._draining_since -= self.config.drain_seconds

    def _is_over(self) -> bool:
        if self._is_orphan or self._draining_since is None:
            return self._is_orphan
        return not self.relay.flows or time.monotonic() - self._draining_since >= self.config.drain_seconds

    def _turn(self) -> None:
        now = time.monotonic()
        if self._follows and self._feed.watch is None and now >= self._start_feed_at:
            self._start_feed_at = now + AGAIN_AFTER
            self._feed.start()
            assert self._feed.watch is not None
            self._selector.register(self._feed.watch, selectors.EVENT_READ, self._feed)
        timeout = self.relay.poll_timeout()
        wait = LONGEST_WAIT if timeout is None else min(LONGEST_WAIT, max(0.0, timeout - now))
        ready = self._selector.select(wait)
        now = time.monotonic()
        batch: list[tuple[bytes, Path]] = []
        others = []
        for key, _ in ready:
            what = key.data
            if type(what) is Path:
                try:  # one: to ask for a second costs as much as to read the first
                    batch.append((key.fileobj.recv(MAX_DATAGRAM), what))  # type: ignore[union-attr]
                except (BlockingIOError, InterruptedError):
                    continue
                except OSError:
                    self.counters.add(RECEIVE_ERRORS)
            elif type(what) is _Outer:
                batch.extend(what.receive(self.counters))
            else:
                others.append(what)
        relay = self.relay
        if batch:
            relay.handle_datagrams(batch, now)
        if timeout is not None and now >= timeout:
            relay.handle_timeout(now)
        self._follow()
        self._send()
        for what in others:
            self._attend(what, now)
        if self._connections:
            for connection in list(self._connections.values()):
                if now >= connection.deadline:
                    self._close(connection)

    def _follow(self) -> None:
        """Open and close ports as the machine says."""
        for event in self.relay.drain_events():
            if isinstance(event, PortOpened):
                self._open(event.path)
            elif isinstance(event, PortClosed):
                gone = self._inner.pop(event.local, None)
                if gone is not None:
                    self._selector.unregister(gone)
                    gone.close()

    def _open(self, path: Path) -> None:
        try:
            made = _bind(*path.local)
        except OSError:
            self.relay.handle_port_failed(path.local)
            return
        try:
            made.connect(path.remote)
            self._selector.register(made, selectors.EVENT_READ, path)
        except OSError:
            made.close()
            self.relay.handle_port_failed(path.local)
            return
        self._inner[path.local] = made

    def _send(self) -> None:
        inner, outer = self._inner, self._outer
        for data, path in self.relay.drain_transmits():
            try:
                flow = inner.get(path.local)
                if flow is not None:
                    flow.send(data)
                elif path.local in outer:
                    outer[path.local].socket.sendto(data, path.remote)
            except OSError:
                self.counters.add(DROPPED_SEND)

    # -- beside the datagrams ------------------------------------------------------------------------------------

    def _attend(self, what: object, now: float) -> None:
        if what is _WOKEN:
            self._woken.recv(64)
        elif what is _PARENT:  # it never writes: it is gone
            self._is_orphan = True
        elif isinstance(what, StatusListener):
            connection = what.accept(now)
            if connection is not None:
                if len(self._connections) >= MAX_CONNECTIONS:
                    self._close(next(iter(self._connections.values())))
                self._connections[connection.socket.fileno()] = connection
                self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        elif isinstance(what, StatusConnection):
            if what.socket.fileno() in self._connections and what.receive(self.status()):
                self._close(what)
        elif isinstance(what, NodeFeed) and what.watch is not None:
            watched = what.watch
            said = what.read()
            if said:
                self.relay.set_nodes(what.nodes)
            elif said is None:
                self._selector.unregister(watched)

    def _close(self, connection: StatusConnection) -> None:
        del self._connections[connection.socket.fileno()]
        self._selector.unregister(connection.socket)
        connection.socket.close()


def _raise_file_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
