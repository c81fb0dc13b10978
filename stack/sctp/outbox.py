"""Packs chunks into packets (RFC 9260 §6.10) and holds the packets until they are drained."""

from __future__ import annotations

from collections.abc import Sequence

from stack.sctp.chunks.kinds import ChunkType
from stack.sctp.packet import COMMON_HEADER_SIZE, build_packet, build_packets

MAX_CONTROL_CHUNKS = 64
"""Replies to one packet beyond this are not sent; a peer gets no amplifier."""


class Outbox:
    """Control chunks wait here for the next packet; finished packets wait for the caller."""

    __slots__ = (
        "_local_port",
        "_parts",
        "_remote_port",
        "_size",
        "_summed",
        "control",
        "packets",
        "pmdcs",
        "tag",
        "zero_checksum",
    )

    def __init__(self, local_port: int, remote_port: int, mtu: int) -> None:
        self.pmdcs = (mtu - COMMON_HEADER_SIZE) & ~3
        """The room for chunks in one packet (RFC 9260 §3: path maximum DATA chunk size)."""
        self.tag = 0
        self.zero_checksum = False
        self.control: list[bytes] = []
        self.packets: list[bytes] = []
        self._local_port = local_port
        self._remote_port = remote_port
        self._parts: list[bytes] = []
        self._size = 0
        self._summed = False  # the packet that is being filled needs its checksum

    def queue(self, chunk: bytes) -> None:
        """Have a control chunk sent with the next packet."""
        if len(self.control) < MAX_CONTROL_CHUNKS:
            self.control.append(chunk)

    def alone(self, chunk: bytes, tag: int) -> None:
        """Send a chunk in a packet of its own, with a given verification tag and a checksum."""
        self.packets.append(build_packet(self._local_port, self._remote_port, tag, (chunk,)))

    @property
    def room(self) -> int:
        """What is left in the packet that is being filled."""
        return self.pmdcs - self._size

    @property
    def started(self) -> bool:
        """True if the packet that is being filled holds something."""
        return bool(self._parts)

    def add(self, chunk: bytes) -> None:
        """Put a chunk into the packet that is being filled, or into a new one if it does not fit."""
        if len(chunk) > self.room:
            self.close_packet()
        self._parts.append(chunk)
        self._size += len(chunk)

    def close_packet(self, last: Sequence[bytes] = ()) -> None:
        """Finish the packet that is being filled, with these chunks at its end."""
        parts = self._parts
        if parts:
            self._parts = []
            self._size = 0
            parts += last
        elif last:
            parts = list(last)
        else:
            return
        ports = self._local_port, self._remote_port
        zero_checksum = self.zero_checksum and not self._summed
        self._summed = False
        self.packets.append(build_packet(*ports, self.tag, parts, zero_checksum=zero_checksum))

    def send_each(self, chunks: Sequence[bytes]) -> None:
        """Send each chunk in a packet of its own; nothing may be waiting in one."""
        ports = self._local_port, self._remote_port
        self.packets += build_packets(*ports, self.tag, chunks, zero_checksum=self.zero_checksum)

    def add_control(self) -> None:
        """Put every waiting control chunk into packets."""
        for chunk in self.control:
            self.add(chunk)
            # RFC 9653 §5.2: a packet with a COOKIE ECHO has its CRC32c, also when the peer's COOKIE ECHO has
            # established the association while ours was still waiting here. (An INIT always leaves `alone`.)
            self._summed = self._summed or chunk[0] == ChunkType.COOKIE_ECHO
        self.control.clear()

    def drain(self) -> list[bytes]:
        """Return the finished packets."""
        packets, self.packets = self.packets, []
        return packets
