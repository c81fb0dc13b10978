"""The RTP packet (RFC 3550 §5.1) with its padding, CSRCs and one header extension kept raw (RFC 3550 §5.3.1).

A plain slotted class rather than a frozen dataclass, because every packet of every call passes here: parsing
takes 0.5 µs, and freezing alone would add 1.3 (`docs/rtp.md`). What the header extension says is read by
`extensions.py`.
"""

from __future__ import annotations

from struct import Struct, error
from typing import Self

from stack.core.errors import LocalError, ParseError
from stack.core.serial import RtpTimestamp, SequenceNumber, Ssrc

_FIXED_HEADER = Struct("!BBHII")
_EXTENSION_HEADER = Struct("!HH")
_VERSION = 0x80
_PADDING = 0x20
_EXTENSION = 0x10
_FIXED_LENGTH = 12


class RtpPacket:
    """One RTP packet.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |V=2|P|X|   CC  |M|      PT     |        sequence number        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                           timestamp                           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                              SSRC                             |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    :                       CSRCs (CC of them)                      :
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |       extension profile       |   extension length in words   |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    :                         extension data                        :
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    :                            payload                            :
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    :                  padding, if P is set                 | length:
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

    `extension_profile` is None when there is no header extension. `extension_data` is a multiple of four bytes.
    `padding` counts the padding bytes, the length byte among them.
    """

    __slots__ = (
        "csrcs",
        "extension_data",
        "extension_profile",
        "marker",
        "padding",
        "payload",
        "payload_type",
        "sequence_number",
        "ssrc",
        "timestamp",
    )

    def __init__(
        self,
        payload_type: int,
        sequence_number: SequenceNumber,
        timestamp: RtpTimestamp,
        ssrc: Ssrc,
        payload: bytes,
        marker: bool = False,
        csrcs: tuple[int, ...] = (),
        extension_profile: int | None = None,
        extension_data: bytes = b"",
        padding: int = 0,
    ) -> None:
        self.payload_type = payload_type
        self.sequence_number = sequence_number
        self.timestamp = timestamp
        self.ssrc = ssrc
        self.payload = payload
        self.marker = marker
        self.csrcs = csrcs
        self.extension_profile = extension_profile
        self.extension_data = extension_data
        self.padding = padding

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the packet in `data`; raise `ParseError` if there is none."""
        try:
            first, second, sequence_number, timestamp, ssrc = _FIXED_HEADER.unpack_from(data)
        except error:
            raise ParseError("RTP: shorter than its fixed header") from None
        if first & 0xC0 != _VERSION:
            raise ParseError(f"RTP: version {first >> 6}")
        start, end = _FIXED_LENGTH, len(data)
        csrcs: tuple[int, ...] = ()
        profile: int | None = None
        extension = b""
        padding = 0
        if first & 0x3F:  # CSRCs, extension or padding: the rare and the usual packet part ways here
            count = first & 0x0F
            if end < start + 4 * count:
                raise ParseError("RTP: truncated CSRCs")
            if count:
                csrcs = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(12, 12 + 4 * count, 4))
                start += 4 * count
            if first & _EXTENSION:
                if end < start + 4:
                    raise ParseError("RTP: truncated header extension")
                profile, words = _EXTENSION_HEADER.unpack_from(data, start)
                start += 4
                extension = data[start : start + 4 * words]
                start += 4 * words
                if end < start:
                    raise ParseError("RTP: truncated header extension")
            if first & _PADDING:
                padding = data[-1]
                # RFC 3550 §5.1: the last byte counts itself, so zero is wrong, and so is more than there is.
                if not 0 < padding <= end - start:
                    raise ParseError(f"RTP: {padding} bytes of padding")
                end -= padding
        return cls(
            second & 0x7F,
            sequence_number,
            timestamp,
            ssrc,
            data[start:end],
            second > 0x7F,
            csrcs,
            profile,
            extension,
            padding,
        )

    def serialize(self) -> bytes:
        """Return the packet as bytes; raise `LocalError` if a field does not fit."""
        first = _VERSION | len(self.csrcs)
        parts = [b"", self.payload]
        if self.csrcs:
            if len(self.csrcs) > 15:
                raise LocalError(f"RTP: {len(self.csrcs)} CSRCs")
            parts.insert(1, b"".join(csrc.to_bytes(4, "big") for csrc in self.csrcs))
        if self.extension_profile is not None:
            if len(self.extension_data) % 4:
                raise LocalError("RTP: a header extension is a multiple of four bytes")
            first |= _EXTENSION
            parts.insert(-1, _EXTENSION_HEADER.pack(self.extension_profile, len(self.extension_data) >> 2))
            parts.insert(-1, self.extension_data)
        if self.padding:
            first |= _PADDING
            parts.append(bytes(self.padding - 1) + bytes((self.padding,)))
        try:
            parts[0] = _FIXED_HEADER.pack(
                first,
                self.payload_type | 0x80 if self.marker else self.payload_type,
                self.sequence_number,
                self.timestamp,
                self.ssrc,
            )
        except error as reason:
            raise LocalError(f"RTP: {reason}") from None
        return b"".join(parts)

    def _fields(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return self._fields() == other._fields() if isinstance(other, RtpPacket) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        mark = ", marker" if self.marker else ""
        return (
            f"RtpPacket(ssrc={self.ssrc:#010x}, pt={self.payload_type}, seq={self.sequence_number}, "
            f"ts={self.timestamp}, {len(self.payload)} bytes{mark})"
        )
