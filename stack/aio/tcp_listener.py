"""The TCP port: it accepts connections, tells ICE from HTTP, and finds the media side of each ICE connection.

What a client sends first tells the two apart by one byte (RFC 4571, RFC 6544 §3):

    ICE     the length of a STUN message, 16 bits: 00 to 07, as no check is longer than 2047 bytes
    TLS     a handshake record: 16
    HTTP/1  a method, in capital letters: 41 to 5A

So the port of HTTP can be that of ICE as well, and costs HTTP one look (MSG_PEEK) at a byte that stays where it
is. Of ICE the first frame is read whole: a check, whose USERNAME names the worker (`stack.core.ufrag`). The
connection then goes there together with what was read of it; nothing is judged or answered here.

All of this belongs to the program's loop. Media go elsewhere from then on, so what blocks this loop delays a new
connection as it delays a new call, and no call that is up.

Bounds: `MAX_UNDECIDED` connections that have not shown what they are, the oldest makes room: to HTTP where it may
still be HTTP (browsers open connections that they do not use at once), else it is closed. So it goes after
`FIRST_FRAME_PATIENCE` seconds as well.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

from stack.aio.udp import MAX_PORTS_TRIED
from stack.core.counters import Counters, declare
from stack.core.errors import LocalError
from stack.core.machine import Address, Instant
from stack.core.stun_framing import MAGIC_COOKIE_BYTES
from stack.ice import worker_of
from stack.ice.framing import LENGTH_SIZE
from stack.stun import peek_username

REFUSED_NOT_ICE = declare("tcp", "refused_not_ice", "Connections to the TCP port that began with no check")
REFUSED_NO_WORKER = declare("tcp", "refused_no_worker", "ICE-TCP connections whose check names no media worker")
REFUSED_SLOW = declare("tcp", "refused_slow", "Connections to the TCP port that showed no check in time")
PAUSED_ACCEPTING = declare(
    "tcp", "paused_accepting", "Times that no connection was accepted for a second: no descriptor was free, say"
)

log = logging.getLogger("stack.calls")

BACKLOG = 256
"""Connections that the kernel keeps until they are accepted."""
MAX_ACCEPTED_AT_ONCE = 32
"""Then others on the loop have their turn."""
MAX_UNDECIDED = 512
FIRST_FRAME_PATIENCE = 5.0
"""Seconds."""
ACCEPT_PAUSE = 1.0
"""Seconds without accepting after the kernel has refused a connection to us."""
ICE_FIRST_BYTE_END = 8
"""First bytes below it are of ICE: lengths up to 2047."""
MAX_FIRST_FRAME = (ICE_FIRST_BYTE_END << 8) - 1
_STUN_HEADER = 20


class _Undecided:
    """A connection that has not shown what it is, and what was read of it."""

    __slots__ = ("at", "begun", "sock")

    def __init__(self, sock: socket.socket, at: Instant) -> None:
        self.sock = sock
        self.at = at
        self.begun = b""


class TcpListener:
    """Accepts connections on listening sockets, which it closes in the end.

    `on_ice` is given each ICE connection, what was read of it, and the number of the worker that it names; False:
    there is none. `on_other` is given each other connection, of which nothing was read; without it they are
    closed.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        on_ice: Callable[[socket.socket, bytes, int], bool],
        on_other: Callable[[socket.socket], None] | None = None,
    ) -> None:
        self.counters = Counters()
        self.addresses = tuple(Address(*each.getsockname()[:2]) for each in listeners)
        self._listeners = listeners
        self._on_ice = on_ice
        self._on_other = on_other
        self._loop = asyncio.get_running_loop()
        self._undecided: dict[int, _Undecided] = {}  # by descriptor, oldest first
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._resume()

    def close(self) -> None:
        """Accept nothing any more, and close what is undecided."""
        for timer in self._timers.values():
            timer.cancel()
        for each in self._listeners:
            self._loop.remove_reader(each.fileno())
            each.close()
        for undecided in list(self._undecided.values()):
            self._forget(undecided)
            undecided.sock.close()

    # -- accepting -------------------------------------------------------------------------------------------

    def _resume(self) -> None:
        for each in self._listeners:
            self._loop.add_reader(each.fileno(), self._accept, each)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(MAX_ACCEPTED_AT_ONCE):
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            sock.setblocking(False)
            if len(self._undecided) >= MAX_UNDECIDED:
                self._give_up(next(iter(self._undecided.values())))
            undecided = self._undecided[sock.fileno()] = _Undecided(sock, self._loop.time())
            self._loop.add_reader(sock.fileno(), self._readable, undecided)
            if "patience" not in self._timers:
                self._timers["patience"] = self._loop.call_later(FIRST_FRAME_PATIENCE / 2, self._look_at_the_time)

    def _pause(self, error: OSError) -> None:
        self.counters.add(PAUSED_ACCEPTING)
        log.error("the TCP port accepts nothing for %g s: %s", ACCEPT_PAUSE, error)
        for each in self._listeners:
            self._loop.remove_reader(each.fileno())
        self._timers["pause"] = self._loop.call_later(ACCEPT_PAUSE, self._resume)

    def _look_at_the_time(self) -> None:
        oldest = self._loop.time() - FIRST_FRAME_PATIENCE
        for undecided in [each for each in self._undecided.values() if each.at <= oldest]:
            self._give_up(undecided)
        del self._timers["patience"]
        if self._undecided:
            self._timers["patience"] = self._loop.call_later(FIRST_FRAME_PATIENCE / 2, self._look_at_the_time)

    def _give_up(self, undecided: _Undecided) -> None:
        self._forget(undecided)
        if self._on_other is not None and not undecided.begun:
            self._on_other(undecided.sock)
            return
        self.counters.add(REFUSED_SLOW)
        undecided.sock.close()

    def _forget(self, undecided: _Undecided) -> None:
        descriptor = undecided.sock.fileno()
        self._loop.remove_reader(descriptor)
        self._undecided.pop(descriptor, None)

    # -- deciding --------------------------------------------------------------------------------------------

    def _readable(self, undecided: _Undecided) -> None:
        sock = undecided.sock
        try:
            if not undecided.begun:
                first = sock.recv(1, socket.MSG_PEEK)
                if first and first[0] >= ICE_FIRST_BYTE_END:
                    self._decide_other(undecided)
                    return
            data = sock.recv(MAX_FIRST_FRAME + LENGTH_SIZE - len(undecided.begun))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._forget(undecided)
            sock.close()
            return
        undecided.begun += data
        if not _may_be_check(undecided.begun):
            self._refuse(undecided)
            return
        check = _first_frame(undecided.begun)
        if check is not None:
            self._decide_ice(undecided, check)

    def _decide_other(self, undecided: _Undecided) -> None:
        self._forget(undecided)
        if self._on_other is not None:
            self._on_other(undecided.sock)
            return
        self.counters.add(REFUSED_NOT_ICE)
        undecided.sock.close()

    def _refuse(self, undecided: _Undecided) -> None:
        self._forget(undecided)
        self.counters.add(REFUSED_NOT_ICE)
        undecided.sock.close()

    def _decide_ice(self, undecided: _Undecided, check: bytes) -> None:
        username = peek_username(check)
        if username is None:
            self._refuse(undecided)
            return
        self._forget(undecided)
        worker = worker_of(username)
        if worker is None or not self._on_ice(undecided.sock, undecided.begun, worker):
            self.counters.add(REFUSED_NO_WORKER)
            undecided.sock.close()


