"""Bundles chunks into packets (RFC 9260 §6.10) and holds the packets until they are drained."""

from __future__ import annotations

from collections.abc import Sequence

from stack.sctp.chunks.cookie import COOKIE_ECHO
from stack.sctp.packet import COMMON_HEADER_SIZE, build_packet, build_packets

MAX_CONTROL_CHUNKS = 64
"""Replies to one packet beyond this are not sent; a peer gets no amplifier."""


class ChunkBundler:
    """Control chunks wait here for the next packet; finished packets wait for the caller."""

    __slots__ = (
        "_chunks",
        "_local_port",
        "_needs_checksum",
        "_remote_port",
        "_size",
        "control_chunks",
        "packets",
        "pmdcs",
        "verification_tag",
        "zero_checksum",
    )

    def __init__(self, local_port: int, remote_port: int, mtu: int) -> None:
        self.pmdcs = (mtu - COMMON_HEADER_SIZE) & ~3
        """The room for chunks in one packet (RFC 9260 §3: path maximum DATA chunk size)."""
        self.verification_tag = 0
        self.zero_checksum = False
        self.control_chunks: list[bytes] = []
        self.packets: list[bytes] = []
        self._local_port = local_port
        self._remote_port = remote_port
        self._chunks: list[bytes] = []
        """The chunks of the packet that is being filled, and `_size` their bytes."""
        self._size = 0
        self._needs_checksum = False

    def queue_control(self, chunk: bytes) -> None:
        """Have a control chunk sent with the next packet."""
        if len(self.control_chunks) < MAX_CONTROL_CHUNKS:
            self.control_chunks.append(chunk)

    def send_unbundled(self, chunk: bytes, verification_tag: int) -> None:
        """Send a chunk in a packet of its own, with a given verification tag and a checksum."""
        self.packets.append(build_packet(self._local_port, self._remote_port, verification_tag, (chunk,)))

    @property
    def room(self) -> int:
        """What is left in the packet that is being filled."""
        return self.pmdcs - self._size

    @property
    def has_chunks(self) -> bool:
        """True if the packet that is being filled holds something."""
        return bool(self._chunks)

    def add(self, chunk: bytes) -> None:
        """Put a chunk into the packet that is being filled, or into a new one if it does not fit."""
        if len(chunk) > self.room:
            self.finish_packet()
        self._chunks.append(chunk)
        self._size += len(chunk)

    def finish_packet(self, last: Sequence[bytes] = ()) -> None:
        """Finish the packet that is being filled, with these chunks at its end."""
        chunks = self._chunks
        if chunks:
            self._chunks = []
            self._size = 0
            chunks += last
        elif last:
            chunks = list(last)
        else:
            return
        ports = self._local_port, self._remote_port
        zero_checksum = self.zero_checksum and not self._needs_checksum
        self._needs_checksum = False
        self.packets.append(build_packet(*ports, self.verification_tag, chunks, zero_checksum=zero_checksum))

    def send_each(self, chunks: Sequence[bytes]) -> None:
        """Send each chunk in a packet of its own; none may be waiting in the packet that is being filled."""
        ports = self._local_port, self._remote_port
        self.packets += build_packets(*ports, self.verification_tag, chunks, zero_checksum=self.zero_checksum)

    def add_control(self) -> None:
        """Put every waiting control chunk into packets."""
        for chunk in self.control_chunks:
            self.add(chunk)
            # RFC 9653 §5.2: a packet with a COOKIE ECHO has its CRC32c, also when the peer's COOKIE ECHO has
            # established the association while ours was still waiting here. (An INIT is never bundled.)
            self._needs_checksum = self._needs_checksum or chunk[0] == COOKIE_ECHO
        self.control_chunks.clear()

    def drain(self) -> list[bytes]:
        """Return the finished packets."""
        packets, self.packets = self.packets, []
        return packets
