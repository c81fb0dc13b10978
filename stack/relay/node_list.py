"""Which nodes a relay knows: those it was told, and those that a process beside it learns from NATS.

The client of NATS takes a second to import, and the relay must not wait for it: so a child process
(`stack.cluster.relay_nodes`) follows the store, and writes a line, `PART=HOST:PORT …`, whenever the nodes are
others. It ends with the relay. If it dies it is started again, and the nodes stay those that were known. They are
kept in a file beside that of the flows, for the first second after a start.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from stack.core.errors import ParseError
from stack.core.machine import Address
from stack.core.ufrag import is_node_part

MAX_LINE = 1 << 20
"""Bytes of a line, and of the file."""
AGAIN_AFTER = 2.0
"""Seconds after which a child that has died is started again."""
_READ = 1 << 16


def read_host(text: str) -> bytes:
    """Return the bytes of an IP address, 4 or 16; raises `ParseError` for another text."""
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError) as error:
        raise ParseError(f"{text!r} is not an IP address") from error


def read_node(text: str) -> tuple[str, Address]:
    """Return part and address of `PART=HOST:PORT` (IPv6 in brackets); raises `ParseError` for another text."""
    part, _, where = text.partition("=")
    host, _, port = where.rpartition(":")
    if not part or not is_node_part(part):
        raise ParseError(f"{text!r} is not a node, as n1=192.0.2.7:3478")
    return part, read_address(where, text) if host and port else _no_address(text)


def read_address(where: str, text: str = "") -> Address:
    """Return the address in `HOST:PORT` (IPv6 in brackets); raises `ParseError` for another text."""
    host, _, port = where.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return _no_address(text or where)
    try:
        packed = read_host(host)
    except ParseError:
        return _no_address(text or where)
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) <= 65_535) or not any(packed):
        return _no_address(text or where)
    return Address(inet_ntop(AF_INET6 if len(packed) == 16 else AF_INET, packed), int(port))


def _no_address(text: str) -> Address:
    raise ParseError(f"{text!r} has no IP address and port, as 192.0.2.7:3478")


def read_line(line: bytes) -> dict[str, Address]:
    """Return the nodes of a line of the child's; raises `ParseError` for another."""
    try:
        texts = line.decode("ascii").split()
    except UnicodeDecodeError as error:
        raise ParseError(f"no line of nodes: {error}") from error
    if not texts:
        raise ParseError("an empty line of nodes")
    return dict(map(read_node, texts))


def write_line(nodes: Mapping[str, Address]) -> str:
    """Return what `read_line` reads."""
    return " ".join(f"{part}={address}" for part, address in nodes.items()) + "\n"


class NodeFeed:
    """The child, and the file that keeps what it said. `told` are nodes that are known besides.

    `watch` is the descriptor to wait for, and None while there is no child.
    """

    def __init__(self, arguments: Sequence[str], told: Mapping[str, Address], kept: str | None) -> None:
        self._arguments = arguments
        self._told = told
        self._kept = kept
        self._pid: int | None = None
        self._stdin = -1
        self._line = bytearray()
        self._learned: Mapping[str, Address] = {}
        self.watch: int | None = None
        if kept is not None:
            with suppress(OSError, ParseError), open(kept, "rb") as file:
                self._learned = read_line(file.read(MAX_LINE))

    @property
    def nodes(self) -> Mapping[str, Address]:
        """All that are known; what was told goes before what was learned."""
        return {**self._learned, **self._told}

    def start(self) -> None:
        """Start the child. Raises `OSError` if the system does not let us."""
        theirs, ours = os.pipe()
        read, write = os.pipe()
        os.set_blocking(read, False)
        root = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
        former = os.environ.get("PYTHONPATH")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((root, former)) if former else root}
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", "stack.cluster.relay_nodes", *self._arguments],
                environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 0), (os.POSIX_SPAWN_DUP2, write, 1)],
            )
        finally:
            os.close(theirs)
            os.close(write)
        self._stdin, self.watch = ours, read

    def read(self) -> bool | None:
        """Read what the child said: True if the nodes are others now, None if it has ended."""
        if self.watch is None:
            return None
        with suppress(BlockingIOError):
            data = os.read(self.watch, _READ)
            if not data:
                self.stop()
                return None
            self._line += data
        *lines, rest = self._line.split(b"\n")
        self._line = bytearray(rest[:MAX_LINE])
        for line in map(bytes, lines[-1:]):
            with suppress(ParseError):
                self._learned = read_line(line)
                self._keep(line)
                return True
        return False

    def stop(self) -> None:
        """End the child: it ends when its input does."""
        if self.watch is not None:
            os.close(self.watch)
            os.close(self._stdin)
            self.watch = None
        if self._pid is not None:
            os.kill(self._pid, 15)
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
            self._pid = None

    def _keep(self, line: bytes) -> None:
        if self._kept is None:
            return
        with suppress(OSError):  # without it the first second after a start knows no node, and no more
            beside = self._kept + ".new"
            with open(beside, "wb", opener=_for_owner_alone) as file:
                file.write(line)
            os.replace(beside, self._kept)


def _for_owner_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
