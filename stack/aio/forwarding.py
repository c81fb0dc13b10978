"""One UDP port for several worker processes where the kernel does not steer: one process in front forwards.

macOS has no program that chooses among sockets of one port (`steering.py`), and a kernel may refuse it elsewhere.
There one process reads the port (`forwarder.py`) and hands each datagram to the worker that has its call. It reads
as little as the kernel does:

- a STUN request goes to the worker that its USERNAME names, a response to the one that its transaction names;
- SRTP, or a DTLS record, over an unknown path is shown to all workers: a client that has moved is known to one;
- all else goes to the worker that has bound the path. Workers say so before the answer leaves to the check that
  has proven the path, and the forwarder reads what they have said before it judges a check, or what came over an
  unknown path: so what the peer sends upon that answer finds the path known.

Workers send by themselves, through the same sockets, which they inherit and never read. So what goes out costs
nothing more.

Forwarder and worker share a pair of Unix datagram sockets; every message is one record or several, which left
together (`records.py`).

Why datagrams, and both ends kept by the program's process: either side can die and be replaced, and no half-read
message is in the way of what comes next. What a side does not take waits at the other, `MAX_WAITING` datagrams of
each worker at most; the oldest are dropped then, as sound that is late is worth nothing.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from stack.aio.driver import FAULT_RECEIVE, Driver
from stack.aio.records import BEGIN, BIND, DATAGRAM, HEAD, RELEASE, ForwardedRecord, PathKeys, parse_records
from stack.aio.steering import named_worker
from stack.aio.udp import MAX_DATAGRAM, UdpSocket, UdpSockets
from stack.core.counters import Counters, declare
from stack.core.errors import ParseError
from stack.core.faults import Faults
from stack.core.machine import Path, TransportProtocol
from stack.core.per_second import PerSecond
from stack.core.trace import PacketTrace
from stack.server import Endpoint, PathChange, may_be_of_a_moved_client
from stack.voice.events import ConversationEvent

DROPPED_LATE = declare(
    "forwarder", "dropped_late", "Datagrams that waited for a worker behind too many others: the oldest go"
)
DROPPED_UNKNOWN_PATH = declare(
    "forwarder", "dropped_unknown_path", "Datagrams that name no worker, over a path that no worker has bound"
)
DROPPED_NOTE = declare(
    "forwarder", "dropped_note", "Notes about paths that the other side did not take, beyond those that are kept"
)
ASKED_ALL = declare(
    "forwarder",
    "asked_all",
    "SRTP and DTLS over an unknown path that all workers were shown: one may have the call",
)
MOVED_PATH = declare("forwarder", "moved_path", "Paths that a session of another worker has proven since")

log = logging.getLogger("stack.aio")

MAX_WAITING = 2_000
"""Datagrams that wait for one worker: 0.4 s of 100 calls."""
MAX_NOTES = 65_536
"""Notes about paths that wait for the other side: more than there can be paths of calls."""
MAX_PATHS = 65_536
"""Paths that are known in front: more than calls of all workers have."""
MAX_ASKED_OF_ALL = 200
"""Datagrams over unknown paths that all workers are shown in one second; a client that moves sends some four."""
MAX_MESSAGE = 32_768
"""Bytes from which on no further record joins a message."""
MAX_MESSAGES = 64
"""Messages read before others on the loop get their turn."""
RETRY_AFTER = 0.001
"""Seconds until a full socket is tried again. macOS calls such a socket writable all the time."""
PAIR_BUFFER = 1 << 20
"""Bytes asked of the kernel for each direction."""

_STUN_FIRST_BYTE_END = b"\x04"  # RFC 7983 §7


def forwarding_pair() -> tuple[socket.socket, socket.socket]:
    """Return the ends of the forwarder and of a worker."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in pair:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, option, PAIR_BUFFER)
        end.setblocking(False)
    return pair


