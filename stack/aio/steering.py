"""One UDP port for several worker processes: how each datagram reaches the process that has its call.

Who starts the workers binds a socket for each of them on every local address (SO_REUSEPORT, Linux), before any
of them runs, and keeps them all: their places in the kernel's group never move, and a worker that dies is
replaced behind the same socket. Then:

- a STUN request is steered by the worker digit in its USERNAME (`stack.core.ufrag`), and a response to one of ours
  by the same digit in its transaction, by a program of classic BPF that the kernel runs for each datagram which
  no connected socket takes; it needs no privileges. The digit counts modulo the number of workers: a ticket of a
  server that had more of them has one worker here, always the same;
- all else goes to a socket that is *connected* to where the call's peer is: the worker makes it when a check has
  proven the path, before the answer leaves, so that nothing of the call is ever looked for elsewhere.

A client that has moved sends from a path that no worker has connected, and the kernel hands that to any of them.
One that finds no call for SRTP, or for a DTLS record, shows it to the others, by a datagram socket that each of
them has for it: the one whose call it may be verifies it, and asks by a check whether the peer is there
(`docs/decisions/0023-connecting-from-anywhere.md`). So many are shown in a second, `MAX_SHOWN`, and no more.

A peer that uses one port of its own for calls of several workers sends their checks into the socket that one of
them has connected. Such a check names another worker; it is passed on to it through the process that started
both, and the path then belongs to the latest session that proved itself there, as it does within one process
(`stack.server.routes`).
"""

from __future__ import annotations

import ctypes
import errno
import logging
import select
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import Enum

from stack.aio.driver import FAULT_RECEIVE, Driver
from stack.aio.records import DATAGRAM, ForwardedRecord, PathKeys, parse_records
from stack.aio.udp import MAX_DATAGRAM, RECEIVE_ERRORS, UdpSocket, UdpSockets, bind_all
from stack.core.counters import declare
from stack.core.errors import LocalError
from stack.core.machine import Address, Path, Transmit, TransportProtocol
from stack.core.per_second import PerSecond
from stack.core.trace import PacketTrace
from stack.ice import MAX_WORKERS, worker_of
from stack.server import Endpoint, PathChange
from stack.stun import peek_username
from stack.voice.events import ConversationEvent

FAILED_CONNECT = declare(
    "worker", "failed_connect", "Paths without a connected socket, because the kernel gave none"
)
PASSED_ON_CHECK = declare("worker", "passed_on_check", "Checks that were passed on to the worker that they name")
SHOWN = declare(
    "worker", "shown", "SRTP and DTLS over unknown paths that the other workers were shown: one may have the call"
)
TRIED_SHOWN = declare("worker", "tried_shown", "Such datagrams that another worker has shown")
DROPPED_UNSHOWN = declare(
    "worker",
    "dropped_unshown",
    "Such datagrams beyond those that are shown each second, or that a worker took not",
)
DROPPED_FOREIGN_CHECK = declare(
    "worker", "dropped_foreign_check", "Checks for another worker beyond those that are passed on each second"
)

log = logging.getLogger("stack.aio")

MAX_PASSED_ON = 100
"""Checks that a worker passes on to others in one second; a peer sends a few for each of its calls."""
MAX_SHOWN = 200
"""Datagrams over unknown paths that a worker shows to the others in one second; a client that moves sends a
few."""
MAX_SHOWN_SIZE = 2048
"""Bytes; SRTP and DTLS of a client fit into a packet of its network."""
MAX_SHOWN_AT_ONCE = 64
"""Datagrams of other workers that are read before others on the loop get their turn."""
_STUN_FIRST_BYTE_END = 4  # RFC 7983 §7

# -- the program in the kernel -----------------------------------------------------------------------------

SO_ATTACH_REUSEPORT_CBPF = 51  # <asm-generic/socket.h>
_HEADER = 20
_TRANSACTION = 8
_RESPONSE = 1  # the first byte of a success or error response (RFC 8489 §5)
_MAX_ATTRIBUTES = 6
"""Attributes that may stand before USERNAME, less one; browsers put it first."""
_NO_CHOICE = 0xFFFF_FFFF  # no socket has this place: the kernel chooses by its hash, among those not connected
_LOAD_BYTE, _LOAD_WORD, _LOAD_INDEX = 0x30, 0x20, 0x01
_LOAD_BYTE_AT, _LOAD_HALF_AT = 0x50, 0x48
_ADD, _SUBTRACT, _AND, _MODULO, _ADD_INDEX, _TO_INDEX = 0x04, 0x14, 0x54, 0x94, 0x0C, 0x07
_IF_EQUAL, _IF_GREATER, _IF_AT_LEAST, _JUMP, _RETURN, _RETURN_IT = 0x15, 0x25, 0x35, 0x05, 0x06, 0x16


