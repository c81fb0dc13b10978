"""TCP and TLS of a client on the media loop: connections that it makes, to peers and to TURN servers.

A machine sends along a path of protocol TCP that begins at port 9 (`stack.ice.candidate.ACTIVE_PORT`), and the
first datagram makes the connection from that host to the path's end; one host has one connection to one address,
whatever port the kernel gives it. To a peer datagrams are framed by RFC 4571 (RFC 6544 §3); to a TURN server they
are messages that tell their own length, over TLS where the server says so.

What is sent while a connection is being made waits, a few datagrams. What the network does not take is dropped
once there is more than a bound of it: late sound is of no use, and all else is sent again by its protocol. A
connection that fails or ends is told to the owner, and the path stays closed for a while. One to a peer that had
lasted is made again by the next check, and by nothing else: the peer knows by it whose connection it is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Sequence
from typing import cast

from stack.core.counters import Counters, declare
from stack.core.errors import LocalError, ParseError
from stack.core.machine import Instant, Path
from stack.ice.candidate import ACTIVE_PORT
from stack.ice.framing import StreamFramer, frame
from stack.ice.servers import IceServer
from stack.ice.turn_framing import TurnStreamFramer

log = logging.getLogger("stack.aio")

STREAM_CONNECTED = declare("socket", "stream_connected", "TCP and TLS connections that a client has made")
STREAM_FAILED = declare("socket", "stream_failed", "TCP and TLS connections that could not be made")
STREAM_LOST = declare("socket", "stream_lost", "TCP and TLS connections that ended in a call")
DROPPED_STREAM_CLOSED = declare(
    "socket", "dropped_stream_closed", "Datagrams for a connection that could not be made, or has ended"
)
DROPPED_STREAM_FULL = declare(
    "socket", "dropped_stream_full", "Datagrams that a connection is too slow for, or that came before it was made"
)

MAX_CONNECTIONS = 32
"""Of one call: a connection for each active candidate and address of the peer, and those to TURN servers."""
MAX_WAITING = 16
"""Datagrams that wait for a connection to be made."""
MAX_UNSENT = 1 << 16
"""Bytes that wait for the network, of one connection: half a second of everything."""
CONNECT_TIMEOUT = 10.0
"""Seconds for TCP, and TLS."""
CLOSED_FOR = 30.0
"""Seconds in which a path whose connection has failed is not tried again; less where there was one before."""
STEADY = 10.0
"""Seconds that a connection has to last for the next one to be made at once when it ends."""

_BINDING_REQUEST = b"\x00\x01"

Take = Callable[[Sequence[tuple[bytes, Path]]], None]


class _Stream(asyncio.Protocol):
    """One connection."""

    def __init__(self, path: Path, framer: StreamFramer | TurnStreamFramer, owner: ClientConnections) -> None:
        self.path = path
        self.transport: asyncio.Transport | None = None
        self.waiting: list[bytes] = []
        self.wants_check = False
        """True until a check has gone first, on a connection in the place of another."""
        self.made_at: Instant | None = None
        self._framer = framer
        self._owner = owner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what has waited."""
        self.transport = cast(asyncio.Transport, transport)
        self.made_at = asyncio.get_running_loop().time()
        for data in self.waiting:
            self.transport.write(data)
        self.waiting.clear()

    def data_received(self, data: bytes) -> None:
        """Cut what has come into datagrams."""
        try:
            datagrams = self._framer.feed(data)
        except ParseError as error:
            log.info("the connection %s is closed: %s", self.path, error)
            if self.transport is not None:
                self.transport.abort()
            return
        if datagrams:
            self._owner.take([(datagram, self.path) for datagram in datagrams])

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner."""
        self._owner.lose(self.path, STREAM_LOST, "" if exc is None else _reason(exc))

    def send(self, data: bytes, counters: Counters) -> None:
        """Send, or wait."""
        if self.transport is None:
            if len(self.waiting) < MAX_WAITING:
                self.waiting.append(data)
            else:
                counters.add(DROPPED_STREAM_FULL)
        elif self.transport.is_closing():
            counters.add(DROPPED_STREAM_CLOSED)
        elif self.transport.get_write_buffer_size() > MAX_UNSENT:
            counters.add(DROPPED_STREAM_FULL)
        else:
            self.transport.write(data)

    def frame(self, datagram: bytes) -> bytes:
        """Return a datagram as it goes onto the stream; raises `LocalError` for one that no frame carries."""
        return datagram if isinstance(self._framer, TurnStreamFramer) else frame(datagram)


def _reason(error: Exception) -> str:
    """Return why there is no connection, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error})"
    if isinstance(error, TimeoutError):
        return f"no answer in {CONNECT_TIMEOUT:g} s"
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else str(error)