class RecordSocket:
    """One end of a pair, on the running loop."""

    def __init__(self, end: socket.socket, counters: Counters) -> None:
        end.setblocking(False)
        self._socket = end
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._notes: deque[bytes] = deque()
        self._datagrams: deque[bytes] = deque()
        self._buffer = bytearray(MAX_MESSAGE + 2 * MAX_DATAGRAM)
        self._retry: asyncio.TimerHandle | None = None

    def fileno(self) -> int:
        """Return the descriptor to watch for readability."""
        return self._socket.fileno()

    @property
    def waiting(self) -> int:
        """How many records have not left."""
        return len(self._notes) + len(self._datagrams)

    def put_datagram(self, record: bytes) -> None:
        """Have a datagram leave with the next `flush`; if too many wait, the oldest is dropped and counted."""
        self._datagrams.append(record)
        if len(self._datagrams) > MAX_WAITING:
            self._datagrams.popleft()
            self._counters.add(DROPPED_LATE)

    def put_note(self, kind: int, key: bytes = b"") -> None:
        """Have anything else leave with the next `flush`, before all datagrams."""
        if len(self._notes) >= MAX_NOTES:
            self._counters.add(DROPPED_NOTE)
        else:
            self._notes.append(ForwardedRecord(kind, key).serialize())

    def forget_notes(self) -> None:
        """Forget the notes that wait."""
        self._notes.clear()

    def forget_datagrams(self) -> None:
        """Forget the datagrams that wait."""
        self._datagrams.clear()

    def flush(self) -> None:
        """Send what the other side takes; the rest is tried again soon."""
        if self._retry is not None:
            return
        while self._notes or self._datagrams:
            notes, datagrams, message = self._gather()
            try:
                self._socket.send(message)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # ENOBUFS on macOS; ECONNREFUSED while the program is ending: a bounded queue waits
                break
            for queue, amount in ((self._notes, notes), (self._datagrams, datagrams)):
                for _ in range(amount):
                    queue.popleft()
        else:
            return
        self._retry = self._loop.call_later(RETRY_AFTER, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self.flush()

    def _gather(self) -> tuple[int, int, bytes]:
        """Return how many notes and datagrams the next message has, and its bytes."""
        parts: list[bytes] = []
        size, amounts = 0, []
        for queue in (self._notes, self._datagrams):
            before = len(parts)
            for record in queue:
                if size >= MAX_MESSAGE:
                    break
                parts.append(record)
                size += len(record)
            amounts.append(len(parts) - before)
        return amounts[0], amounts[1], parts[0] if len(parts) == 1 else b"".join(parts)

    def receive(self) -> Iterator[ForwardedRecord]:
        """Yield what has arrived; raises `ParseError` for what is no record, as both ends are ours."""
        view = memoryview(self._buffer)
        for _ in range(MAX_MESSAGES):
            try:
                size = self._socket.recv_into(view)
            except OSError:  # nothing waits, or the program is ending
                return
            yield from parse_records(view[:size])

    def is_refused(self) -> bool:
        """Return True if no process has the other end any more."""
        try:
            self._socket.send(b"")
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as failed:  # ENOTCONN: it was refused before, and Linux has taken the pair apart
            return isinstance(failed, ConnectionError) or failed.errno == errno.ENOTCONN
        return False

    def close(self) -> None:
        """Close this end."""
        if self._retry is not None:
            self._retry.cancel()
        self._socket.close()


# -- in front ----------------------------------------------------------------------------------------------


class _Bound(NamedTuple):
    """Where the datagrams of a path go, and the key that they bear."""

    worker: int
    key: bytes


class Forwarding:
    """Reads the sockets of the port and hands each datagram to its worker. Everything belongs to the running loop.

    `ends` are the forwarder's ends of the pairs, by the number of the worker.
    """

    def __init__(self, sockets: UdpSockets, ends: Sequence[socket.socket]) -> None:
        self.counters = Counters()
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        self._faults = Faults(self.counters)
        self._keys = PathKeys(sockets.addresses)
        self._workers = [RecordSocket(end, self.counters) for end in ends]
        self._paths: dict[Path, _Bound] = {}
        self._may_ask_all = PerSecond(MAX_ASKED_OF_ALL)
        for worker in self._workers:
            worker.put_note(BEGIN)
            worker.flush()
            self._loop.add_reader(worker.fileno(), self._guarded, self._take_notes)
        for udp in sockets:
            self._loop.add_reader(udp.fileno(), self._guarded, self._receive, udp)

    def all_counters(self) -> Counters:
        """Return what was counted here and by the sockets."""
        total = Counters()
        for counted in (self.counters, self._sockets.counters, *(udp.counters for udp in self._sockets)):
            total.merge(counted)
        return total

    @property
    def has_workers(self) -> bool:
        """False if no process has the other end of any pair."""
        return not all(worker.is_refused() for worker in self._workers)

    def close(self) -> None:
        """Stop reading, and close the sockets."""
        for udp in self._sockets:
            self._loop.remove_reader(udp.fileno())
        for worker in self._workers:
            self._loop.remove_reader(worker.fileno())
            worker.close()
        self._sockets.close()

    def _guarded(self, action: Callable[..., None], *arguments: UdpSocket) -> None:
        try:
            action(*arguments)
        except Exception as failed:
            self._faults.note(FAULT_RECEIVE, failed, self._loop.time())
        for fault in self._faults.drain():
            log.error("a bug was survived while doing %s", fault.doing, exc_info=fault.error)

    def _receive(self, udp: UdpSocket) -> None:
        paths, workers = self._paths, self._workers
        have_listened = False
        touched: set[int] = set()
        for data, path in udp.receive():
            bound = paths.get(path)
            if bound is None or data[:1] < _STUN_FIRST_BYTE_END:
                if not have_listened:  # once: whatever caused this batch was said before it was read
                    self._take_notes()
                    have_listened, paths = True, self._paths
                bound = self._named(data, path) or paths.get(path)
                if bound is None:
                    touched |= self._ask_all(data, path)
                    continue
            key = bound.key
            workers[bound.worker].put_datagram(HEAD.pack(DATAGRAM, len(data), len(key)) + key + data)
            touched.add(bound.worker)
        for number in touched:
            workers[number].flush()

    def _ask_all(self, data: bytes, path: Path) -> set[int]:
        """Show what came over an unknown path to all workers: a client that has moved is known to one."""
        if not may_be_of_a_moved_client(data) or not self._may_ask_all.allows(self._loop.time()):
            self.counters.add(DROPPED_UNKNOWN_PATH)
            return set()
        self.counters.add(ASKED_ALL)
        record = ForwardedRecord(DATAGRAM, self._keys.key(path), data).serialize()
        for worker in self._workers:
            worker.put_datagram(record)
        return set(range(len(self._workers)))

    def _named(self, data: bytes, path: Path) -> _Bound | None:
        """Return the worker that a STUN message names, modulo their number, as the kernel counts."""
        if not data or data[:1] >= _STUN_FIRST_BYTE_END:
            return None
        digit = named_worker(data)
        return _Bound(digit % len(self._workers), self._keys.key(path)) if digit is not None else None

    def _take_notes(self) -> None:
        for number, worker in enumerate(self._workers):
            for record in worker.receive():
                self._take_note(number, record)

    def _take_note(self, number: int, record: ForwardedRecord) -> None:
        if record.kind == BEGIN:
            self._workers[number].forget_datagrams()
            self._paths = {path: bound for path, bound in self._paths.items() if bound.worker != number}
            return
        path = self._keys.path(record.key)
        bound = self._paths.get(path)
        if record.kind == RELEASE:
            if bound is not None and bound.worker == number:
                del self._paths[path]
        elif record.kind != BIND:
            raise ParseError(f"a worker sends no record of kind {record.kind}")
        elif bound is None and len(self._paths) >= MAX_PATHS:
            self.counters.add(DROPPED_NOTE)
        else:
            self._paths[path] = _Bound(number, record.key)
            if bound is not None and bound.worker != number:  # as it is in one process: the latest has it
                self.counters.add(MOVED_PATH)
                self._workers[bound.worker].put_note(RELEASE, record.key)
                self._workers[bound.worker].flush()


# -- in a worker -------------------------------------------------------------------------------------------


class ForwardedDriver(Driver[ConversationEvent]):
    """A driver that reads what the forwarder hands it, and sends through the sockets themselves."""

    def __init__(
        self,
        endpoint: Endpoint[ConversationEvent],
        sockets: UdpSockets,
        on_events: Callable[[Sequence[tuple[str, ConversationEvent]]], None],
        trace: PacketTrace | None,
        *,
        end: socket.socket,
    ) -> None:
        super().__init__(endpoint, sockets, on_events, trace)
        self._releasing = endpoint
        self._keys = PathKeys(sockets.addresses)
        self._known: dict[bytes, Path] = {}  # by keys; those of the latest checks and all that are bound
        self._bound: set[bytes] = set()
        self._forwarder = RecordSocket(end, self.counters)
        self._forwarder.put_note(BEGIN)
        self._forwarder.flush()
        self._loop.add_reader(end.fileno(), self._forwarded)

    def _listen(self) -> None:
        """The forwarder reads the sockets."""

    def _forwarded(self) -> None:
        self._try(FAULT_RECEIVE, self._take_records)
        self.pump()

    def _take_records(self) -> None:
        batch = []
        known = self._known
        for kind, key, data in self._forwarder.receive():
            if kind == DATAGRAM:
                batch.append((data, known.get(key) or self._learn(key)))
            elif kind == RELEASE:
                self._releasing.release_path(self._keys.path(key))
            elif kind == BEGIN:
                self._tell_all()
            else:
                raise ParseError(f"the forwarder sends no record of kind {kind}")
        if batch:
            self._take(batch)

    def _learn(self, key: bytes) -> Path:
        if len(self._known) >= MAX_PATHS:
            self._known.clear()
        path = self._known[key] = self._keys.path(key)
        return path

    def _tell_all(self) -> None:
        """The forwarder is new: say what paths we have."""
        self._forwarder.forget_notes()
        self._forwarder.put_note(BEGIN)
        for key in self._bound:
            self._forwarder.put_note(BIND, key)
        self._forwarder.flush()

    def _follow(self, changes: Sequence[PathChange]) -> None:
        for path, is_bound in changes:
            if path.protocol is not TransportProtocol.UDP:
                continue
            key = self._keys.key(path)
            (self._bound.add if is_bound else self._bound.discard)(key)
            self._forwarder.put_note(BIND if is_bound else RELEASE, key)
        self._forwarder.flush()

    def close(self) -> None:
        """Stop reading and close the sockets."""
        self._loop.remove_reader(self._forwarder.fileno())
        self._forwarder.close()
        super().close()
