"""One chunk between its first transmission and its acknowledgement."""

from __future__ import annotations

from stack.core.machine import Instant
from stack.core.serial import ExtendedTsn
from stack.sctp.tx.queue import QueuedMessage


class OutstandingChunk:
    """A DATA or I-DATA chunk with a TSN; plain slots, because one is made for each packet.

    `tsn` is unbounded (it does not wrap). `wire` is the serialized, padded chunk; it is empty for a chunk that
    stands for the unsent rest of an abandoned message.
    """

    __slots__ = ("abandoned", "arrived", "message", "sent_at", "size", "transmissions", "tsn", "wire")

    def __init__(self, tsn: ExtendedTsn, wire: bytes, message: QueuedMessage, sent_at: Instant) -> None:
        self.tsn = tsn
        self.wire = wire
        self.size = len(wire)
        self.message = message
        self.sent_at = sent_at
        self.transmissions = 1
        self.arrived = False
        self.abandoned = False
