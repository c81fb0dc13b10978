"""The session ticket: what a server needs to make a session again, small enough for its username fragment.

An answer whose fragment is a sealed ticket (`ticket_keys.py`) needs no memory: the first check brings it back
(RFC 8445 §7.2.2 puts the fragment into its USERNAME). Any process that has the key makes the session then. What
is not in here is derived from the key and the reference, or is the same for all calls of a server; an agreement
that this form cannot hold has no ticket (`ticket_terms.py`).

     0               1               2               3             bytes
    +---------------+---------------+---------------+---------------+
    | expiry: seconds since 1970                                    |
    +---------------+---------------+---------------+---------------+
    | reference (8 bytes, random; the first 6 are those of its chain) |
    | SHA-256 fingerprint of the client's certificate (32 bytes)    |
    +---------------+---------------+---------------+---------------+
    | flags                         | mids: sound, data (4 bits each) |
    +---------------+---------------+---------------+---------------+
    with sound:  codec (2 bits), direction (2), peer's maxplaybackrate (4) | payload type | of RED, or 0 |
                 of telephone events, or 0 | header extensions: audio level, transport-wide sequence number,
                 playout delay (4 bits each, 0: none), ptime (4 bits)
    with data:   the peer's maximum message size (8 bits, an index)
    with SNAP:   shape of the peer's INIT (8 bits, an index) | initiate tag (4 bytes) | initial TSN (4 bytes)
    addressed:   program (2 bytes) | tenant (4 bytes)
    the rest:    the claim, UTF-8

Everything is in network byte order. The message knows no keys, no clock and no SDP.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import NamedTuple, Self

from stack.core.dtls_role import DtlsRole
from stack.core.errors import LocalError, ParseError
from stack.core.wire import Reader, Writer

REFERENCE_SIZE = 8
"""Bytes that tell tickets apart; they are random, and all that is random in one."""
CHAIN_SIZE = 6
"""Bytes of a reference that a ticket has in common with those that were made from it."""
FINGERPRINT_SIZE = 32
MAX_TICKET_SIZE = 148
"""Bytes of a ticket in the clear: with 17 of sealing, 220 characters, where the fragment names no node."""
MAX_WITHOUT_CLAIM = 69
"""Bytes of a ticket with all that there can be, but for the claim; see `ticket_keys.claim_room`."""
MAX_MID = 15
MAX_EXTENSION_ID = 14
"""Of a header extension with a header of one byte (RFC 8285 §4.2)."""


class TicketFlag(IntFlag):
    """The flags, from the lowest bit on; the others are 0."""

    AUDIO = 1
    DATA = 2
    DTLS_CLIENT = 4
    """Our part of DTLS; without it we are the server."""
    REDUCED_SIZE = 8
    RECEIVER_RTT = 16
    MIXED_EXTENSIONS = 32
    NACK = 64
    TRANSPORT_CC = 128
    STEREO = 256
    INBAND_FEC = 512
    DTX = 1024
    CBR = 2048
    SNAP = 4096
    ADDRESSED = 8192
    INSTANT = 16384
    """It was made ahead of a call, and may be used for several, one after the other."""
    CHANNEL = 32768
    """The peer's offer has named the channel `events` (RFC 8864)."""


_AUDIO, _DATA, _SNAP, _ADDRESSED = map(
    int, (TicketFlag.AUDIO, TicketFlag.DATA, TicketFlag.SNAP, TicketFlag.ADDRESSED)
)
_KNOWN_FLAGS = (1 << 16) - 1
_FIXED_PART = struct.Struct(f"!I{REFERENCE_SIZE}s{FINGERPRINT_SIZE}sHB")
_AUDIO_PART = struct.Struct("!BBBBH")
_SOUND_FLAGS = 0b1111_1111_1000


HEAD_SIZE = 4 + REFERENCE_SIZE


class TicketHead(NamedTuple):
    """What says whether a ticket is honoured, without the rest being read."""

    expiry: int
    reference: bytes

    @property
    def chain(self) -> bytes:
        """See `SessionTicket.chain`."""
        return chain_of(self.reference)

    @classmethod
    def peek(cls, data: bytes) -> Self:
        """Return it from `HEAD_SIZE` bytes or more."""
        return cls(int.from_bytes(data[:4], "big"), data[4 : 4 + REFERENCE_SIZE])


