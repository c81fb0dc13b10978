"""What an onlooker can read of a call's datagrams without its keys.

It reads headers that are in the clear: STUN (RFC 8489 §5), the record layer and the handshake of DTLS (RFC 6347
§4.1, RFC 9147 §4), RTP with its header extension, and RTCP (RFC 3550 §5.1, §6.4, RFC 8285). Written apart from the
stack that is tested here: a reader that shares a parser with one of the two ends would share its mistakes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from struct import unpack_from

MAGIC_COOKIE = 0x2112A442


class Kind(Enum):
    """What a datagram is, by its first byte (RFC 7983 §7)."""

    STUN = "STUN"
    DTLS = "DTLS"
    RTP = "RTP"
    RTCP = "RTCP"
    OTHER = "other"


def kind_of(data: bytes) -> Kind:
    """Sort a datagram."""
    if len(data) >= 20 and data[0] < 4 and unpack_from("!I", data, 4)[0] == MAGIC_COOKIE:
        return Kind.STUN
    if len(data) >= 1 and 20 <= data[0] < 64:
        return Kind.DTLS
    if len(data) >= 8 and 128 <= data[0] < 192:
        return Kind.RTCP if 192 <= data[1] <= 223 else Kind.RTP
    return Kind.OTHER


class StunClass(Enum):
    """The class of a message (RFC 8489 §5)."""

    REQUEST = 0
    INDICATION = 1
    SUCCESS = 2
    ERROR = 3


@dataclass(frozen=True, slots=True)
class Stun:
    """A STUN message: its class, its transaction, which attributes it has, and what some of them say."""

    stun_class: StunClass
    transaction: bytes
    attributes: frozenset[int]
    error: int | None
    """The code of an error response."""
    username: str = ""

    @classmethod
    def read(cls, data: bytes) -> Stun:
        """Read a datagram of `Kind.STUN`."""
        kind = unpack_from("!H", data)[0]
        attributes, error, username, at = set(), None, "", 20
        while at + 4 <= len(data):
            number, length = unpack_from("!HH", data, at)
            attributes.add(number)
            if number == 0x0009 and at + 8 <= len(data):
                error = 100 * (data[at + 6] & 7) + data[at + 7]
            elif number == 0x0006:
                username = data[at + 4 : at + 4 + length].decode(errors="replace")
            at += 4 + length + (-length % 4)
        return cls(
            StunClass((kind >> 4 & 1) | (kind >> 7 & 2)), data[8:20], frozenset(attributes), error, username
        )

    @property
    def nominates(self) -> bool:
        """USE-CANDIDATE is in it."""
        return 0x0025 in self.attributes


@dataclass(frozen=True, slots=True)
class DtlsRecord:
    """One record. `content` of a record of DTLS 1.3 that is encrypted is None: its type is encrypted, too."""

    content: int | None
    epoch: int
    fragment: bytes

    @property
    def is_handshake(self) -> bool:
        """It may hold handshake messages: in the clear, or encrypted under the handshake's keys of DTLS 1.3."""
        return self.content == 22 or (self.content is None and self.epoch == 2)


def dtls_records(data: bytes) -> Iterator[DtlsRecord]:
    """Yield the records of a datagram of `Kind.DTLS`, as far as they can be told apart."""
    at = 0
    while at < len(data):
        first = data[at]
        if first & 0xE0 == 0x20:  # the unified header (RFC 9147 §4)
            head = 1 + (2 if first & 8 else 1) + (2 if first & 4 else 0)
            if first & 0x10 or at + head > len(data):
                return
            length = unpack_from("!H", data, at + head - 2)[0] if first & 4 else len(data) - at - head
            yield DtlsRecord(None, first & 3, data[at + head : at + head + length])
            at += head + length
            continue
        if at + 13 > len(data):
            return
        epoch, length = unpack_from("!H", data, at + 3)[0], unpack_from("!H", data, at + 11)[0]
        yield DtlsRecord(first, epoch, data[at + 13 : at + 13 + length])
        at += 13 + length


HANDSHAKE_NAMES = {
    1: "ClientHello",
    2: "ServerHello",
    3: "HelloVerifyRequest",
    4: "NewSessionTicket",
    11: "Certificate",
    12: "ServerKeyExchange",
    13: "CertificateRequest",
    14: "ServerHelloDone",
    15: "CertificateVerify",
    16: "ClientKeyExchange",
    20: "Finished",
}


@dataclass(frozen=True, slots=True)
class HandshakeFragment:
    """A piece of a handshake message (RFC 6347 §4.2.2)."""

    msg_type: int
    length: int
    message_seq: int
    offset: int
    body: bytes

    @property
    def name(self) -> str:
        """What the message is called."""
        return HANDSHAKE_NAMES.get(self.msg_type, f"handshake message {self.msg_type}")


