"""The UDP edge: non-blocking sockets that are emptied in one go, each bound to one exact address.

A datagram has to be answered from the very address that it was sent to (browsers drop anything else), so every
local address gets a socket of its own instead of one wildcard socket for all.
Why not asyncio's `DatagramProtocol`: `docs/decisions/0003-udp-edge.md`.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Self

import ifaddr

from stack.core.counters import Counters, declare
from stack.core.errors import LocalError
from stack.core.machine import Address, Path, Transmit

_SEND_ERRORS = [
    "EACCES",
    "EADDRNOTAVAIL",
    "EAFNOSUPPORT",
    "ECONNREFUSED",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "EINVAL",
    "EIO",
    "EMSGSIZE",
    "ENETDOWN",
    "ENETUNREACH",
    "ENOBUFS",
    "ENODEV",
    "ENOMEM",
    "EPERM",
]
"""What `sendto` may fail with on a UDP socket (udp(7), ip(7))."""
_NO_WAY = frozenset({
    errno.EADDRNOTAVAIL, errno.EHOSTUNREACH, errno.EINVAL, errno.ENETDOWN, errno.ENETUNREACH, errno.ENODEV,
})  # fmt: skip
"""Those which say that the interface or the way is gone, not that a datagram was unlucky."""
RECEIVE_ERRORS = declare(
    "socket",
    "receive_errors",
    "Errors of the kernel while receiving, such as an ICMP message about an earlier datagram",
)
DROPPED_SEND_BUFFER_FULL = declare(
    "socket", "dropped_send_buffer_full", "Datagrams that did not fit into the socket's buffer"
)
DROPPED_SEND_NO_SUCH_ADDRESS = declare(
    "socket", "dropped_send_no_such_address", "Datagrams to a port or an address that this socket cannot send to"
)
DROPPED_SEND_ERROR = declare(
    "socket", "dropped_send_error", "Datagrams that the kernel refused with another error"
)
_DROPPED_SEND = {
    code: declare(
        "socket",
        f"dropped_send_{name.lower()}",
        f"Datagrams that the kernel refused: {name}",
        family="dropped_send",
    )
    for code, name in sorted(errno.errorcode.items())
    if name in _SEND_ERRORS
}
DROPPED_NO_SUCH_LOCAL_ADDRESS = declare(
    "socket", "dropped_no_such_local_address", "Datagrams from an address that has no socket"
)

LOOPBACK = "127.0.0.1"
MAX_BATCH = 256
"""Datagrams taken from one socket before others get their turn."""
MAX_DATAGRAM = 65_535
MAX_PORTS_TRIED = 16
"""Free ports of the first address that are tried until one is free on all."""
SOCKET_BUFFER = 1 << 22
"""Bytes asked of the kernel for each direction: bursts of many calls wait there, not in Python."""
_MAX_CACHED_PATHS = 4_096


class _CannotBind(LocalError):
    """A port in use, an address that is not there, a port that is not for us."""

    def __init__(self, address: Address, error: OSError) -> None:
        other = "" if error.errno != errno.EADDRINUSE else "; udp_port (--udp-port) takes another, 0 any"
        if error.errno == errno.EADDRNOTAVAIL:
            other = "; host (--host, --media-host) is an address of this machine"
        super().__init__(f"cannot bind UDP {address}: {error.strerror}{other}")
        self.errno = error.errno


class UdpSocket:
    """One bound, non-blocking UDP socket.

    Raises `LocalError` when the address cannot be bound (port in use, no such address).
    """

    def __init__(self, host: str, port: int, *, shared: bool = False) -> None:
        """Bind; `shared` with other sockets of the same user that say so, too (SO_REUSEPORT)."""
        self._take(_bound(host, port, shared))

    @classmethod
    def adopt(cls, bound: socket.socket) -> Self:
        """Return one around a socket that is bound already, here or in the process that we have it from."""
        self = cls.__new__(cls)
        self._take(bound)
        return self

    def _take(self, bound: socket.socket) -> None:
        bound.setblocking(False)
        self._socket = bound
        name = bound.getsockname()
        self.address = Address(name[0], name[1])
        self.counters = Counters()
        self._buffer = bytearray(MAX_DATAGRAM)
        self._view = memoryview(self._buffer)
        self._paths: dict[tuple[str, int], Path] = {}
        self.failed: set[Address] | None = None
        """Where nothing could be sent, if a set is put here: the owner empties it."""

    def fileno(self) -> int:
        """Return the descriptor to watch for readability."""
        return self._socket.fileno()

    def receive(self) -> list[tuple[bytes, Path]]:
        """Return what waits in the socket, at most `MAX_BATCH` datagrams with their paths."""
        batch: list[tuple[bytes, Path]] = []
        receive, buffer, view = self._socket.recvfrom_into, self._buffer, self._view
        for _ in range(MAX_BATCH):
            try:
                size, source = receive(buffer)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # an ICMP error of an earlier send surfaces here
                self.counters.add(RECEIVE_ERRORS)
                continue
            batch.append((bytes(view[:size]), self._path(source)))
        return batch

    def send(self, data: bytes, remote: Address) -> None:
        """Send one datagram; one that the kernel refuses is counted and lost, as the network might lose it."""
        try:
            self._socket.sendto(data, remote)
        except (OverflowError, ValueError):  # no port or address of this socket's family
            self.counters.add(DROPPED_SEND_NO_SUCH_ADDRESS)
        except OSError as error:
            self.count_send_error(error)
            if self.failed is not None and error.errno in _NO_WAY:
                self.failed.add(remote)

    def count_send_error(self, error: OSError) -> None:
        """Count a datagram that the kernel refused."""
        if isinstance(error, (BlockingIOError, InterruptedError)):
            self.counters.add(DROPPED_SEND_BUFFER_FULL)
        else:
            self.counters.add(_DROPPED_SEND.get(error.errno or 0, DROPPED_SEND_ERROR))

    def set_option(self, option: int, value: bytes) -> None:
        """Set an option of the socket's own level; raises `OSError`."""
        self._socket.setsockopt(socket.SOL_SOCKET, option, value)

    def get_option(self, option: int, size: int) -> bytes:
        """Return an option of the socket's own level, at most `size` bytes; raises `OSError`."""
        return self._socket.getsockopt(socket.SOL_SOCKET, option, size)

    @property
    def is_shared(self) -> bool:
        """Whether others may be bound to its port."""
        reuse = getattr(socket, "SO_REUSEPORT", None)
        return reuse is not None and bool(self._socket.getsockopt(socket.SOL_SOCKET, reuse))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _path(self, source: tuple[str, int]) -> Path:
        key = source[:2]
        path = self._paths.get(key)
        if path is None:
            if len(self._paths) >= _MAX_CACHED_PATHS:
                self._paths.clear()
            path = self._paths[key] = Path(self.address, Address(key[0].partition("%")[0], key[1]))
        return path


