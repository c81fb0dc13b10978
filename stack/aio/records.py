"""Datagrams and notes about paths as they cross between the processes that share a port, over Unix datagram
sockets.

A message is one record or several (`forwarding.py`, `steering.py`):

     0       1       3       4                     bytes
    +-------+-------+-------+-------+--------+
    | kind  | size  | key's | key   | data   |      size: of data; big-endian
    +-------+-------+-------+-------+--------+
    key: number of the local address (1), port of the peer (2), its IP address as text; empty for some kinds
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct, error
from typing import NamedTuple

from stack.core.errors import ParseError
from stack.core.machine import Address, Path

HEAD = Struct("!BHB")
"""Kind, size of the data, size of the key."""
_KEY = Struct("!BH")

DATAGRAM = 0
"""To a worker: a datagram that has arrived over the path."""
BEGIN = 1
"""Either way, without a key: this side is new. A worker's paths from before are gone; to a new forwarder it says
all that it has."""
BIND = 2
"""From a worker: the path has proven itself."""
RELEASE = 3
"""From a worker: it has lost the path. To a worker: the path has proven itself to a session of another."""


class ForwardedRecord(NamedTuple):
    """A part of a message."""

    kind: int
    key: bytes
    data: bytes = b""

    def serialize(self) -> bytes:
        """Return its bytes."""
        return HEAD.pack(self.kind, len(self.data), len(self.key)) + self.key + self.data


def parse_records(message: memoryview) -> Iterator[ForwardedRecord]:
    """Yield the records of a message; raises `ParseError`."""
    place = 0
    while place < len(message):
        try:
            kind, size, key_size = HEAD.unpack_from(message, place)
        except error:
            raise ParseError("a record without a head") from None
        begin = place + HEAD.size
        data = begin + key_size
        place = data + size
        if place > len(message):
            raise ParseError("a record that is cut off")
        yield ForwardedRecord(kind, bytes(message[begin:data]), bytes(message[data:place]))


class PathKeys:
    """Paths as they stand in records, and back; `addresses` are the local ones, the same on both sides."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = tuple(addresses)
        self._numbers = {address: number for number, address in enumerate(addresses)}

    def key(self, path: Path) -> bytes:
        """Return the key of a path over UDP from one of the local addresses."""
        return _KEY.pack(self._numbers[path.local], path.remote.port) + path.remote.host.encode()

    def path(self, key: bytes) -> Path:
        """Return the path; raises `ParseError`."""
        try:
            number, port = _KEY.unpack_from(key)
            return Path(self._addresses[number], Address(key[_KEY.size :].decode(), port))
        except (error, IndexError, UnicodeDecodeError):
            raise ParseError("no key of a path") from None
