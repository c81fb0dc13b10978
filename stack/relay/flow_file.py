"""The flows of a relay in a buffer, which its edge maps from a file: what was written outlives the process.

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|     magic "VSRF"      (4)     |  version (2)  | first port (2)|     the head, 16 bytes
|        slots (4)              |           zero (4)            |
+---------------------------------------------------------------+
| 1: used | 0 (1) | client port (2) | relay port (2) | node port (2)   a slot, 64 bytes
|   client's address (16)  |  relay's address (16)  |  node's address (16)
|                     last heard, seconds (8)                   |
+---------------------------------------------------------------+

IPv4 addresses are mapped into IPv6 (RFC 4291 §2.5.5.2). The first byte of a slot is cleared before the rest is
written, and set after it: a process that is killed in between leaves no half of a flow. Times are of the clock
that the machine is given, which has to be the same for all processes until the next boot: CLOCK_MONOTONIC.

The number of a slot is that of the port from which the relay speaks to the node, counted from the first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from stack.core.errors import LocalError
from stack.core.machine import Address, Instant

MAGIC = b"VSRF"
VERSION = 1
_HEAD = struct.Struct("!4sHHI4x")
_SLOT = struct.Struct("!BxHHH16s16s16sd")
_BODY = struct.Struct("!HHH16s16s16sd")
_BODY_AT = 2
_STAMP = struct.Struct("!d")
_STAMP_AT = _SLOT.size - _STAMP.size
_MAPPED = b"\x00" * 10 + b"\xff\xff"


class StoredFlow(NamedTuple):
    """A flow as it was written."""

    slot: int
    client: Address
    relay: Address
    """The address of the relay that the client sends to."""
    node: Address
    heard: Instant


def size_of(slots: int) -> int:
    """Return the bytes that so many slots need."""
    return _HEAD.size + slots * _SLOT.size


class FlowFile:
    """The slots in a writable buffer; one that holds something else, or other slots, is emptied.

    Raises `LocalError` for a buffer that is too small.
    """

    def __init__(self, buffer: memoryview, slots: int, first_port: int) -> None:
        if len(buffer) < size_of(slots):
            raise LocalError(f"{slots} flows need {size_of(slots)} bytes, not {len(buffer)}")
        self._buffer = buffer
        self.slots = slots
        head = _HEAD.pack(MAGIC, VERSION, first_port, slots)
        if bytes(buffer[: _HEAD.size]) != head:
            buffer[: size_of(slots)] = bytes(size_of(slots))
            buffer[: _HEAD.size] = head

    def read(self) -> Iterator[StoredFlow]:
        """Yield the flows that are there."""
        for slot in range(self.slots):
            at = _HEAD.size + slot * _SLOT.size
            if self._buffer[at] != 1:
                continue
            _, client_port, relay_port, node_port, client, relay, node, heard = _SLOT.unpack_from(self._buffer, at)
            yield StoredFlow(
                slot,
                Address(_unpacked(client), client_port),
                Address(_unpacked(relay), relay_port),
                Address(_unpacked(node), node_port),
                heard,
            )

    def write(self, flow: StoredFlow) -> None:
        """Write a flow into its slot."""
        at = _HEAD.size + flow.slot * _SLOT.size
        self._buffer[at] = 0
        _BODY.pack_into(
            self._buffer, at + _BODY_AT, flow.client.port, flow.relay.port, flow.node.port,
            _packed(flow.client.host), _packed(flow.relay.host), _packed(flow.node.host), flow.heard,
        )  # fmt: skip
        self._buffer[at] = 1

    def stamp(self, slot: int, heard: Instant) -> None:
        """Write when a flow was heard last."""
        _STAMP.pack_into(self._buffer, _HEAD.size + slot * _SLOT.size + _STAMP_AT, heard)

    def clear(self, slot: int) -> None:
        """Forget the flow of a slot."""
        self._buffer[_HEAD.size + slot * _SLOT.size] = 0

    def close(self) -> None:
        """Let go of the buffer; what was written stays."""
        self._buffer.release()


def _packed(host: str) -> bytes:
    if ":" not in host:
        return _MAPPED + bytes(map(int, host.split(".")))
    from ipaddress import IPv6Address  # slow to import, and seldom needed: `stack.relay.start`

    return IPv6Address(host).packed


def _unpacked(packed: bytes) -> str:
    if packed[:12] == _MAPPED:
        return ".".join(map(str, packed[12:]))
    from ipaddress import IPv6Address

    return str(IPv6Address(packed))
