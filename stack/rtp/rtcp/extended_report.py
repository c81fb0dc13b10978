"""XR: extended reports (RFC 3611), of which the two blocks that give a receiver a round-trip time are read.

The receiver reference time (§4.4) and its echo, DLRR (§4.5), do for an end that sends no media what SR and
LSR/DLSR do for a sender. Blocks of other types are kept raw.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Self, TypeAlias

from stack.core.errors import LocalError
from stack.core.serial import Ssrc
from stack.core.wire import Reader, Writer
from stack.rtp.rtcp.header import Frame, RtcpPacket, close_packet, register_packet

_DLRR_ENTRY = 12


class BlockType(IntEnum):
    """XR block types that are understood."""

    RECEIVER_REFERENCE_TIME = 4
    DLRR = 5


@dataclass(frozen=True, slots=True)
class ReceiverReferenceTime:
    """The time at the sender of this report, in 2^-32 s since 1900 (RFC 3611 §4.4).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |      BT=4     |    reserved   |        block length = 2       |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |              NTP timestamp, most significant word             |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             NTP timestamp, least significant word             |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    ntp_time: int


@dataclass(frozen=True, slots=True)
class DlrrEntry:
    """The answer to one receiver's reference time (RFC 3611 §4.5); both in 1/65536 s.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                        SSRC of receiver                       |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                         last RR (LRR)                         |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                   delay since last RR (DLRR)                  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    ssrc: Ssrc
    last_rr: int
    delay_since_last_rr: int


@dataclass(frozen=True, slots=True)
class Dlrr:
    """The answers to receivers' reference times (RFC 3611 §4.5).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |      BT=5     |    reserved   |block length (3 for each entry)|
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                            entries                            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    entries: tuple[DlrrEntry, ...]


@dataclass(frozen=True, slots=True)
class RawBlock:
    """A block that is kept as it is (RFC 3611 §3).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |       BT      | type-specific |     block length in words     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                  type-specific block contents                 |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    block_type: int
    type_specific: int
    data: bytes


Block: TypeAlias = ReceiverReferenceTime | Dlrr | RawBlock


@register_packet
@dataclass(frozen=True, slots=True)
class ExtendedReport(RtcpPacket):
    """XR (RFC 3611 §2).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |V=2|P| reserved|   PT=XR=207   |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                              SSRC                             |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                         report blocks                         |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    ssrc: Ssrc
    blocks: tuple[Block, ...]

    TYPE = 207

    @classmethod
    def read(cls, frame: Frame) -> Self:
        """Read the blocks."""
        reader = frame.body
        ssrc, blocks = Ssrc(reader.u32()), list[Block]()
        while reader:
            blocks.append(_read_block(reader))
        return cls(ssrc, tuple(blocks))

    def serialize(self) -> bytes:
        """Return the XR as bytes."""
        body = Writer().u32(self.ssrc)
        for block in self.blocks:
            _write_block(body, block)
        return close_packet(0, self.TYPE, body)


def _read_block(reader: Reader) -> Block:
    block_type, specific = reader.u8(), reader.u8()
    content = reader.sub(4 * reader.u16())
    if block_type == BlockType.RECEIVER_REFERENCE_TIME and content.remaining == 8:
        return ReceiverReferenceTime(content.u64())
    if block_type == BlockType.DLRR and content.remaining % _DLRR_ENTRY == 0:
        count = content.remaining // _DLRR_ENTRY
        return Dlrr(tuple(DlrrEntry(Ssrc(content.u32()), content.u32(), content.u32()) for _ in range(count)))
    return RawBlock(block_type, specific, content.rest())


def _write_block(body: Writer, block: Block) -> None:
    if isinstance(block, ReceiverReferenceTime):
        body.u8(BlockType.RECEIVER_REFERENCE_TIME).u8(0).u16(2).u64(block.ntp_time)
    elif isinstance(block, Dlrr):
        body.u8(BlockType.DLRR).u8(0).u16(3 * len(block.entries))
        for entry in block.entries:
            body.u32(entry.ssrc).u32(entry.last_rr).u32(entry.delay_since_last_rr)
    else:
        if len(block.data) % 4:
            raise LocalError("an XR block has whole words")
        body.u8(block.block_type).u8(block.type_specific).u16(len(block.data) >> 2).put(block.data)