class ClientConnections:
    """The connections of one client, by path. Everything belongs to the running loop."""

    def __init__(
        self,
        take: Take,
        note_lost: Callable[[Path, str], None],
        find_server: Callable[[Path], IceServer | None],
        *,
        insecure: bool = False,
    ) -> None:
        """Hand what arrives to `take`, and a path that is closed, with the reason, to `note_lost`.

        `find_server` says which TURN server is at the end of a path, if one is.

        `insecure` takes any certificate of a TURN server.
        """
        self.counters = Counters()
        self.take = take
        self._note_lost = note_lost
        self._find_server = find_server
        self._insecure = insecure
        self._loop = asyncio.get_running_loop()
        self._streams: dict[Path, _Stream] = {}
        self._closed: dict[Path, Instant] = {}
        self._again: dict[Path, int] = {}  # paths that had a connection, and how often in a row it was short
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def send(self, data: bytes, path: Path) -> None:
        """Send a datagram, and make the connection that it takes."""
        stream = self._streams.get(path) or self._open(path)
        if stream is None or (stream.wants_check and data[:2] != _BINDING_REQUEST):
            self.counters.add(DROPPED_STREAM_CLOSED)
            return
        stream.wants_check = False
        try:
            framed = stream.frame(data)
        except LocalError:
            self.counters.add(DROPPED_STREAM_FULL)
            return
        stream.send(framed, self.counters)

    def _open(self, path: Path) -> _Stream | None:
        until = self._closed.get(path, 0.0)
        if self._is_closed or self._loop.time() < until or len(self._streams) >= MAX_CONNECTIONS:
            return None
        if path.local.port != ACTIVE_PORT:  # the peer's connection to us, which is not there any more
            return None
        server = self._find_server(path)
        framer = StreamFramer() if server is None else TurnStreamFramer()
        stream = self._streams[path] = _Stream(path, framer, self)
        stream.wants_check = server is None and path in self._again
        task = self._loop.create_task(self._connect(stream, server))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return stream

    async def _connect(self, stream: _Stream, server: IceServer | None) -> None:
        path = stream.path
        context = self._tls() if server is not None and server.tls else None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._loop.create_connection(
                    lambda: stream,
                    path.remote.host,
                    path.remote.port,
                    local_addr=(path.local.host, 0),
                    ssl=context,
                    server_hostname=server.host if server is not None and context is not None else None,
                )
        except (OSError, TimeoutError) as error:  # `ssl.SSLError` is an `OSError`
            log.info("no connection %s: %s", path, error or "no answer")
            self.lose(path, STREAM_FAILED, _reason(error))
        else:
            self.counters.add(STREAM_CONNECTED)

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    def lose(self, path: Path, reason: object, why: str) -> None:
        """A connection could not be made, or has ended; `why` is for people, and may be empty."""
        stream = self._streams.pop(path, None)
        if stream is None or self._is_closed:
            return
        self.counters.add(STREAM_FAILED if reason is STREAM_FAILED else STREAM_LOST)
        if len(self._closed) >= MAX_CONNECTIONS:
            self._closed.clear()
            self._again.clear()
        self._closed[path] = self._loop.time() + self._pause(stream)
        self._note_lost(path, why)

    def _pause(self, stream: _Stream) -> float:
        """Return for how many seconds a path is closed whose connection is gone."""
        path, now = stream.path, self._loop.time()
        if stream.made_at is not None and now - stream.made_at >= STEADY:
            self._again[path] = 0
            return 0.0
        if stream.made_at is None and path not in self._again:
            return CLOSED_FOR
        self._again[path] = self._again.get(path, 0) + 1
        return min(CLOSED_FOR, 0.5 * float(1 << min(self._again[path], 8)))

    def close(self) -> None:
        """Close every connection; what has been written leaves as far as the network takes it at once."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        for stream in self._streams.values():
            if stream.transport is not None:
                stream.transport.close()
        self._streams.clear()
