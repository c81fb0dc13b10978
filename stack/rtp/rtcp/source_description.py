"""SDES, BYE and APP: who takes part, who leaves, and what others may have invented (RFC 3550 §6.5–6.7)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from stack.core.errors import LocalError
from stack.core.wire import Reader, Writer
from stack.rtp.rtcp.header import PacketType, close_packet, open_packet


class SdesItem(IntEnum):
    """The items that are used; others keep their number (RFC 3550 §6.5, RFC 9143 §15.1)."""

    END = 0
    CNAME = 1
    MID = 15


@dataclass(frozen=True, slots=True)
class SdesChunk:
    """The (item type, text) pairs of one source."""

    ssrc: int
    items: tuple[tuple[int, bytes], ...]

    @property
    def cname(self) -> str | None:
        """The canonical name, if it is said."""
        return next((text.decode("utf-8", "replace") for kind, text in self.items if kind == SdesItem.CNAME), None)


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """SDES, packet type 202."""

    chunks: tuple[SdesChunk, ...]

    @classmethod
    def for_cname(cls, ssrc: int, cname: str) -> Self:
        """Return the SDES that RFC 3550 §6.1 wants in every full compound."""
        return cls((SdesChunk(ssrc, ((SdesItem.CNAME, cname.encode()),)),))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the SDES in `data`."""
        count, reader = open_packet(data, PacketType.SOURCE_DESCRIPTION)
        return cls(tuple(_read_chunk(reader) for _ in range(count)))

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
        return close_packet(len(self.chunks), PacketType.SOURCE_DESCRIPTION, body)


def _read_chunk(reader: Reader) -> SdesChunk:
    start = reader.position
    ssrc, items = reader.u32(), list[tuple[int, bytes]]()
    while kind := reader.u8():
        items.append((kind, reader.vector8().rest()))
    reader.skip(-(reader.position - start) % 4)
    return SdesChunk(ssrc, tuple(items))


@dataclass(frozen=True, slots=True)
class Goodbye:
    """BYE, packet type 203: these sources leave."""

    ssrcs: tuple[int, ...]
    reason: str = ""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the BYE in `data`."""
        count, reader = open_packet(data, PacketType.GOODBYE)
        ssrcs = tuple(reader.u32() for _ in range(count))
        return cls(ssrcs, reader.vector8().rest().decode("utf-8", "replace") if reader else "")

    def serialize(self) -> bytes:
        """Return the BYE as bytes; the reason is cut at 255 bytes."""
        body = Writer()
        for ssrc in self.ssrcs:
            body.u32(ssrc)
        if self.reason:
            with body.vector8():
                body.put(self.reason.encode()[:255])
        return close_packet(len(self.ssrcs), PacketType.GOODBYE, body)


@dataclass(frozen=True, slots=True)
class ApplicationDefined:
    """APP, packet type 204: kept as it is, understood by nobody here."""

    subtype: int
    ssrc: int
    name: bytes
    data: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the APP in `data`."""
        subtype, reader = open_packet(data, PacketType.APPLICATION)
        return cls(subtype, reader.u32(), reader.take(4), reader.rest())

    def serialize(self) -> bytes:
        """Return the APP as bytes."""
        if len(self.name) != 4 or len(self.data) % 4:
            raise LocalError("APP: the name has four bytes, the data whole words")
        return close_packet(
            self.subtype, PacketType.APPLICATION, Writer().u32(self.ssrc).put(self.name).put(self.data)
        )
