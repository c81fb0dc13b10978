"""ICE over TCP on the media loop: connections that clients have made, and the datagrams framed in them.

RFC 6544 (a server is passive: it makes no connection), RFC 4571 (`stack.ice.framing`). To the machines a
connection is a path like any other, of protocol TCP; its frames are datagrams. Who accepts connections is
`tcp_listener.py`; a connection arrives here with what was read of it, its first frame.

A connection that has proven no path (no check with a valid MESSAGE-INTEGRITY came on it) is closed after
`PROOF_PATIENCE` seconds, and before that if there are more than `MAX_UNPROVEN`. One that has is closed when its
call is over or has proven newer paths.

What the network does not take waits here, at most `MAX_WAITING` bytes for each connection. TCP delivers late
rather than not at all, and sound that is late is worth nothing: RTP that has waited for `MAX_MEDIA_AGE` seconds
is dropped, and so is the oldest RTP when there is no room; all else (DTLS, RTCP, STUN) is dropped only when RTP
makes no room for it, as its protocols send it again. The kernel is asked to take little more than it can send
(TCP_NOTSENT_LOWAT), so that what waits does so here, where it can still be dropped.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from stack.core.counters import CounterName, Counters, declare
from stack.core.errors import LocalError, ParseError
from stack.core.machine import Address, Instant, Path, Transmit, TransportProtocol
from stack.ice.framing import StreamFramer, frame

ACCEPTED = declare("tcp", "accepted", "ICE-TCP connections that were taken over, with their first check")
CLOSED_BY_PEER = declare("tcp", "closed_by_peer", "ICE-TCP connections that the peer closed, or the network broke")
CLOSED_UNPROVEN = declare(
    "tcp", "closed_unproven", "ICE-TCP connections closed because no authenticated check came on them in time"
)
CLOSED_MALFORMED = declare("tcp", "closed_malformed", "ICE-TCP connections closed for a frame that is too long")
CLOSED_TOO_MANY = declare("tcp", "closed_too_many", "ICE-TCP connections closed because there are too many")
DROPPED_STALE_MEDIA = declare("tcp", "dropped_stale_media", "RTP packets that a slow TCP connection made too late")
DROPPED_NO_ROOM = declare("tcp", "dropped_no_room", "Other datagrams for which a slow TCP connection had no room")
DROPPED_NO_CONNECTION = declare(
    "tcp", "dropped_no_connection", "Datagrams for a TCP connection that is not there any more"
)

MAX_CONNECTIONS = 4096
"""Of one media loop."""
MAX_UNPROVEN = 256
"""Those on which no check was authenticated yet; the oldest makes room."""
PROOF_PATIENCE = 10.0
"""Seconds."""
MAX_FRAME = 4096
"""Bytes of a datagram that a peer may send: DTLS records, SRTP and checks of all clients are below 1500."""
MAX_READ = 1 << 16
"""Bytes read from one connection before others get their turn."""
MAX_WAITING = 1 << 16
"""Bytes that wait for one connection."""
MAX_MEDIA_AGE = 0.2
"""Seconds that RTP may wait."""
NOT_SENT = 4096
"""Bytes that the kernel keeps unsent: three packets of data, or a third of a second of sound."""
_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)


class _Waiting(NamedTuple):
    data: bytes
    at: Instant
    is_media: bool


def _is_media(datagram: bytes) -> bool:
    """Return True for RTP, and False for RTCP and all else (RFC 7983 §7, RFC 5761 §4)."""
    return 128 <= datagram[0] <= 191 and not (len(datagram) > 1 and 192 <= datagram[1] <= 223)


class TcpConnection:
    """One connection: frames come in and go out. It knows no event loop."""

    def __init__(self, sock: socket.socket, begun: bytes = b"") -> None:
        """Take a connected socket, and bytes that were read of it; raises `OSError` if it is gone already."""
        sock.setblocking(False)
        self._socket = sock
        self.path = path_of(sock)
        self.counters = Counters()
        self.is_broken = False
        """The peer has closed it, the network has broken it, or its frames are not to be read any more."""
        self._framer = StreamFramer(MAX_FRAME)
        self._begun = begun
        self._leaving = b""  # a frame of which the kernel has taken a part
        self._waiting: deque[_Waiting] = deque()
        self._size = 0  # bytes in `_waiting`
        with suppress(OSError):  # a kernel without them sends later, and drops less
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOT_SENT)

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._socket.fileno()

    @property
    def waiting(self) -> int:
        """How many datagrams wait for the network."""
        return len(self._waiting) + bool(self._leaving)

    def receive(self) -> list[tuple[bytes, Path]]:
        """Return the datagrams that have come; look at `is_broken` afterwards."""
        data, self._begun = self._begun, b""
        if not data:
            try:
                data = self._socket.recv(MAX_READ)
            except (BlockingIOError, InterruptedError):
                return []
            except OSError:
                data = b""
            if not data:
                self.counters.add(CLOSED_BY_PEER)
                self.is_broken = True
                return []
        try:
            return [(datagram, self.path) for datagram in self._framer.feed(data)]
        except ParseError:
            self.counters.add(CLOSED_MALFORMED)
            self.is_broken = True
            return []

    def send(self, datagram: bytes, now: Instant) -> None:
        """Send a datagram, or have it wait."""
        try:
            data = frame(datagram)
        except LocalError:  # nothing that we make is so long, or empty
            self.counters.add(DROPPED_NO_ROOM)
            return
        if not self._waiting and not self._leaving:
            sent = self._write(data)
            if sent:
                self._leaving = data[sent:]
                return
        self._queue(data, now, _is_media(datagram))

    def flush(self, now: Instant) -> None:
        """Send what waits, as far as the network takes it and it is not stale."""
        while self._leaving or self._waiting:
            if not self._leaving:
                waiting = self._waiting.popleft()
                self._size -= len(waiting.data)
                if waiting.is_media and now - waiting.at > MAX_MEDIA_AGE:
                    self.counters.add(DROPPED_STALE_MEDIA)
                    continue
                self._leaving = waiting.data
            sent = self._write(self._leaving)
            if not sent:
                return
            self._leaving = self._leaving[sent:]

    def close(self) -> None:
        """Close it; what waits is forgotten."""
        self._socket.close()

    def _write(self, data: bytes) -> int:
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:  # reading says so as well, and closes it
            self._waiting.clear()
            self._size, self._leaving = 0, b""
            return len(data)

    def _queue(self, data: bytes, now: Instant, is_media: bool) -> None:
        if is_media:
            self._drop_stale(now)
        while self._size + len(data) > MAX_WAITING and self._drop_oldest_media():
            pass
        if self._size + len(data) > MAX_WAITING:
            self.counters.add(DROPPED_STALE_MEDIA if is_media else DROPPED_NO_ROOM)
            return
        self._waiting.append(_Waiting(data, now, is_media))
        self._size += len(data)

    def _drop_stale(self, now: Instant) -> None:
        while self._waiting and self._waiting[0].is_media and now - self._waiting[0].at > MAX_MEDIA_AGE:
            self._size -= len(self._waiting.popleft().data)
            self.counters.add(DROPPED_STALE_MEDIA)

    def _drop_oldest_media(self) -> bool:
        for place, waiting in enumerate(self._waiting):
            if waiting.is_media:
                del self._waiting[place]
                self._size -= len(waiting.data)
                self.counters.add(DROPPED_STALE_MEDIA)
                return True
        return False


def path_of(sock: socket.socket) -> Path:
    """Return the path of a connected socket; raises `OSError` if it is not connected any more."""
    return Path(_address(sock.getsockname()), _address(sock.getpeername()), TransportProtocol.TCP)


def _address(name: tuple[str, int]) -> Address:
    return Address(name[0].partition("%")[0], name[1])


class TcpConnections:
    """The connections of one media loop, by path. Everything belongs to that loop."""

    def __init__(self, take: Callable[[Sequence[tuple[bytes, Path]]], None]) -> None:
        """Hand what arrives to `take`."""
        self.counters = Counters()
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._by_path: dict[Path, TcpConnection] = {}
        self._unproven: dict[Path, Instant] = {}  # when each came, oldest first
        self._writing: set[Path] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._by_path)

    def adopt(self, sock: socket.socket, begun: bytes) -> None:
        """Take a connection over, and what was read of it; one that is gone already is closed."""
        try:
            connection = TcpConnection(sock, begun)
        except OSError:
            self.counters.add(CLOSED_BY_PEER)
            sock.close()
            return
        if len(self._by_path) >= MAX_CONNECTIONS:
            self.counters.add(CLOSED_TOO_MANY)
            connection.close()
            return
        if len(self._unproven) >= MAX_UNPROVEN:
            self._close(next(iter(self._unproven)), CLOSED_UNPROVEN)
        self._close(connection.path)  # the former one of this path is gone, unnoticed
        self.counters.add(ACCEPTED)
        self._by_path[connection.path] = connection
        self._unproven[connection.path] = self._loop.time()
        self._loop.add_reader(connection.fileno(), self._readable, connection)
        if self._timer is None:
            self._timer = self._loop.call_later(PROOF_PATIENCE / 2, self._close_unproven)
        self._readable(connection)

    def note_path(self, path: Path, is_bound: bool) -> None:
        """A path was proven by a call, or belongs to none any more."""
        connection = self._by_path.get(path)
        if connection is None:
            return
        if is_bound:
            self._unproven.pop(path, None)
        else:
            connection.flush(self._loop.time())  # the last word of a call
            self._close(path)

    def send(self, transmits: Sequence[Transmit]) -> Sequence[Transmit]:
        """Send what goes over TCP, and return the rest."""
        if not any(path.protocol is TransportProtocol.TCP for _, path in transmits):
            return transmits
        now, rest = self._loop.time(), []
        for transmit in transmits:
            data, path = transmit
            if path.protocol is not TransportProtocol.TCP:
                rest.append(transmit)
                continue
            connection = self._by_path.get(path)
            if connection is None:
                self.counters.add(DROPPED_NO_CONNECTION)
                continue
            connection.send(data, now)
            if connection.waiting and path not in self._writing:
                self._writing.add(path)
                self._loop.add_writer(connection.fileno(), self._writable, connection)
        return rest

    def all_counters(self) -> Counters:
        """Return what was counted, by connections that are gone, too."""
        total = Counters()
        total.merge(self.counters)
        for connection in self._by_path.values():
            total.merge(connection.counters)
        return total

    def close(self) -> None:
        """Close every connection."""
        if self._timer is not None:
            self._timer.cancel()
        for path in list(self._by_path):
            self._close(path)

    def _readable(self, connection: TcpConnection) -> None:
        batch = connection.receive()
        if batch:
            self._take(batch)
        if connection.is_broken:
            self._close(connection.path)

    def _writable(self, connection: TcpConnection) -> None:
        connection.flush(self._loop.time())
        if not connection.waiting:
            self._writing.discard(connection.path)
            self._loop.remove_writer(connection.fileno())

    def _close(self, path: Path, reason: CounterName | None = None) -> None:
        connection = self._by_path.pop(path, None)
        self._unproven.pop(path, None)
        if connection is None:
            return
        self._loop.remove_reader(connection.fileno())
        if path in self._writing:
            self._writing.discard(path)
            self._loop.remove_writer(connection.fileno())
        connection.close()
        self.counters.merge(connection.counters)
        if reason is not None:
            self.counters.add(reason)

    def _close_unproven(self) -> None:
        oldest = self._loop.time() - PROOF_PATIENCE
        for path in [path for path, at in self._unproven.items() if at <= oldest]:
            self._close(path, CLOSED_UNPROVEN)
        self._timer = None
        if self._unproven:
            self._timer = self._loop.call_later(PROOF_PATIENCE / 2, self._close_unproven)