def handshake_fragments(record: DtlsRecord) -> Iterator[HandshakeFragment]:
    """Yield the pieces of handshake messages in a record that is in the clear."""
    data, at = record.fragment, 0
    while record.content == 22 and record.epoch == 0 and at + 12 <= len(data):
        length = int.from_bytes(data[at + 1 : at + 4])
        sequence = unpack_from("!H", data, at + 4)[0]
        offset, size = int.from_bytes(data[at + 6 : at + 9]), int.from_bytes(data[at + 9 : at + 12])
        yield HandshakeFragment(data[at], length, sequence, offset, data[at + 12 : at + 12 + size])
        at += 12 + size


ALERT_NAMES = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    46: "certificate_unknown",
    47: "illegal_parameter",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    109: "missing_extension",
    110: "unsupported_extension",
}


def clear_alert(record: DtlsRecord) -> tuple[bool, str] | None:
    """Whether an alert in the clear is fatal, and its name; None for any other record."""
    if record.content != 21 or record.epoch != 0 or len(record.fragment) != 2:
        return None
    level, number = record.fragment
    return level == 2, ALERT_NAMES.get(number, f"alert {number}")


@dataclass(frozen=True, slots=True)
class Rtp:
    """The fixed header (RFC 3550 §5.1); SRTP leaves it in the clear."""

    padding: bool
    """It ends in padding; browsers send packets of nothing else to probe the network, at a timestamp of before."""
    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int

    @classmethod
    def read(cls, data: bytes) -> Rtp | None:
        """Read a datagram of `Kind.RTP`; None if it is too short for one."""
        if len(data) < 12:
            return None
        return cls(bool(data[0] & 0x20), bool(data[1] & 0x80), data[1] & 0x7F, *unpack_from("!HII", data, 2))


_ONE_BYTE, _TWO_BYTE = 0xBEDE, 0x1000


def header_extensions(data: bytes) -> dict[int, bytes]:
    """The elements of an RTP packet's header extension by their identifiers (RFC 8285 §4.2, §4.3)."""
    found: dict[int, bytes] = {}
    if len(data) < 12 or not data[0] & 0x10:
        return found
    at = 12 + 4 * (data[0] & 0x0F)
    if at + 4 > len(data):
        return found
    profile, words = unpack_from("!HH", data, at)
    body, at = data[at + 4 : at + 4 + 4 * words], 0
    is_short = profile == _ONE_BYTE
    if not is_short and profile & 0xFFF0 != _TWO_BYTE:
        return found
    while at + 1 < len(body):
        if body[at] == 0:  # padding
            at += 1
            continue
        identifier, length, head = (
            (body[at] >> 4, (body[at] & 15) + 1, 1) if is_short else (body[at], body[at + 1], 2)
        )
        if is_short and identifier == 15:
            break
        found[identifier] = body[at + head : at + head + length]
        at += head + length
    return found


def summary(data: bytes) -> str:
    """One line about a datagram, for people."""
    kind = kind_of(data)
    if kind is Kind.STUN:
        stun = Stun.read(data)
        words = {
            StunClass.REQUEST: "Binding request" + (", USE-CANDIDATE" if stun.nominates else ""),
            StunClass.INDICATION: "Binding indication",
            StunClass.SUCCESS: "Binding success",
            StunClass.ERROR: f"Binding error {stun.error}",
        }
        return words[stun.stun_class]
    if kind is Kind.DTLS:
        return " + ".join(dict.fromkeys(_about_record(record) for record in dtls_records(data))) or "DTLS"
    if kind is Kind.RTP:
        rtp = Rtp.read(data)
        return "RTP, cut" if rtp is None else f"RTP {rtp.payload_type}, seq {rtp.sequence}, ts {rtp.timestamp}"
    if kind is Kind.RTCP:
        return {200: "RTCP sender report", 201: "RTCP receiver report"}.get(data[1], f"RTCP {data[1]}")
    return f"{len(data)} bytes of something else"


def _about_record(record: DtlsRecord) -> str:
    alert = clear_alert(record)
    if alert is not None:
        return f"alert {alert[1]}"
    if record.content == 22 and record.epoch == 0:
        return " + ".join(dict.fromkeys(piece.name for piece in handshake_fragments(record))) or "handshake"
    if record.content is None:
        return "encrypted handshake" if record.epoch == 2 else "encrypted data"
    return {20: "ChangeCipherSpec", 21: "encrypted alert", 22: "Finished", 23: "encrypted data"}.get(
        record.content, f"DTLS record {record.content}"
    )
