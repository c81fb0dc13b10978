"""How messages cross between the program's process and a media worker: on a Unix stream socket.

Each message is its length (four bytes, big-endian) and its bytes (`ipc.py` says what they are).

What was sent in one turn of the event loop leaves in one system call, when that turn is over. What the socket
does not take waits here, in order: up to `MAX_STALE` messages of the kind that is worth nothing when it is late
(sound that was heard, log lines, copies of datagrams), of which the oldest are then dropped and counted; and all
others, which are never dropped. What a program asks of a call is refused with a `LocalError` when the call has too
much waiting (`MAX_KEPT_OF_CALL`; `MAX_OF_CALL_WHEN_FULL` while all calls have `MAX_KEPT` together): the error is
that program's, and other calls go on. Of the rest more than `MAX_KEPT` bytes mean that the link has failed, as the
other side takes nothing any more. A message that cannot be read fails it as well: both ends are ours, so it is a
bug, or two versions.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from struct import Struct

from stack.aio.control import NotSent
from stack.core.errors import ParseError, StackError
from stack.voice.wire import MAX_SIZE

MAX_STALE = 20_000
"""Messages of the kind that gets stale which wait for the other side: 20 s of 20 listening calls."""
MAX_KEPT = 256 * 1024 * 1024
"""Bytes of other messages that wait for the other side: the longest speech, twice."""
MAX_KEPT_OF_CALL = MAX_SIZE
"""Bytes that may wait of what is asked of one call: the longest speech."""
MAX_OF_CALL_WHEN_FULL = 1024 * 1024
"""Bytes that may wait of one call even so, when all calls have `MAX_KEPT` waiting: five seconds of speech."""
MAX_READ = 1 << 15
"""Bytes that are read at once, 0.3 s of speech: then the packets of calls have their turn. A program that was
blocked writes what all its calls missed in one go."""
MAX_WRITTEN = 1 << 18
"""Bytes in one system call, about."""
MAX_BUFFERS = 512
"""Messages in one system call; the kernel takes 1024 buffers (IOV_MAX), and each message has two."""

_LENGTH = Struct("!I")


class LinkError(StackError):
    """The link between the program and a media worker has failed."""


class FrameReader:
    """Takes a stream of bytes apart into messages."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._have = 0
        self._needed = _LENGTH.size

    def feed(self, data: bytes) -> list[memoryview]:
        """Return the messages that are whole now; raises `ParseError` for one that is too long."""
        self._chunks.append(data)
        self._have += len(data)
        if self._have < self._needed:  # a long message is put together once, when all of it is there
            return []
        whole = memoryview(self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks))
        found, place = [], 0
        self._needed = _LENGTH.size
        while len(whole) - place >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(whole, place)
            if size > MAX_SIZE:
                raise ParseError(f"a message of {size} bytes")
            end = place + _LENGTH.size + size
            if end > len(whole):
                self._needed = end - place
                break
            found.append(whole[place + _LENGTH.size : end])
            place = end
        self._chunks = [bytes(whole[place:])]
        self._have = len(whole) - place
        return found

    @property
    def missing(self) -> int:
        """How many bytes are missing of the message that has begun, as far as is known by now."""
        return self._needed - self._have


class _Waiting:
    """A message that waits to leave; `data` is None if it was dropped."""

    __slots__ = ("call", "data", "is_stale_when_late")

    def __init__(self, data: bytes, is_stale_when_late: bool, call: str | None = None) -> None:
        self.data: bytes | None = data
        self.is_stale_when_late = is_stale_when_late
        self.call = call


