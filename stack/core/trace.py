"""Seeing what a machine did: a packet capture of any call.

`PcapWriter` writes the classic libpcap format (link type RAW IP) that Wireshark and tshark open: each datagram
gets a made-up IP and UDP header from its path. In little-endian order the header of the file, then one for each
datagram:

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                           0xA1B2C3D4                          |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |           version 2           |               4               |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                          time zone, 0                         |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                      accuracy of times, 0                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                         longest record                        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                       link type, 101: IP                      |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                       seconds since 1970                      |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                          microseconds                         |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                       bytes that follow                       |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                     bytes that there were                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

from __future__ import annotations

from enum import Enum
from ipaddress import ip_address
from struct import pack
from typing import BinaryIO, Protocol

from stack.core.machine import Instant, Path

_LINKTYPE_RAW = 101
_SNAPSHOT_LENGTH = 262144
_PROTOCOL_UDP = 17


class Direction(Enum):
    """Whether a datagram was received or sent."""

    IN = "in"
    OUT = "out"


class PacketTrace(Protocol):
    """A sink for every datagram at the edge, such as a capture file."""

    def datagram(self, direction: Direction, data: bytes, path: Path, now: Instant) -> None:
        """Note one datagram."""
        ...


class PcapWriter:
    """Writes datagrams to a binary file that Wireshark opens.

    `epoch` is what the wall clock (seconds since 1970) said when the machines' clock said `origin`.
    """

    def __init__(self, file: BinaryIO, epoch: float = 0.0, origin: Instant = 0.0) -> None:
        self._file = file
        self._offset = epoch - origin
        file.write(pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, _SNAPSHOT_LENGTH, _LINKTYPE_RAW))

    def datagram(self, direction: Direction, data: bytes, path: Path, now: Instant) -> None:
        """Append one datagram; a datagram that is too long for UDP is cut."""
        source, destination = path.local, path.remote
        if direction is Direction.IN:
            source, destination = destination, source
        data = data[:65_000]
        udp = pack("!HHHH", source.port, destination.port, 8 + len(data), 0) + data
        source_ip, destination_ip = ip_address(source.host), ip_address(destination.host)
        if source_ip.version == 6:
            ip = pack("!IHBB", 6 << 28, len(udp), _PROTOCOL_UDP, 64)
        else:
            ip = pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, _PROTOCOL_UDP, 0)
        frame = ip + source_ip.packed + destination_ip.packed + udp
        seconds, fraction = divmod(max(0.0, now + self._offset), 1.0)
        self._file.write(pack("<IIII", int(seconds), int(fraction * 1e6), len(frame), len(frame)) + frame)

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        self._file.flush()
