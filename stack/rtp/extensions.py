"""RTP header extensions: the one-byte and two-byte forms (RFC 8285 §4) and the elements that a call uses.

The URIs of the elements, with their sources, are in `stack.core.header_extensions`. One-byte form:

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|   ID  |   L   |             data (L + 1 bytes) ...            |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

Two-byte form:

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|       ID      |     length    |   data (0 to 255 bytes) ...   |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

The data of the elements: audio level (V: voice activity; the level in -dBov), mid, transport-wide sequence number,
absolute send time (6 bits of seconds, 18 of fraction), and playout delay (in units of 10 ms):

 0
 0 1 2 3 4 5 6 7
+-+-+-+-+-+-+-+-+
|V|    level    |
+-+-+-+-+-+-+-+-+

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|                 mid, UTF-8 (1 to 16 bytes) ...                |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

 0                   1
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
| transport-wide sequence number|
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

 0                   1                   2
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|               absolute send time              |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

 0                   1                   2
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|       MIN delay       |       MAX delay       |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

Elements of other kinds are passed over. The rest of the project negotiates only what stands in `ExtensionIds`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import attrgetter
from typing import NamedTuple

from stack.core.errors import LocalError, ParseError

ONE_BYTE_PROFILE = 0xBEDE
TWO_BYTE_PROFILE = 0x1000
_TWO_BYTE_MASK = 0xFFF0  # RFC 8285 §4.3: the last four bits are the application's


class AudioLevel(NamedTuple):
    """How loud a packet's sound is: 0 is the loudest (0 dBov), 127 is silence; `voice` if it contains speech."""

    level: int
    voice: bool = False


class PlayoutDelay(NamedTuple):
    """The range of playout delay that the sender asks of the receiver, in units of 10 ms, each 0 to 4095."""

    minimum: int
    maximum: int


class HeaderExtensions(NamedTuple):
    """What the elements of one packet say; None where an element is absent."""

    audio_level: AudioLevel | None = None
    mid: str | None = None
    transport_sequence: int | None = None
    abs_send_time: int | None = None
    playout_delay: PlayoutDelay | None = None


@dataclass(frozen=True, slots=True)
class ExtensionIds:
    """The local identifiers that SDP gave to the elements (`a=extmap`); None where it was not negotiated."""

    audio_level: int | None = None
    mid: int | None = None
    transport_sequence: int | None = None
    abs_send_time: int | None = None
    playout_delay: int | None = None


def abs_send_time(seconds: float) -> int:
    """Return an instant as 24 bits: 6 of seconds, 18 of fraction."""
    return int(seconds * (1 << 18)) & 0xFFFFFF


def parse_elements(profile: int, data: bytes) -> list[tuple[int, bytes]]:
    """Return the (identifier, value) pairs of a header extension; an unknown profile has none."""
    elements: list[tuple[int, bytes]] = []
    position, end = 0, len(data)
    if profile == ONE_BYTE_PROFILE:
        while position < end:
            head = data[position]
            position += 1
            if head >> 4 == 0:
                if head:  # RFC 8285 §4.2: identifier 0 with a length: what follows cannot be understood
                    break
                continue
            if head >> 4 == 15:  # RFC 8285 §4.2: 15 ends the parsing
                break
            start, position = position, position + (head & 0x0F) + 1
            if position > end:
                raise ParseError("header extension: an element is longer than the extension")
            elements.append((head >> 4, data[start:position]))
    elif profile & _TWO_BYTE_MASK == TWO_BYTE_PROFILE:
        while position < end:
            identifier = data[position]
            position += 1
            if identifier == 0:
                continue
            if position == end:
                raise ParseError("header extension: an element has no length")
            start = position + 1
            position = start + data[position]
            if position > end:
                raise ParseError("header extension: an element is longer than the extension")
            elements.append((identifier, data[start:position]))
    return elements


def serialize_elements(elements: list[tuple[int, bytes]]) -> tuple[int, bytes]:
    """Return the (profile, data) of a header extension: the one-byte form wherever it can hold the elements."""
    out = bytearray()
    profile = ONE_BYTE_PROFILE
    for identifier, value in elements:
        if not (1 <= identifier <= 14 and 1 <= len(value) <= 16):
            profile = TWO_BYTE_PROFILE
            break
        out += write_narrow(identifier, value)
    if profile == TWO_BYTE_PROFILE:
        out.clear()
        for identifier, value in elements:
            if not 1 <= identifier <= 255 or len(value) > 255:
                raise LocalError(f"header extension {identifier} with {len(value)} bytes fits neither form")
            out += bytes((identifier, len(value))) + value
    out += bytes(-len(out) % 4)
    return profile, bytes(out)


_identifiers = attrgetter(*(each.name for each in fields(ExtensionIds)))
"""Return every identifier, or None for it, in order."""