class MessageStream:
    """One end of the link, on the running loop. `on_message` gets each message, `on_closed` the reason, once.

    An exception of `on_message` that is a `ParseError` fails the link; it has to deal with any other.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[memoryview], None],
        on_closed: Callable[[LinkError], None],
        on_dropped: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._on_message = on_message
        self._on_closed = on_closed
        self._on_dropped = on_dropped
        self._loop = asyncio.get_running_loop()
        self._frames = FrameReader()
        self._queue: deque[_Waiting] = deque()
        self._stale: deque[_Waiting] = deque()  # those of the queue that may be dropped
        self._kept = 0  # bytes of those that are of no call
        self._kept_of_calls = 0
        self._kept_of: dict[str, int] = {}  # calls of which something waits
        self._gone = 0  # messages of the queue that were dropped, at most
        self._leaving: list[memoryview] = []  # what the kernel has taken a part of
        self._scheduled = self._writing = False
        self.is_open = True
        self._loop.add_reader(sock.fileno(), self._readable)

    def send(self, data: bytes, is_stale_when_late: bool = False) -> None:
        """Have a message leave when this turn of the loop is over; nothing happens on a link that has failed."""
        if not self.is_open:
            return
        waiting = _Waiting(data, is_stale_when_late)
        self._queue.append(waiting)
        if is_stale_when_late:
            self._stale.append(waiting)
            if len(self._stale) > MAX_STALE:
                self._stale.popleft().data = None
                self._on_dropped()
                self._gone += 1
                if self._gone > MAX_STALE:  # the places of what was dropped are given back, too
                    self._queue = deque(each for each in self._queue if each.data is not None)
                    self._gone = 0
        else:
            self._kept += len(data)
            if self._kept > MAX_KEPT:
                self.fail(LinkError(f"more than {MAX_KEPT} bytes wait for the other side"))
                return
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and not self._writing:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def send_of(self, call: str, data: bytes) -> None:
        """Have what a program asks of a call leave; `NotSent` if too much of it waits already."""
        if not self.is_open:
            return
        kept = self._kept_of.get(call, 0) + len(data)
        is_full = self._kept_of_calls + len(data) > MAX_KEPT
        if kept > (MAX_OF_CALL_WHEN_FULL if is_full else MAX_KEPT_OF_CALL):
            raise NotSent(
                f"{kept} bytes of this call would wait for its media worker: write less at once, or wait between"
            )
        self._kept_of[call] = kept
        self._kept_of_calls += len(data)
        self._queue.append(_Waiting(data, False, call))
        self._schedule()

    @property
    def waiting(self) -> int:
        """How many messages have not left."""
        return len(self._queue) + (1 if self._leaving else 0)

    def fail(self, error: LinkError) -> None:
        """Close the link, and say why."""
        if self.is_open:
            self.close()
            self._on_closed(error)

    def close(self) -> None:
        """Close the link; what has not left is forgotten."""
        if not self.is_open:
            return
        self.is_open = False
        self._loop.remove_reader(self._socket.fileno())
        if self._writing:
            self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._queue.clear()
        self._stale.clear()
        self._leaving.clear()

    def flush_now(self) -> None:
        """Send what the kernel takes at once."""
        if self.is_open:
            self._flush()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(MAX_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.fail(LinkError(f"the other side is gone: {error.strerror}"))
            return
        if not data:
            self.fail(LinkError("the other side is gone"))
            return
        try:
            for message in self._frames.feed(data):
                self._on_message(message)
                if not self.is_open:
                    return
        except ParseError as error:
            self.fail(LinkError(f"the other side sent what is no message: {error}"))

    def _flush(self) -> None:
        self._scheduled = False
        while self.is_open and (self._leaving or self._queue):
            if not self._leaving:
                self._take_next()
                continue
            try:
                sent = self._socket.sendmsg(self._leaving)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self.fail(LinkError(f"the other side is gone: {error.strerror}"))
                return
            self._forget_sent(sent)
        if not self.is_open:
            return
        blocked = bool(self._leaving or self._queue)
        if blocked and not self._writing:
            self._loop.add_writer(self._socket.fileno(), self._flush)
        elif self._writing and not blocked:
            self._loop.remove_writer(self._socket.fileno())
        self._writing = blocked

    def _take_next(self) -> None:
        """Gather what fits into one system call."""
        size = 0
        for _ in range(min(len(self._queue), MAX_BUFFERS)):
            waiting = self._queue.popleft()
            data = waiting.data
            if data is None:
                continue
            if waiting.is_stale_when_late:
                self._stale.popleft()
            elif waiting.call is None:
                self._kept -= len(data)
            else:
                self._note_left(waiting.call, len(data))
            self._leaving.append(memoryview(_LENGTH.pack(len(data))))
            self._leaving.append(memoryview(data))
            size += len(data)
            if size >= MAX_WRITTEN:
                return

    def _note_left(self, call: str, size: int) -> None:
        self._kept_of_calls -= size
        self._kept_of[call] -= size
        if not self._kept_of[call]:
            del self._kept_of[call]

    def _forget_sent(self, sent: int) -> None:
        done = 0
        for buffer in self._leaving:
            if sent < len(buffer):
                break
            sent -= len(buffer)
            done += 1
        del self._leaving[:done]
        if sent:
            self._leaving[0] = self._leaving[0][sent:]