def _bound(host: str, port: int, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            udp.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
        udp.bind((host, port))
    except OSError as error:
        udp.close()
        raise _CannotBind(Address(host, port), error) from error
    return udp


class UdpSockets:
    """The sockets of one port, one for each local address."""

    def __init__(self, sockets: Sequence[UdpSocket]) -> None:
        self._by_address = {udp.address: udp for udp in sockets}
        self.counters = Counters()

    def __iter__(self) -> Iterator[UdpSocket]:
        return iter(self._by_address.values())

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The bound addresses, in the order in which they were asked for."""
        return tuple(self._by_address)

    def send(self, transmits: Sequence[Transmit]) -> None:
        """Send each datagram from the local address that its path names."""
        for data, path in transmits:
            udp = self._by_address.get(path.local)
            if udp is None:
                self.counters.add(DROPPED_NO_SUCH_LOCAL_ADDRESS)
            else:
                udp.send(data, path.remote)

    def close(self) -> None:
        """Close every socket."""
        for udp in self._by_address.values():
            udp.close()


def bind_all(hosts: Sequence[str], port: int) -> UdpSockets:
    """Bind one port on several local addresses; port 0 picks one that is free on all of them.

    An address that cannot be had now (IPv6 that is still being probed, an interface that has just gone) is left
    out while there are others. Raises `LocalError` if any other cannot be bound, or none can.
    """
    for _ in range(MAX_PORTS_TRIED - 1 if port == 0 else 0):
        try:
            return _bind_all(hosts, 0)
        except _CannotBind as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return _bind_all(hosts, port)


def _bind_all(hosts: Sequence[str], port: int) -> UdpSockets:
    sockets: list[UdpSocket] = []
    absent: _CannotBind | None = None
    try:
        for host in hosts:
            try:
                sockets.append(UdpSocket(host, port))
            except _CannotBind as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                absent = error
            else:
                port = sockets[-1].address.port
        if absent is not None and not sockets:
            raise absent
    except LocalError:
        for udp in sockets:
            udp.close()
        raise
    return UdpSockets(sockets)


def local_addresses(host: str | None, interfaces: Sequence[str] = ()) -> list[str]:
    """Return the local IP addresses on which media is offered when the server is asked to listen on `host`.

    None means every address of this machine, and loopback after them: a browser with its usual settings has no
    loopback candidate once there is another interface, and Firefox then does not send to 127.0.0.1 at all.
    A wildcard means every address of this machine that is not loopback or link-local; a name means what it
    resolves to. "localhost" on Linux means the loopback addresses alone: a socket that is bound to a LAN address
    reaches them there (Chromium does so). Other systems refuse that, so the LAN addresses are added.
    `interfaces` are names of those whose addresses alone are meant; loopback is not among them unless it is named.
    Raises `LocalError` if `host` means nothing, or there is no such interface, or none with an address.
    """
    if interfaces:
        return _addresses_of(interfaces)
    if host is None:
        return [*_interface_addresses(), LOOPBACK]
    if host in ("0.0.0.0", "::", "*"):
        return _interface_addresses() or [LOOPBACK]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise LocalError(f"unknown host {host!r} (--host, --media-host): {error.strerror}") from error
    hosts = list(dict.fromkeys(str(info[4][0]).partition("%")[0] for info in found))
    if all(ip_address(h).is_loopback for h in hosts) and sys.platform != "linux":
        hosts += [h for h in _interface_addresses() if h not in hosts]
    return hosts


def _addresses_of(interfaces: Sequence[str]) -> list[str]:
    found: list[str] = []
    adapters = {adapter.nice_name: adapter for adapter in ifaddr.get_adapters()}
    for name in dict.fromkeys(interfaces):
        if name not in adapters:
            raise LocalError(f"there is no network interface {name!r}; there are {', '.join(sorted(adapters))}")
        for ip in adapters[name].ips:
            address = ip_address((ip.ip if isinstance(ip.ip, str) else ip.ip[0]).partition("%")[0])
            if not (address.is_link_local or address.is_multicast):
                found.append(str(address))
    if not found:
        raise LocalError(f"no address on the network interfaces {', '.join(interfaces)}")
    return found


def _interface_addresses() -> list[str]:
    found: list[str] = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            address = ip_address(text.partition("%")[0])
            if not (address.is_loopback or address.is_link_local or address.is_multicast):
                found.append(str(address))
    return found