def _may_be_check(begun: bytes) -> bool:
    """Return False if what a connection begins with is no STUN message in a frame."""
    size = int.from_bytes(begun[:LENGTH_SIZE], "big")
    cookie = begun[LENGTH_SIZE + 4 : LENGTH_SIZE + 8]
    is_size = len(begun) < LENGTH_SIZE or _STUN_HEADER <= size <= MAX_FIRST_FRAME
    return is_size and (len(cookie) < len(MAGIC_COOKIE_BYTES) or cookie == MAGIC_COOKIE_BYTES)


def _first_frame(begun: bytes) -> bytes | None:
    """Return the first frame; None as long as it is not whole."""
    end = LENGTH_SIZE + int.from_bytes(begun[:LENGTH_SIZE], "big")
    return begun[LENGTH_SIZE:end] if LENGTH_SIZE < end <= len(begun) else None


def listen_all(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Listen on one TCP port of several local addresses; port 0 picks one that is free on all of them.

    Raises `LocalError` if that cannot be.
    """
    for _ in range(MAX_PORTS_TRIED - 1 if port == 0 else 0):
        with suppress(LocalError):
            return _listen_all(hosts, port)
    return _listen_all(hosts, port)


def _listen_all(hosts: Sequence[str], port: int) -> list[socket.socket]:
    made: list[socket.socket] = []
    try:
        for host in hosts:
            made.append(_listen(host, port))
            port = made[-1].getsockname()[1]
    except OSError as error:
        for each in made:
            each.close()
        other = "; tcp_port (--tcp-port) takes another, or off"
        raise LocalError(f"cannot listen on TCP {Address(host, port)}: {error.strerror}{other}") from error
    return made


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
