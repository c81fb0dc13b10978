"""The lines of a session description and the typed values inside them.

RFC 8866 (the lines), 5888 and 9143 (group, mid), 8839 (ICE credentials, candidates), 8122 and 4145 (fingerprint,
setup), 8285 (extmap), 4585 (rtcp-fb), 5576 (ssrc), 8830 (msid).

Every `parse` raises `ParseError` and nothing else; every `serialize` writes what `parse` reads. Only
`split_lines` passes over what is no line, and counts it. Attributes that the stack has no use for stay text. A
candidate is read only as far as a description needs it (which component, which default address): the whole of it
belongs to ICE.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import NamedTuple, Self

from stack.core.errors import ParseError

MAX_DESCRIPTION_SIZE = 65_536
"""Characters in one description; the largest of a browser's (audio, video, data) has 6,500."""
MAX_LINES = 2_048
"""Lines in one description; the largest of a browser's has 200."""

_TOKEN = re.compile(r"[!#-'*+\-.0-9A-Z^-~]+")  # RFC 8866 §9, token
_ICE_CHARS = re.compile(r"[A-Za-z0-9+/]+")  # RFC 8839 §5.4, ice-char; the browsers keep to it


class Line(NamedTuple):
    """One `<type>=<value>` line."""

    kind: str
    value: str

    def __str__(self) -> str:
        return f"{self.kind}={self.value}\r\n"


class SdpAttribute(NamedTuple):
    """One `a=` line: a property (`value` is None) or a name with a value (RFC 8866 §5.13)."""

    name: str
    value: str | None = None

    @classmethod
    def parse(cls, text: str) -> SdpAttribute:
        """Read what follows `a=`."""
        name, colon, value = text.partition(":")
        if not name:
            raise ParseError("an attribute without a name")
        return cls(name, value if colon else None)

    def serialize(self) -> str:
        """Return what follows `a=`."""
        return self.name if self.value is None else f"{self.name}:{self.value}"


def decode_text(data: str | bytes, what: str) -> str:
    """Return the text of a description or fragment, without a byte order mark."""
    if isinstance(data, bytes):
        try:
            data = data.decode()
        except UnicodeDecodeError:
            raise ParseError(f"a {what} is not UTF-8") from None
    return data.removeprefix("\ufeff")


def split_lines(text: str, ignored: Counter[str]) -> list[Line]:
    """Cut a description into lines; a bare LF ends a line too, and blanks around it are dropped.

    What is no line is passed over and counted in `ignored` as "line", NUL at the end of a line as "nul": some
    clients send the end of a C string along.
    """
    if len(text) > MAX_DESCRIPTION_SIZE:
        raise ParseError(f"a description of {len(text)} characters; at most {MAX_DESCRIPTION_SIZE} are read")
    lines: list[Line] = []
    text = text.replace("\r\n", "\n")
    is_clean = "\0" not in text and "\r" not in text
    for raw in text.split("\n"):
        if is_clean:
            line = raw.strip(" \t")
        else:
            line = raw.rstrip(" \t\r\0")
            if "\0" in raw[len(line) :]:
                ignored["nul"] += 1
            line = line.lstrip(" \t")
        if not line:
            continue
        if len(lines) == MAX_LINES:
            raise ParseError(f"more than {MAX_LINES} lines")
        if line[1:2] != "=" or not (is_clean or ("\r" not in line and "\0" not in line)):
            ignored["line"] += 1
            continue
        lines.append(Line(line[0], line[2:]))
    return lines


def parse_number(text: str, what: str, maximum: int = 0xFFFF) -> int:
    """Read an unsigned decimal number that is not above `maximum`."""
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) > maximum:
        raise ParseError(f"{what} is not a number up to {maximum}: {text[:40]!r}")
    return int(text)


def parse_token(text: str, what: str) -> str:
    """Return `text` if it is a token of RFC 8866 §9."""
    if _TOKEN.fullmatch(text) is None:
        raise ParseError(f"{what} is not a token: {text[:40]!r}")
    return text


def parse_ice_chars(text: str, what: str, minimum: int) -> str:
    """Return `text` if it is made of `minimum` to 256 ice-chars (RFC 8839 §5.4)."""
    if not minimum <= len(text) <= 256 or _ICE_CHARS.fullmatch(text) is None:
        raise ParseError(f"{what} is not {minimum} to 256 letters, digits, '+' or '/'")
    return text


class Setup(Enum):
    """Who opens the DTLS connection (RFC 4145 §4, RFC 5763 §5)."""

    ACTPASS = "actpass"
    ACTIVE = "active"
    PASSIVE = "passive"
    HOLDCONN = "holdconn"

    @classmethod
    def parse(cls, text: str) -> Setup:
        """Read the value of `a=setup`."""
        try:
            return cls(text.lower())
        except ValueError:
            raise ParseError(f"not a setup role: {text[:40]!r}") from None