@dataclass(frozen=True, slots=True)
class TicketAudio:
    """The section of sound: numbers of codec, direction, rate and ptime are indices into `ticket_terms`."""

    codec: int
    direction: int
    playback_rate: int
    payload_type: int
    red_payload_type: int = 0
    telephone_event_payload_type: int = 0
    audio_level: int = 0
    transport_cc: int = 0
    playout_delay: int = 0
    ptime: int = 0

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read it; raises `ParseError` for a number that cannot be."""
        first, payload_type, red, events, ids = _AUDIO_PART.unpack(reader.take(_AUDIO_PART.size))
        if (payload_type | red | events) > 127:
            raise ParseError("a payload type has seven bits")
        level, transport_cc, delay = ids >> 12, ids >> 8 & 15, ids >> 4 & 15
        if 15 in (level, transport_cc, delay):
            raise ParseError("15 is no id of a header extension (RFC 8285 §4.2)")
        return cls(
            first >> 6, first >> 4 & 3, first & 15, payload_type, red, events, level, transport_cc, delay, ids & 15
        )

    def write(self, writer: Writer) -> None:
        """Write it; raises `LocalError` for a number that has no room."""
        types = (self.payload_type, self.red_payload_type, self.telephone_event_payload_type)
        identifiers = (self.audio_level, self.transport_cc, self.playout_delay)
        fits = (
            0 <= self.codec < 4
            and 0 <= self.direction < 4
            and 0 <= self.playback_rate < 16
            and 0 <= self.ptime < 16
            and all(0 <= each < 128 for each in types)
            and all(0 <= each <= MAX_EXTENSION_ID for each in identifiers)
        )
        if not fits:
            raise LocalError("a ticket has no room for this agreement on sound")
        writer.u8(self.codec << 6 | self.direction << 4 | self.playback_rate)
        for each in types:
            writer.u8(each)
        writer.u16(self.audio_level << 12 | self.transport_cc << 8 | self.playout_delay << 4 | self.ptime)


@dataclass(frozen=True, slots=True)
class TicketInit:
    """What differs between INIT chunks of one kind of peer (draft-hancke-tsvwg-snap)."""

    shape: int
    initiate_tag: bytes
    initial_tsn: bytes


@dataclass(frozen=True, slots=True)
class SessionTicket:
    """A ticket. `expiry` is in seconds since 1970, `claim` what its maker says of the caller, in text.

    Raises `LocalError` for parts that have no place in the form.
    """

    expiry: int
    reference: bytes
    fingerprint: bytes
    flags: TicketFlag
    audio_mid: int = 0
    data_mid: int = 0
    audio: TicketAudio | None = None
    message_size: int | None = None
    """An index into `ticket_terms`; None without data."""
    init: TicketInit | None = None
    program: int = 0
    tenant: int = 0
    claim: str = ""

    def __post_init__(self) -> None:
        flags = int(self.flags)  # IntFlag's own operators take microseconds
        fits = (
            0 <= self.expiry < 1 << 32
            and len(self.reference) == REFERENCE_SIZE
            and len(self.fingerprint) == FINGERPRINT_SIZE
            and 0 <= flags <= _KNOWN_FLAGS
            and 0 <= self.audio_mid <= MAX_MID
            and 0 <= self.data_mid <= MAX_MID
            and bool(flags & _AUDIO) == (self.audio is not None)
            and (self.audio is not None or not (flags & _SOUND_FLAGS or self.audio_mid))
            and bool(flags & _DATA) == (self.message_size is not None)
            and (self.message_size is not None or not self.data_mid)
            and bool(flags & _SNAP) == (self.init is not None)
            and (self.init is None or self.message_size is not None)
            and bool(flags & _ADDRESSED) == bool(self.program or self.tenant)
            and 0 <= self.program < 1 << 16
            and 0 <= self.tenant < 1 << 32
        )
        if not fits or not flags & (_AUDIO | _DATA):
            raise LocalError("these parts make no ticket")
        try:
            size = len(self.claim.encode())
        except UnicodeEncodeError as error:  # a header's bytes that are no UTF-8, as HTTP servers hand them on
            raise LocalError("a claim is text that UTF-8 can write") from error
        if size > MAX_TICKET_SIZE:
            raise LocalError(f"a claim of {size} bytes has no room in a ticket")

    @property
    def dtls_role(self) -> DtlsRole:
        """Our part of DTLS."""
        return DtlsRole.CLIENT if TicketFlag.DTLS_CLIENT in self.flags else DtlsRole.SERVER

    @property
    def chain(self) -> bytes:
        """What it has in common with all tickets that were made from the same HTTP answer."""
        return chain_of(self.reference)

    @property
    def is_instant(self) -> bool:
        """True for one that was made ahead of a call."""
        return TicketFlag.INSTANT in self.flags

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what `serialize` wrote; raises `ParseError` for anything else."""
        if len(data) > MAX_TICKET_SIZE:
            raise ParseError(f"a ticket of {len(data)} bytes; at most {MAX_TICKET_SIZE} are read")
        reader = Reader(data)
        expiry, reference, fingerprint, number, mids = _FIXED_PART.unpack(reader.take(_FIXED_PART.size))
        if number > _KNOWN_FLAGS:
            raise ParseError("a flag that this version does not know")
        audio = TicketAudio.read(reader) if number & _AUDIO else None
        message_size = reader.u8() if number & _DATA else None
        init = TicketInit(reader.u8(), reader.take(4), reader.take(4)) if number & _SNAP else None
        program, tenant = (reader.u16(), reader.u32()) if number & _ADDRESSED else (0, 0)
        try:
            claim = reader.rest().decode()
            return cls(
                expiry, reference, fingerprint, TicketFlag(number), mids >> 4, mids & 15, audio, message_size,
                init, program, tenant, claim,
            )  # fmt: skip
        except (UnicodeDecodeError, LocalError) as error:
            raise ParseError(f"not a ticket: {error}") from error

    def serialize(self) -> bytes:
        """Return the bytes; raises `LocalError` if they are more than a fragment has room for."""
        writer = Writer()
        writer.u32(self.expiry)
        writer.put(self.reference)
        writer.put(self.fingerprint)
        writer.u16(self.flags)
        writer.u8(self.audio_mid << 4 | self.data_mid)
        if self.audio is not None:
            self.audio.write(writer)
        if self.message_size is not None:
            writer.u8(self.message_size)
        if self.init is not None:
            writer.u8(self.init.shape)
            writer.put(self.init.initiate_tag)
            writer.put(self.init.initial_tsn)
        if self.flags & _ADDRESSED:
            writer.u16(self.program)
            writer.u32(self.tenant)
        writer.put(self.claim.encode())
        data = writer.finish()
        if len(data) > MAX_TICKET_SIZE:
            raise LocalError(f"a ticket of {len(data)} bytes; at most {MAX_TICKET_SIZE} have room")
        return data


def chain_of(reference: bytes) -> bytes:
    """Return the part of a reference that is that of its chain."""
    return reference[:CHAIN_SIZE]
