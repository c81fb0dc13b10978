"""XR: extended reports (RFC 3611), of which the two blocks that give a receiver a round-trip time are read.

The receiver reference time (§4.4) and its echo, DLRR (§4.5): the SR and LSR/DLSR of somebody who sends nothing.
Blocks of other types are kept raw.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Self, TypeAlias

from stack.core.errors import LocalError
from stack.core.wire import Reader, Writer
from stack.rtp.rtcp.header import PacketType, close_packet, open_packet

_DLRR_ENTRY = 12


class BlockType(IntEnum):
    """XR block types that are understood."""

    RECEIVER_REFERENCE_TIME = 4
    DLRR = 5


@dataclass(frozen=True, slots=True)
class ReceiverReferenceTime:
    """Block type 4: the time at the sender of this report, in 2^-32 s since 1900."""

    ntp_time: int


@dataclass(frozen=True, slots=True)
class DlrrEntry:
    """The answer to one receiver's reference time; both in 1/65536 s."""

    ssrc: int
    last_rr: int
    delay_since_last_rr: int


@dataclass(frozen=True, slots=True)
class Dlrr:
    """Block type 5."""

    entries: tuple[DlrrEntry, ...]


@dataclass(frozen=True, slots=True)
class RawBlock:
    """A block that is kept as it is."""

    block_type: int
    type_specific: int
    data: bytes


Block: TypeAlias = ReceiverReferenceTime | Dlrr | RawBlock


@dataclass(frozen=True, slots=True)
class ExtendedReport:
    """XR, packet type 207."""

    ssrc: int
    blocks: tuple[Block, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the XR in `data`."""
        _, reader = open_packet(data, PacketType.EXTENDED_REPORT)
        ssrc, blocks = reader.u32(), list[Block]()
        while reader:
            blocks.append(_read_block(reader))
        return cls(ssrc, tuple(blocks))

    def serialize(self) -> bytes:
        """Return the XR as bytes."""
        body = Writer().u32(self.ssrc)
        for block in self.blocks:
            _write_block(body, block)
        return close_packet(0, PacketType.EXTENDED_REPORT, body)


def _read_block(reader: Reader) -> Block:
    block_type, specific = reader.u8(), reader.u8()
    content = reader.sub(4 * reader.u16())
    if block_type == BlockType.RECEIVER_REFERENCE_TIME and content.remaining == 8:
        return ReceiverReferenceTime(content.u64())
    if block_type == BlockType.DLRR and content.remaining % _DLRR_ENTRY == 0:
        count = content.remaining // _DLRR_ENTRY
        return Dlrr(tuple(DlrrEntry(content.u32(), content.u32(), content.u32()) for _ in range(count)))
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
