"""Generic NACK: these packets are missing (RFC 4585 §6.2.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from stack.core.serial import SERIAL16, SequenceNumber, Ssrc
from stack.core.wire import Reader, Writer
from stack.rtp.rtcp.feedback import TRANSPORT_FEEDBACK, Feedback, register_feedback


@register_feedback
@dataclass(frozen=True, slots=True)
class GenericNack(Feedback):
    """RTPFB with FMT 1; its FCI is one or more of these:

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |              PID              |              BLP              |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

    PID is the sequence number of a lost packet, BLP the bitmask of lost packets among the 16 after it. `lost` is
    all of them, in order.
    """

    lost: tuple[SequenceNumber, ...]

    TYPE = TRANSPORT_FEEDBACK
    FORMAT = 1

    @classmethod
    def read_fci(cls, sender_ssrc: Ssrc, media_ssrc: Ssrc, fci: Reader) -> Self:
        """Read the lost sequence numbers."""
        lost: list[SequenceNumber] = []
        while fci:
            packet, bitmask = SequenceNumber(fci.u16()), fci.u16()
            lost.append(packet)
            lost.extend(SERIAL16.add(packet, bit + 1) for bit in range(16) if bitmask >> bit & 1)
        return cls(sender_ssrc, media_ssrc, tuple(lost))

    def write_fci(self, fci: Writer) -> None:
        """Write the lost ones: neighbours share an entry, in the order in which they stand in `lost`."""
        for packet, bitmask in _entries(self.lost):
            fci.u16(packet).u16(bitmask)


def _entries(lost: Iterable[SequenceNumber]) -> Iterable[tuple[int, int]]:
    packet, bitmask = -1, 0
    for number in lost:
        offset = (number - packet) & 0xFFFF
        if packet >= 0 and 1 <= offset <= 16:
            bitmask |= 1 << (offset - 1)
            continue
        if packet >= 0:
            yield packet, bitmask
        packet, bitmask = number, 0
    if packet >= 0:
        yield packet, bitmask