class ExtensionMap:
    """Reads and writes the elements under the identifiers that one call has negotiated."""

    __slots__ = ("_constant", "_ids", "_is_empty", "_is_narrow")

    def __init__(self, ids: ExtensionIds) -> None:
        self._ids = ids
        used = [identifier for identifier in _identifiers(ids) if identifier is not None]
        if len(set(used)) < len(used) or not all(1 <= identifier <= 255 for identifier in used):
            raise LocalError(f"header extension identifiers {used} are out of range or used twice")
        self._is_empty = not used
        self._is_narrow = all(identifier <= 14 for identifier in used)  # fit for the one-byte form
        self._constant: tuple[str | None, PlayoutDelay | None, bytes] = (None, None, b"")

    def parse(self, profile: int | None, data: bytes) -> HeaderExtensions:
        """Return what the elements say that were negotiated; an element of the wrong length is passed over."""
        if profile is None or self._is_empty:
            return _NOTHING
        ids = self._ids
        level: AudioLevel | None = None
        mid: str | None = None
        transport_sequence: int | None = None
        send_time: int | None = None
        delay: PlayoutDelay | None = None
        for identifier, value in parse_elements(profile, data):
            size = len(value)
            if identifier == ids.audio_level and size >= 1:
                level = AudioLevel(value[0] & 0x7F, value[0] > 0x7F)
            elif identifier == ids.transport_sequence and size >= 2:
                transport_sequence = value[0] << 8 | value[1]
            elif identifier == ids.abs_send_time and size == 3:
                send_time = int.from_bytes(value, "big")
            elif identifier == ids.mid:
                mid = value.decode("utf-8", "replace")
            elif identifier == ids.playout_delay and size == 3:
                both = int.from_bytes(value, "big")
                delay = PlayoutDelay(both >> 12, both & 0xFFF)
        return HeaderExtensions(level, mid, transport_sequence, send_time, delay)

    def serialize(self, extensions: HeaderExtensions) -> tuple[int | None, bytes]:
        """Return the (profile, data) that says what was negotiated of `extensions`; (None, b"") for nothing."""
        if self._is_empty:
            return None, b""
        ids = self._ids
        level, mid, transport_sequence, send_time, delay = extensions
        if not self._is_narrow or len(mid or "") > _SURELY_NARROW_MID:
            elements = self._elements(extensions)
            return serialize_elements(elements) if elements else (None, b"")
        # The one-byte form is on the path of every packet: what is the same in all is written once.
        if self._constant[0] != mid or self._constant[1] != delay:
            elements = self._elements(HeaderExtensions(mid=mid, playout_delay=delay))
            self._constant = mid, delay, b"".join([write_narrow(*element) for element in elements])
        out = self._constant[2]
        if transport_sequence is not None and (identifier := ids.transport_sequence) is not None:
            out += (identifier << 20 | 1 << 16 | transport_sequence & 0xFFFF).to_bytes(3, "big")
        if send_time is not None and (identifier := ids.abs_send_time) is not None:
            out += (identifier << 28 | 2 << 24 | send_time & 0xFFFFFF).to_bytes(4, "big")
        if level is not None and (identifier := ids.audio_level) is not None:
            out += bytes((identifier << 4, _loudness(level)))
        return (ONE_BYTE_PROFILE, out + _PADDING[-len(out) % 4]) if out else (None, b"")

    def _elements(self, extensions: HeaderExtensions) -> list[tuple[int, bytes]]:
        ids = self._ids
        level, mid, transport_sequence, send_time, delay = extensions
        elements: list[tuple[int, bytes]] = []
        if ids.audio_level is not None and level is not None:
            elements.append((ids.audio_level, bytes((_loudness(level),))))
        if ids.mid is not None and mid:
            elements.append((ids.mid, mid.encode()))
        if ids.transport_sequence is not None and transport_sequence is not None:
            elements.append((ids.transport_sequence, (transport_sequence & 0xFFFF).to_bytes(2, "big")))
        if ids.abs_send_time is not None and send_time is not None:
            elements.append((ids.abs_send_time, (send_time & 0xFFFFFF).to_bytes(3, "big")))
        if ids.playout_delay is not None and delay is not None:
            minimum, maximum = min(max(delay[0], 0), 4095), min(max(delay[1], 0), 4095)
            elements.append((ids.playout_delay, (minimum << 12 | maximum).to_bytes(3, "big")))
        return elements


def write_narrow(identifier: int, value: bytes) -> bytes:
    """Return an element in the one-byte form (RFC 8285 §4.2): identifier 1 to 14, 1 to 16 bytes."""
    return bytes((identifier << 4 | (len(value) - 1),)) + value


def _loudness(level: AudioLevel) -> int:
    return min(max(level.level, 0), 127) | (0x80 if level.voice else 0)


_SURELY_NARROW_MID = 4
"""Characters of a mid that take 16 bytes at most, whatever they are."""
_PADDING = (b"", b"\0", b"\0\0", b"\0\0\0")
_NOTHING = HeaderExtensions()