def steering_program(workers: int) -> bytes:
    """Return the program for so many workers, as an array of `struct sock_filter` (<linux/filter.h>).

    The datagram's payload begins at offset 0. It returns the number of the worker that USERNAME names, or of which
    the transaction of a response is, which is the place of its socket in the group; or `_NO_CHOICE`.
    """
    code: list[tuple[int, int | str, int | str, int]] = []
    labels: dict[str, int] = {}

    def emit(operation: int, value: int = 0, then: int | str = 0, otherwise: int | str = 0) -> None:
        code.append((operation, then, otherwise, value))

    emit(_LOAD_BYTE, 0)
    emit(_IF_GREATER, _STUN_FIRST_BYTE_END - 1, "none", 0)
    emit(_LOAD_WORD, 4)
    emit(_IF_EQUAL, 0x2112_A442, 0, "none")
    emit(_LOAD_BYTE, 0)
    emit(_IF_EQUAL, _RESPONSE, "response", 0)
    emit(_LOAD_INDEX, _HEADER)
    for _ in range(_MAX_ATTRIBUTES):
        emit(_LOAD_HALF_AT, 0)
        emit(_IF_EQUAL, 6, "username", 0)  # RFC 8489 §14.3
        emit(_LOAD_HALF_AT, 2)
        emit(_ADD, 3 + 4)
        emit(_AND, 0xFFFF_FFFC)  # padded to four bytes, and the attribute's own header
        emit(_ADD_INDEX)
        emit(_TO_INDEX)
    labels["none"] = len(code)
    emit(_RETURN, _NO_CHOICE)
    labels["response"] = len(code)
    emit(_LOAD_BYTE, _TRANSACTION)
    emit(_JUMP, 1)
    labels["username"] = len(code)
    emit(_LOAD_BYTE_AT, 4)
    emit(_IF_AT_LEAST, ord("a"), "letter", 0)
    emit(_SUBTRACT, ord("0"))
    emit(_JUMP, 1)
    labels["letter"] = len(code)
    emit(_SUBTRACT, ord("a") - 10)
    # Any other character is far off, also below "0": there is no sign.
    emit(_IF_AT_LEAST, MAX_WORKERS, 0, 1)
    emit(_RETURN, _NO_CHOICE)
    emit(_MODULO, workers)
    emit(_RETURN_IT)
    return b"".join(
        struct.pack("HBBI", operation, *(_distance(place, to, labels) for to in (then, otherwise)), value)
        for place, (operation, then, otherwise, value) in enumerate(code)
    )


def _distance(place: int, target: int | str, labels: dict[str, int]) -> int:
    return target if isinstance(target, int) else labels[target] - place - 1


def _attach(udp: UdpSocket, workers: int) -> None:
    program = steering_program(workers)
    kept = ctypes.create_string_buffer(program, len(program))
    descriptor = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(kept))  # struct sock_fprog
    udp.set_option(SO_ATTACH_REUSEPORT_CBPF, descriptor)


# -- the sockets -------------------------------------------------------------------------------------------


class Steering(Enum):
    """Who finds the worker of a datagram where several share a port."""

    KERNEL = "kernel"
    """A program in the kernel, and connected sockets: nothing stands in between."""
    FORWARDER = "forwarder"
    """One process in front reads the port (`forwarding.py`): it costs half as much again for each packet."""


class CannotSteer(LocalError):
    """This kernel gives several workers no common port."""


def can_share_a_port() -> bool:
    """Return True where the kernel can steer to several workers: on Linux, which runs the steering program."""
    return sys.platform == "linux"


def bind_group(hosts: Sequence[str], port: int, workers: int) -> list[UdpSockets]:
    """Bind one port for several workers on each local address, as `bind_all` does, and return the sockets of each.

    Raises `LocalError`, also if another server has the port: of the same user or not, it does not share it; and
    `CannotSteer`, where several workers need a process in front.
    """
    if not 1 <= workers <= MAX_WORKERS:
        raise LocalError(f"there can be 1 to {MAX_WORKERS} workers, not {workers}")
    if workers > 1 and not can_share_a_port():
        raise CannotSteer("the kernel of this system does not steer datagrams to several workers")
    alone = bind_all(hosts, port)  # finds a port that is free, and refuses one that another server shares
    if workers == 1 and not can_share_a_port():
        return [alone]
    addresses = alone.addresses
    alone.close()
    made: list[list[UdpSocket]] = [[] for _ in range(workers)]
    try:
        for address in addresses:
            for sockets in made:
                sockets.append(UdpSocket(address.host, address.port, shared=True))
            _attach(made[0][-1], workers)
    except (OSError, LocalError) as error:
        for sockets in made:
            for udp in sockets:
                udp.close()
        if isinstance(error, LocalError):
            raise
        if workers == 1:  # nothing is to be steered; its calls get no sockets of their own
            return [bind_all(hosts, addresses[0].port)]
        reason = errno.errorcode.get(error.errno or 0, str(error))
        raise CannotSteer(f"this kernel does not steer datagrams to several workers ({reason})") from error
    return [UdpSockets(sockets) for sockets in made]


