"""SDES: the names of sources (RFC 3550 §6.5)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from stack.core.serial import Ssrc
from stack.core.wire import Reader, Writer
from stack.rtp.rtcp.header import Frame, RtcpPacket, close_packet, register_packet


class SdesItem(IntEnum):
    """The items that are used; others keep their number (RFC 3550 §6.5, RFC 9143 §15.1)."""

    END = 0
    CNAME = 1
    MID = 15


@dataclass(frozen=True, slots=True)
class SdesChunk:
    """The (item type, text) pairs of one source.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                           SSRC/CSRC                           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    | SDES item type|     length    |        text, UTF-8 ...        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  ..., ended by a zero byte, padded with zeros to whole words  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    ssrc: Ssrc
    items: tuple[tuple[int, bytes], ...]

    @property
    def cname(self) -> str | None:
        """The canonical name, if it is said."""
        return next((text.decode("utf-8", "replace") for kind, text in self.items if kind == SdesItem.CNAME), None)


@register_packet
@dataclass(frozen=True, slots=True)
class SourceDescription(RtcpPacket):
    """SDES.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |V=2|P|    SC   |  PT=SDES=202  |             length            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                      chunks (SC of them)                      |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    chunks: tuple[SdesChunk, ...]

    TYPE = 202

    @classmethod
    def for_cname(cls, ssrc: Ssrc, cname: str) -> Self:
        """Return the SDES that RFC 3550 §6.1 wants in every full compound."""
        return cls((SdesChunk(ssrc, ((SdesItem.CNAME, cname.encode()),)),))

    @classmethod
    def read(cls, frame: Frame) -> Self:
        """Read the chunks."""
        reader = frame.body
        return cls(tuple(_read_chunk(reader) for _ in range(frame.subtype)))

    def serialize(self) -> bytes:
        """Return the SDES as bytes."""
        body = Writer()
        for chunk in self.chunks:
            body.u32(chunk.ssrc)
            for kind, text in chunk.items:
                body.u8(kind)
                with body.vector8():
                    body.put(text)
            # RFC 3550 §6.5: a null byte ends the chunk, more of them fill its last word.
            body.u8(SdesItem.END).pad(4)
        return close_packet(len(self.chunks), self.TYPE, body)


def _read_chunk(reader: Reader) -> SdesChunk:
    start = reader.position
    ssrc, items = Ssrc(reader.u32()), list[tuple[int, bytes]]()
    while kind := reader.u8():
        items.append((kind, reader.vector8().rest()))
    reader.skip(-(reader.position - start) % 4)
    return SdesChunk(ssrc, tuple(items))