class MediaDirection(Enum):
    """Which way media flows, seen from the side that says it (RFC 8866 §6.7)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @classmethod
    def of(cls, *, sends: bool, receives: bool) -> MediaDirection:
        """Return the direction with these two halves."""
        if sends:
            return cls.SENDRECV if receives else cls.SENDONLY
        return cls.RECVONLY if receives else cls.INACTIVE

    @property
    def sends(self) -> bool:
        """True if the side that says it may send."""
        return self in (MediaDirection.SENDRECV, MediaDirection.SENDONLY)

    @property
    def receives(self) -> bool:
        """True if the side that says it may receive."""
        return self in (MediaDirection.SENDRECV, MediaDirection.RECVONLY)

    def reversed(self) -> MediaDirection:
        """Return the same direction as the other side would say it."""
        return MediaDirection.of(sends=self.receives, receives=self.sends)

    def intersect(self, other: MediaDirection) -> MediaDirection:
        """Return what both directions allow."""
        return MediaDirection.of(sends=self.sends and other.sends, receives=self.receives and other.receives)


@dataclass(frozen=True, slots=True)
class Origin:
    """The `o=` line (RFC 8866 §5.2)."""

    session_id: int
    session_version: int
    username: str = "-"
    address: str = "127.0.0.1"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what follows `o=`."""
        fields = text.split()
        if len(fields) != 6:
            raise ParseError(f"o= has {len(fields)} fields, not 6")
        username, session_id, version, _network, _family, address = fields
        limit = (1 << 64) - 1
        return cls(
            parse_number(session_id, "sess-id", limit),
            parse_number(version, "sess-version", limit),
            username,
            address,
        )

    def serialize(self) -> str:
        """Return what follows `o=`."""
        connection = Connection(self.address).serialize()
        return f"{self.username} {self.session_id} {self.session_version} {connection}"


@dataclass(frozen=True, slots=True)
class Connection:
    """The `c=` line (RFC 8866 §5.7); a multicast TTL stays in `address`."""

    address: str = "0.0.0.0"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what follows `c=`."""
        fields = text.split()
        if len(fields) != 3 or fields[0] != "IN" or fields[1] not in ("IP4", "IP6"):
            raise ParseError(f"not a connection: {text[:40]!r}")
        return cls(fields[2])

    def serialize(self) -> str:
        """Return what follows `c=`."""
        return f"IN {'IP6' if ':' in self.address else 'IP4'} {self.address}"


@dataclass(frozen=True, slots=True)
class Group:
    """An `a=group` attribute (RFC 5888 §5): semantics and the mids that they hold for."""

    semantics: str
    mids: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the value of `a=group`."""
        semantics, *mids = text.split() or [""]
        return cls(parse_token(semantics, "group semantics"), tuple(parse_token(mid, "mid") for mid in mids))

    def serialize(self) -> str:
        """Return the value of `a=group`."""
        return " ".join((self.semantics, *self.mids))


@dataclass(frozen=True, slots=True)
class RtpMap:
    """What a payload type stands for (RFC 8866 §6.6)."""

    encoding: str
    clock_rate: int
    channels: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what follows the payload type in `a=rtpmap`."""
        encoding, *rest = text.split("/")
        if not 1 <= len(rest) <= 2:
            raise ParseError(f"not an encoding with its clock rate: {text[:40]!r}")
        channels = parse_number(rest[1], "channels", 255) if len(rest) == 2 else 1
        return cls(parse_token(encoding, "encoding"), parse_number(rest[0], "clock rate", 0xFFFFFFFF), channels)

    def serialize(self) -> str:
        """Return what follows the payload type in `a=rtpmap`."""
        return f"{self.encoding}/{self.clock_rate}" + (f"/{self.channels}" if self.channels != 1 else "")

    @property
    def key(self) -> tuple[str, int, int]:
        """The same for all that mean one encoding: its name has no case (RFC 8866 §6.6)."""
        return self.encoding.lower(), self.clock_rate, self.channels

    def matches(self, other: RtpMap) -> bool:
        """Return True if both mean the same encoding."""
        return self.key == other.key


STATIC_PAYLOAD_TYPES: Mapping[int, RtpMap] = {
    0: RtpMap("PCMU", 8000),
    8: RtpMap("PCMA", 8000),
    9: RtpMap("G722", 8000),
    13: RtpMap("CN", 8000),
}
"""Payload types that need no rtpmap (RFC 3551 §6), as far as speech goes."""


@dataclass(frozen=True, slots=True)
class ExtMap:
    """An RTP header extension and the id that it travels under (RFC 8285 §5)."""

    id: int
    uri: str
    direction: MediaDirection = MediaDirection.SENDRECV

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the value of `a=extmap`; extension attributes behind the URI are dropped."""
        fields = text.split()
        if len(fields) < 2:
            raise ParseError(f"not an extmap: {text[:40]!r}")
        number, slash, direction = fields[0].partition("/")
        if slash and direction not in {known.value for known in MediaDirection}:
            raise ParseError(f"not a direction of an extmap: {direction[:40]!r}")
        return cls(
            parse_number(number, "extmap id"),
            fields[1],
            MediaDirection(direction) if slash else MediaDirection.SENDRECV,
        )

    def serialize(self) -> str:
        """Return the value of `a=extmap`."""
        direction = "" if self.direction is MediaDirection.SENDRECV else f"/{self.direction.value}"
        return f"{self.id}{direction} {self.uri}"


