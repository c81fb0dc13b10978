"""Transport-wide feedback: when each packet of the transport arrived (draft-holmer-rmcat-transport-wide-cc §3.1).

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|      base sequence number     |      packet status count      |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|                 reference time                | fb pkt. count |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|          packet chunk         |        packet chunk ...       |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|      receive deltas, one or two bytes each, in 250 µs ...     |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

This is the FCI. A status is 0 (not received), 1 (one byte of delta, 0 to 63.75 ms) or 2 (two bytes, signed).
A chunk is a run of one status, or 14 one-bit statuses, or 7 two-bit statuses:

 0                   1
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|0| S |        run length       |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

 0                   1
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|1|0|    statuses of one bit    |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

 0                   1
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|1|1|    statuses of two bits   |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Self

from stack.core.errors import LocalError, ParseError
from stack.core.serial import SERIAL16, Ssrc
from stack.core.wire import Reader, Writer
from stack.rtp.rtcp.feedback import TRANSPORT_FEEDBACK, Feedback, register_feedback

DELTA_UNIT = 250e-6
"""Seconds in one unit of a receive delta."""
REFERENCE_UNIT = 256
"""Delta units in one unit (64 ms) of the reference time."""

_MAX_RUN = 0x1FFF
_I16 = Struct("!h")


@register_feedback
@dataclass(frozen=True, slots=True)
class TransportWideFeedback(Feedback):
    """RTPFB with FMT 15; the bits of its FCI stand at the top of this file.

    `arrivals` holds (offset from `base_sequence`, arrival in units of 250 µs on the receiver's clock) for every
    packet that was received, in the order of the sequence; the offsets that are absent below `status_count`
    were not received. Times continue from the 24-bit reference time, so only differences mean anything.
    """

    base_sequence: int
    status_count: int
    feedback_count: int
    arrivals: tuple[tuple[int, int], ...]

    TYPE = TRANSPORT_FEEDBACK
    FORMAT = 15

    @property
    def received(self) -> tuple[int, ...]:
        """The sequence numbers that were received."""
        return tuple(SERIAL16.add(self.base_sequence, offset) for offset, _ in self.arrivals)

    @classmethod
    def read_fci(cls, sender_ssrc: Ssrc, media_ssrc: Ssrc, fci: Reader) -> Self:
        """Read the arrivals."""
        base, count = fci.u16(), fci.u16()
        reference, feedback_count = fci.u24(), fci.u8()
        reference -= (reference & 0x80_0000) << 1
        clock = reference * REFERENCE_UNIT
        arrivals: list[tuple[int, int]] = []
        for offset, status in _read_statuses(fci, count):
            if status == 1:
                clock += fci.u8()
            elif status == 2:
                clock += _I16.unpack(fci.take(2))[0]
            else:
                raise ParseError("transport-wide feedback: status 3 is reserved")
            arrivals.append((offset, clock))
        return cls(sender_ssrc, media_ssrc, base, count, feedback_count, tuple(arrivals))

    def write_fci(self, fci: Writer) -> None:
        """Write the arrivals; raise `LocalError` if two of them are more than 8 s apart."""
        if not self.arrivals:
            raise LocalError("transport-wide feedback has at least one arrival")
        reference = self.arrivals[0][1] // REFERENCE_UNIT
        clock, statuses, deltas = reference * REFERENCE_UNIT, [0] * self.status_count, Writer()
        for offset, arrival in self.arrivals:
            delta, clock = arrival - clock, arrival
            if 0 <= delta <= 0xFF:
                statuses[offset] = 1
                deltas.u8(delta)
            elif -0x8000 <= delta <= 0x7FFF:
                statuses[offset] = 2
                deltas.put(_I16.pack(delta))
            else:
                raise LocalError(f"transport-wide feedback: a delta of {delta * DELTA_UNIT:.1f} s does not fit")
        fci.u16(self.base_sequence).u16(self.status_count)
        fci.u24(reference & 0xFF_FFFF).u8(self.feedback_count & 0xFF)
        _write_statuses(fci, statuses)
        fci.put(deltas.finish())


def _read_statuses(reader: Reader, count: int) -> list[tuple[int, int]]:
    """Return (offset, status) of every packet that was received: runs of lost ones cost nothing."""
    statuses: list[tuple[int, int]] = []
    offset = 0
    while offset < count:
        chunk = reader.u16()
        if not chunk & 0x8000:
            status, run = chunk >> 13, min(chunk & _MAX_RUN, count - offset)
            if run == 0:
                raise ParseError("transport-wide feedback: an empty run")
            if status:
                # Each of these has a delta below, so a run cannot promise more than the packet holds.
                if run > reader.remaining:
                    raise ParseError("transport-wide feedback: more statuses than deltas")
                statuses.extend((offset + index, status) for index in range(run))
            offset += run
            continue
        bits, size = (2, 7) if chunk & 0x4000 else (1, 14)
        for index in range(min(size, count - offset)):
            status = chunk >> (14 - bits * (index + 1)) & (1 << bits) - 1
            if status:
                statuses.append((offset + index, status))
        offset += size
    return statuses


def _write_statuses(body: Writer, statuses: list[int]) -> None:
    position = 0
    while position < len(statuses):
        status = statuses[position]
        run = 1
        while position + run < len(statuses) and run < _MAX_RUN and statuses[position + run] == status:
            run += 1
        one_bit, two_bits = statuses[position : position + 14], statuses[position : position + 7]
        if run >= len(one_bit) or (run > len(two_bits) and max(one_bit) > 1):
            body.u16(status << 13 | run)
            position += run
        elif max(one_bit) < 2:
            body.u16(0x8000 | sum(status << (13 - index) for index, status in enumerate(one_bit)))
            position += len(one_bit)
        else:
            body.u16(0xC000 | sum(status << (12 - 2 * index) for index, status in enumerate(two_bits)))
            position += len(two_bits)