class ConnectedSocket(UdpSocket):
    """A socket of one path: it takes what comes from there before any other does."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.local.host, path.local.port, shared=True)
        self._whole_path = path
        self._read_in = -2
        try:
            self._socket.connect(path.remote)
        except OSError:
            self.close()
            raise

    def receive_in(self, turn: int) -> list[tuple[bytes, Path]]:
        """Return what waits, when it is readable in this turn of the loop.

        That is one datagram as a rule, and to ask for a second one costs as much as to read the first. So all are
        taken only when there was something in the turn before as well.
        """
        if turn == self._read_in + 1:
            self._read_in = turn
            return self.receive()
        self._read_in = turn
        try:
            size = self._socket.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:  # an ICMP error of an earlier send surfaces here
            self.counters.add(RECEIVE_ERRORS)
            return []
        return [(bytes(self._view[:size]), self._whole_path)]

    def send(self, data: bytes, remote: Address) -> None:
        """Send one datagram to the peer of the path, which `remote` is."""
        try:
            self._socket.send(data)
        except OSError as error:
            self.count_send_error(error)


class SteeredSockets(UdpSockets):
    """A worker's sockets: those that it was given, and one for each path that its calls have proven."""

    def __init__(self, sockets: Sequence[UdpSocket]) -> None:
        super().__init__(sockets)
        self._connected: dict[Path, ConnectedSocket] = {}

    def __iter__(self) -> Iterator[UdpSocket]:
        yield from super().__iter__()
        yield from self._connected.values()

    def connect(self, path: Path) -> ConnectedSocket | None:
        """Make the socket of a path; None if there is one, or the kernel gives none, which is counted."""
        if path in self._connected:
            return None
        try:
            made = self._connected[path] = ConnectedSocket(path)
        except (OSError, LocalError, OverflowError):
            self.counters.add(FAILED_CONNECT)
            return None
        return made

    def disconnect(self, path: Path) -> ConnectedSocket | None:
        """Forget the socket of a path and return it, to be closed; None if there is none."""
        gone = self._connected.pop(path, None)
        if gone is not None:
            self.counters.merge(gone.counters)
        return gone

    def send(self, transmits: Sequence[Transmit]) -> None:
        """Send each datagram through the socket of its path, or else from the address that the path names."""
        connected, rest = self._connected, []
        if not connected:
            super().send(transmits)
            return
        for transmit in transmits:
            udp = connected.get(transmit[1])
            if udp is not None:
                udp.send(transmit[0], transmit[1].remote)
            else:
                rest.append(transmit)
        if rest:
            super().send(rest)

    def close(self) -> None:
        """Close every socket."""
        for udp in self._connected.values():
            udp.close()
        super().close()


def named_worker(data: bytes) -> int | None:
    """Return the number of the worker that a STUN message (not empty) is for; None if it does not say."""
    if data[0] == _RESPONSE and len(data) >= _HEADER:
        return worker_of(chr(data[_TRANSACTION]))
    username = peek_username(data)
    return worker_of(username) if username else None


# -- the driver --------------------------------------------------------------------------------------------