@dataclass(frozen=True, slots=True)
class Msid:
    """Which stream and track a section sends (RFC 8830 §2)."""

    stream_id: str
    track_id: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the value of `a=msid`; words behind the second are dropped."""
        fields = text.split()
        if not fields:
            raise ParseError("an msid without an identifier")
        return cls(*fields[:2])

    def serialize(self) -> str:
        """Return the value of `a=msid`."""
        return self.stream_id if self.track_id is None else f"{self.stream_id} {self.track_id}"


class SsrcAttribute(NamedTuple):
    """One attribute of one SSRC (RFC 5576 §4.1)."""

    ssrc: int
    name: str
    value: str | None

    @classmethod
    def parse(cls, text: str) -> SsrcAttribute:
        """Read the value of `a=ssrc`."""
        ssrc, _, rest = text.partition(" ")
        name, colon, value = rest.strip().partition(":")
        return cls(parse_number(ssrc, "ssrc", 0xFFFFFFFF), name, value if colon else None)


class CandidateSummary(NamedTuple):
    """As much of a candidate (RFC 8839 §5.1) as a description needs."""

    component: int
    transport: str
    address: str
    port: int
    kind: str

    @classmethod
    def parse(cls, text: str) -> CandidateSummary:
        """Read a candidate, with or without `candidate:` in front."""
        fields = text.removeprefix("candidate:").split()
        if len(fields) < 8 or fields[6].lower() != "typ":
            raise ParseError(f"not a candidate: {text[:60]!r}")
        component = parse_number(fields[1], "component", 256)
        return cls(component, fields[2].lower(), fields[4], parse_number(fields[5], "port"), fields[7].lower())

    @property
    def is_literal(self) -> bool:
        """True if the address is an IP address and not a (multicast DNS) name."""
        try:
            ip_address(self.address)
        except ValueError:
            return False
        return True


def parse_message_size(text: str) -> int:
    """Read the value of `a=max-message-size` (RFC 8841 §6.1), in bytes."""
    return parse_number(text.strip(), "max-message-size", (1 << 64) - 1)


def parse_sctp_init(text: str) -> bytes:
    """Read the value of `a=sctp-init`, an INIT chunk in base64 (draft-hancke-tsvwg-snap)."""
    try:
        chunk = b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ParseError("a=sctp-init is not base64") from None
    # RFC 9260 §3.3.2: type 1, 20 bytes and parameters; the padding of the last one may be missing.
    if len(chunk) < 20 or chunk[0] != 1 or not 0 <= len(chunk) - int.from_bytes(chunk[2:4], "big") <= 3:
        raise ParseError("a=sctp-init is no INIT chunk")
    if not any(chunk[4:8]) or not any(chunk[12:14]) or not any(chunk[14:16]):  # §3.3.2: the peer would abort
        raise ParseError("a=sctp-init has an initiate tag of 0, or no streams")
    at = 20
    while at < int.from_bytes(chunk[2:4], "big"):
        length = int.from_bytes(chunk[at + 2 : at + 4], "big")
        if length < 4 or at + length > len(chunk):
            raise ParseError("a=sctp-init has a parameter that is cut off")
        at += length + 3 & ~3
    return chunk


def parse_format_parameters(text: str) -> dict[str, str]:
    """Read what follows the format in `a=fmtp`: `name=value` pairs; a word alone has an empty value."""
    parameters: dict[str, str] = {}
    for part in text.split(";"):
        name, _, value = part.strip().partition("=")
        if name:
            parameters.setdefault(name.strip().lower(), value.strip())
    return parameters


def serialize_format_parameters(parameters: Mapping[str, str]) -> str:
    """Return what follows the format in `a=fmtp`."""
    return ";".join(f"{name}={value}" if value else name for name, value in parameters.items())


def serialize_lines(lines: Iterable[Line]) -> str:
    """Return the lines as text, each with CRLF at its end (RFC 8866 §5)."""
    return "".join([f"{kind}={value}\r\n" for kind, value in lines])