class SteeredDriver(Driver[ConversationEvent]):
    """A driver whose sockets follow the paths that calls prove, and that passes on what is for other workers."""

    def __init__(
        self,
        endpoint: Endpoint[ConversationEvent],
        sockets: SteeredSockets,
        on_events: Callable[[Sequence[tuple[str, ConversationEvent]]], None],
        trace: PacketTrace | None,
        *,
        number: int,
        workers: int,
        pass_on: Callable[[int, bytes, Path], None],
        on_path_taken: Callable[[Path], None],
        others: Sequence[socket.socket] = (),
        shown: socket.socket | None = None,
    ) -> None:
        """`shown` is where others show datagrams to this worker, `others` are the ends that lead to them.

        `endpoint` keeps its strays where there are others.
        """
        super().__init__(endpoint, sockets, on_events, trace)
        self._others = tuple(others)
        self._shown = shown
        self._keys = PathKeys(sockets.addresses)
        self._may_show = PerSecond(MAX_SHOWN)
        if shown is not None:
            self._loop.add_reader(shown.fileno(), self._take_shown)
        self._steered_endpoint = endpoint
        self._steered = sockets
        self._number = number
        self._workers = workers
        self._pass_on = pass_on
        self._on_path_taken = on_path_taken
        self._passed_to_us: set[Path] = set()
        self._turn = 0
        self._connected: dict[int, ConnectedSocket] = {}  # by descriptor
        self._readable_paths = select.epoll()  # of their own: the loop would make an event of each
        self._loop.add_reader(self._readable_paths.fileno(), self._came_over_paths)
        self._may_pass_on = PerSecond(MAX_PASSED_ON)

    def take_passed_on(self, data: bytes, path: Path) -> None:
        """Take a check that another worker has received for one of our calls."""
        self._passed_to_us.add(path)
        try:
            self.endpoint.handle_datagrams([(data, path)], self.now())
            self.pump()
        finally:
            self._passed_to_us.discard(path)

    def release_path(self, path: Path) -> None:
        """Leave a path to the worker to whose call it has proven itself."""
        self._steered_endpoint.release_path(path)
        self.pump()

    def _follow(self, changes: Sequence[PathChange]) -> None:
        for path, is_bound in changes:
            if path.protocol is not TransportProtocol.UDP:
                continue
            if is_bound:  # before the answer to the check that has proven it
                self._connect(path)
            else:
                self._disconnect(path)

    def _connect(self, path: Path) -> None:
        made = self._steered.connect(path)
        if made is not None:
            self._connected[made.fileno()] = made
            self._readable_paths.register(made.fileno(), select.EPOLLIN)
        if path in self._passed_to_us:
            self._on_path_taken(path)

    def _disconnect(self, path: Path) -> None:
        gone = self._steered.disconnect(path)
        if gone is not None:
            self._readable_paths.unregister(gone.fileno())
            del self._connected[gone.fileno()]
            gone.close()

    def _came_over_paths(self) -> None:
        """Read the sockets of paths, and handle together what all of them have."""
        self._try(FAULT_RECEIVE, self._receive_over_paths)
        self.pump()

    def _receive_over_paths(self) -> None:
        batch: list[tuple[bytes, Path]] = []
        self._turn += 1
        for descriptor, _ in self._readable_paths.poll(0):
            batch.extend(self._connected[descriptor].receive_in(self._turn))
        self._take_ours(batch)

    def close(self) -> None:
        """Stop reading and close the sockets."""
        self._loop.remove_reader(self._readable_paths.fileno())
        self._readable_paths.close()
        if self._shown is not None:
            self._loop.remove_reader(self._shown.fileno())
            self._shown.close()
        for other in self._others:
            other.close()
        super().close()

    # -- clients of other workers that have moved ------------------------------------------------------------

    def _take(self, batch: Sequence[tuple[bytes, Path]]) -> None:
        super()._take(batch)
        strays = self._steered_endpoint.drain_strays()
        if strays:
            self._show(strays)

    def _show(self, strays: Sequence[tuple[bytes, Path]]) -> None:
        """Show datagrams over unknown paths to the other workers, each by itself."""
        now = self._loop.time()
        for data, path in strays:
            is_udp, fits = path.protocol is TransportProtocol.UDP, len(data) <= MAX_SHOWN_SIZE
            if not (is_udp and fits and self._may_show.allows(now)):
                self.counters.add(DROPPED_UNSHOWN)
                continue
            self.counters.add(SHOWN)
            record = ForwardedRecord(DATAGRAM, self._keys.key(path), data).serialize()
            for other in self._others:
                try:
                    other.send(record)
                except OSError:  # it is behind, or just being replaced: the client's next check finds it
                    self.counters.add(DROPPED_UNSHOWN)

    def _take_shown(self) -> None:
        self._try(FAULT_RECEIVE, self._read_shown)
        self.pump()

    def _read_shown(self) -> None:
        assert self._shown is not None
        batch: list[tuple[bytes, Path]] = []
        for _ in range(MAX_SHOWN_AT_ONCE):
            try:
                message = self._shown.recv(MAX_DATAGRAM)
            except OSError:
                break
            for record in parse_records(memoryview(message)):
                batch.append((record.data, self._keys.path(record.key)))
        self.counters.add(TRIED_SHOWN, len(batch))
        super()._take(batch)
        self._steered_endpoint.drain_strays()  # all have seen them

    def _receive(self, udp: UdpSocket) -> None:
        self._take_ours(udp.receive())

    def _take_ours(self, batch: list[tuple[bytes, Path]]) -> None:
        if any(data[:1] < b"\x04" for data, _ in batch):
            batch = [each for each in batch if not self._is_foreign(*each)]
        self._take(batch)

    def _is_foreign(self, data: bytes, path: Path) -> bool:
        """Pass on a check that names another worker; True for such a check."""
        if not data or data[0] >= _STUN_FIRST_BYTE_END:
            return False
        digit = named_worker(data)
        if digit is None:
            return False
        worker = digit % self._workers
        if worker == self._number:
            return False
        if self._may_pass_on.allows(self.now()):
            self.counters.add(PASSED_ON_CHECK)
            self._pass_on(worker, data, path)
        else:
            self.counters.add(DROPPED_FOREIGN_CHECK)
        return True
