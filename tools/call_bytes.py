"""Bytes with what they mean beside them, for the pages of *Learn*."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from stack.core.srtp_profile import SrtpProfile
from stack.dtls import NamedGroup
from stack.dtls.extensions import ExtensionType, UseSrtp, parse_alpn
from stack.dtls.messages import HandshakeType
from stack.dtls.record import ContentType
from stack.dtls.suites import CipherSuite, Version
from stack.stun import Message, Method

PER_LINE = 8
"""Bytes in a line."""
LONG = 24
"""A value with more bytes is shown by its first two lines."""

EXTENSION_TEXTS = {
    ExtensionType.SUPPORTED_GROUPS: "the groups for the key exchange",
    ExtensionType.SIGNATURE_ALGORITHMS: "the kinds of signature that it can check",
    ExtensionType.USE_SRTP: "how the sound may be protected (RFC 5764)",
    ExtensionType.SUPPORTED_VERSIONS: "the versions",
    ExtensionType.KEY_SHARE: "its half of the key exchange",
    ExtensionType.EXTENDED_MASTER_SECRET: "for 1.2: the keys depend on the whole handshake",
    ExtensionType.RENEGOTIATION_INFO: "for 1.2: this is a first handshake",
    ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION: "the protocol inside (RFC 8833)",
    ExtensionType.EC_POINT_FORMATS: "for 1.2: points are not compressed",
}


class Row(NamedTuple):
    """Some bytes and their meaning."""

    data: bytes
    text: str


class Walk:
    """Takes a datagram apart from its beginning."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self.rows: list[Row] = []

    @property
    def left(self) -> int:
        """How many bytes have not been taken."""
        return len(self._data) - self._position

    def take(self, size: int, text: str) -> bytes:
        """Take bytes that mean `text`, in which `{}` stands for them as a number."""
        data = self._data[self._position : self._position + size]
        self._position += size
        self.rows.append(Row(data, text.format(int.from_bytes(data, "big"))))
        return data

    def number(self, size: int, text: str) -> int:
        """Take a number."""
        return int.from_bytes(self.take(size, text), "big")

    def relabel(self, text: str) -> None:
        """Say what the latest bytes mean, now that they have been looked at."""
        self.rows[-1] = Row(self.rows[-1].data, text)

    def rest(self, text: str) -> bytes:
        """Take what is left, if anything is."""
        return self.take(self.left, text) if self.left else b""


def show(rows: list[Row], skip: int = 0) -> str:
    """Return the rows as text: offset, bytes, meaning; without the first `skip` of them."""
    return "\n".join(_lines(rows[skip:], sum(len(row.data) for row in rows[:skip])))


def _lines(rows: list[Row], offset: int) -> Iterator[str]:
    for data, text in rows:
        shown = data if len(data) <= LONG else data[: 2 * PER_LINE]
        for start in range(0, len(shown), PER_LINE):
            part = shown[start : start + PER_LINE].hex(" ")
            yield f"{offset + start:4}  {part:{3 * PER_LINE}} {text if not start else ''}".rstrip()
        if len(shown) < len(data):
            yield f"      … {len(data) - len(shown)} more"
        offset += len(data)


def stun(data: bytes) -> list[Row]:
    """RFC 8489 §5 and §14."""
    message = Message.parse(data)
    walk = Walk(data)
    walk.take(2, f"a {message.message_class.name.lower().replace('_', ' ')}, method {Method(message.method).name}")
    walk.take(2, "{} bytes follow the header")
    walk.take(4, "the magic cookie: this is STUN")
    walk.take(12, "transaction id: the response repeats it")
    by_type = {attribute.TYPE: attribute for attribute in message.attributes}
    texts = {
        0x0006: lambda value: f"USERNAME: {value.decode()}",
        0x0008: lambda _: "MESSAGE-INTEGRITY: HMAC-SHA1 by the password",
        0x8028: lambda _: "FINGERPRINT: CRC-32 of all before it",
        0x0020: lambda _: f"XOR-MAPPED-ADDRESS: {_address(by_type[0x0020])}",
        0x0024: lambda value: f"PRIORITY {int.from_bytes(value, 'big')}",
        0x802A: lambda _: "ICE-CONTROLLING, and a number that settles a tie",
        0x0025: lambda _: "USE-CANDIDATE: this path it shall be",
    }
    while walk.left:
        kind, size = (
            int.from_bytes(data[at : at + 2], "big") for at in (len(data) - walk.left, len(data) - walk.left + 2)
        )
        value = data[len(data) - walk.left + 4 :][:size]
        text = texts.get(kind, lambda _, kind=kind: f"attribute {kind:#06x}")(value)
        walk.take(4, f"attribute {kind:#06x}, {size} bytes" + ("" if size else f": {text}"))
        if size:
            walk.take(size + -size % 4, text)
    return walk.rows


def _address(attribute: object) -> str:
    return str(getattr(attribute, "address", attribute))


def dtls_plaintext(data: bytes) -> list[Row]:
    """A record of epoch 0 with one handshake message (RFC 9147 §4 and §5.2)."""
    walk = Walk(data)
    _record_header(walk)
    kind = HandshakeType(walk.number(1, ""))
    walk.relabel(f"handshake message: {_name(kind)}")
    walk.take(3, "{} bytes long")
    walk.take(2, "message number {}")
    walk.take(3, "this piece of it begins at {}")
    walk.take(3, "and has {} bytes: it is whole")
    walk.take(2, "version field of 1.2; the real one is below")
    walk.take(32, "random")
    walk.take(walk.number(1, "session id: {} bytes") or 0, "")
    _drop_empty(walk)
    if kind is HandshakeType.CLIENT_HELLO:
        walk.take(walk.number(1, "cookie: {} bytes") or 0, "")
        _drop_empty(walk)
        for _ in range(walk.number(2, "cipher suites: {} bytes") // 2):
            walk.take(2, "")
            number = int.from_bytes(walk.rows[-1].data, "big")
            walk.relabel(f"  {CipherSuite(number).name}")
        walk.take(walk.number(1, "compression methods: {} byte"), "  none")
    else:
        suite = int.from_bytes(walk.take(2, ""), "big")
        walk.relabel(f"cipher suite: {CipherSuite(suite).name}")
        walk.take(1, "compression: none")
    walk.take(2, "extensions: {} bytes")
    while walk.left:
        number = int.from_bytes(walk.take(2, ""), "big")
        kind_text = EXTENSION_TEXTS.get(ExtensionType(number), "")
        walk.relabel(f"{_name(ExtensionType(number))}: {kind_text}")
        size = walk.number(2, "  length {}")
        if size:
            value = walk.take(size, "")
            walk.relabel(f"  {_extension_value(number, value)}")
    return walk.rows


def _record_header(walk: Walk) -> None:
    content_type = ContentType(walk.number(1, ""))
    walk.relabel(f"record: {_name(content_type)}")
    walk.take(2, "version field, kept at an old value")
    walk.take(2, "epoch {}: not encrypted yet")
    walk.take(6, "record number {}")
    walk.take(2, "{} bytes follow")


def _drop_empty(walk: Walk) -> None:
    if not walk.rows[-1].data:
        walk.rows.pop()


def _name(member: HandshakeType | ContentType | ExtensionType) -> str:
    return member.name.lower()


def _extension_value(number: int, value: bytes) -> str:
    if number == ExtensionType.SUPPORTED_VERSIONS:
        body = value[1:] if len(value) % 2 else value
        versions = (Version(int.from_bytes(body[at : at + 2], "big")).label for at in range(0, len(body), 2))
        return ", ".join(versions)
    if number == ExtensionType.SUPPORTED_GROUPS:
        groups = (NamedGroup(int.from_bytes(value[at : at + 2], "big")).name for at in range(2, len(value), 2))
        return ", ".join(groups)
    if number == ExtensionType.KEY_SHARE:
        start = 2 if int.from_bytes(value[:2], "big") == len(value) - 2 else 0
        return f"a public key on {NamedGroup(int.from_bytes(value[start : start + 2], 'big')).name}"
    if number == ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION:
        return ", ".join(name.decode() for name in parse_alpn(value))
    if number == ExtensionType.USE_SRTP:
        return ", ".join(SrtpProfile(profile).name for profile in UseSrtp.parse(value).profiles)
    return ""


def dtls_protected(data: bytes, sequence: int) -> list[Row]:
    """A record of 1.3 as it travels (RFC 9147 §4)."""
    walk = Walk(data)
    first = data[0]
    walk.take(1, f"001 0 1 1 {first & 3:02b}: protected, with length, epoch {first & 3}")
    walk.take(2, f"record number {sequence}, encrypted, too")
    size = walk.number(2, "{} bytes follow")
    walk.take(size - 16, "encrypted: the content and its type")
    walk.take(16, "tag: these bytes are the sender's, unchanged")
    return walk.rows


def srtp(data: bytes, extensions: dict[int, str], tag: int = 16) -> list[Row]:
    """An SRTP packet: RTP's header in the clear (RFC 3550 §5.1, RFC 8285), the payload sealed (RFC 7714)."""
    walk = Walk(data)
    rtp_header(walk, extensions)
    walk.take(walk.left - tag, "encrypted payload")
    walk.take(tag, "tag, over header and payload")
    return walk.rows


def rtp_header(walk: Walk, extensions: dict[int, str]) -> None:
    """Take the header of an RTP packet."""
    first = walk.number(1, "")
    has = "a header extension" if first & 0x10 else "no header extension"
    walk.relabel(f"version 2, {has}")
    second = walk.number(1, "")
    marker = "marker: the first after silence; " if second & 0x80 else ""
    walk.relabel(f"{marker}payload type {second & 0x7F}")
    walk.take(2, "sequence number {}")
    walk.take(4, "timestamp {}, in 1/48000 s")
    walk.take(4, "SSRC {}: whose stream this is")
    if not first & 0x10:
        return
    walk.take(2, "one-byte header extensions")
    left = 4 * walk.number(2, "{} words of four bytes")
    while left > 0:
        head = walk.number(1, "")
        number, size = head >> 4, (head & 15) + 1
        if not head:
            walk.relabel("padding")
            left -= 1
            continue
        walk.relabel(f"extension {number}, {size} byte{'s' if size > 1 else ''}")
        walk.take(size, f"  {extensions.get(number, 'unknown')}")
        left -= 1 + size


def opened_payload(payload: bytes, is_red: bool) -> list[Row]:
    """The payload of an RTP packet without its protection: Opus (RFC 6716 §3.1), perhaps inside RED (RFC 2198)."""
    walk = Walk(payload)
    earlier: list[int] = []
    while is_red and payload[len(payload) - walk.left] & 0x80:
        word = walk.number(4, "")
        offset, size = word >> 10 & 0x3FFF, word & 0x3FF
        text = f"an earlier frame: type {word >> 24 & 0x7F}, {offset} ticks before, {size} bytes"
        walk.relabel(text)
        earlier.append(size)
    if is_red:
        kind = walk.number(1, "")
        walk.relabel(f"then the present one, of type {kind & 0x7F}")
    for size in earlier:
        walk.take(size, "the earlier frame again")
    toc = walk.number(1, "")
    walk.relabel(f"Opus: {describe_toc(toc)}")
    walk.rest("20 ms of sound")
    return walk.rows


def describe_toc(toc: int) -> str:
    """Say what the first byte of an Opus packet says (RFC 6716 §3.1)."""
    config, frames = toc >> 3, {0: "one frame", 1: "two frames", 2: "two frames", 3: "several frames"}[toc & 3]
    mode = "SILK" if config < 12 else "hybrid" if config < 16 else "CELT"
    band = ("narrow", "medium", "wide")[config // 4] if config < 12 else ""
    if 12 <= config < 16:
        band = ("super-wide", "full")[(config - 12) // 2]
    elif config >= 16:
        band = ("narrow", "wide", "super-wide", "full")[(config - 16) // 4]
    return f"{mode}, {band}band, {'stereo' if toc & 4 else 'mono'}, {frames}"


def rtcp(data: bytes) -> list[Row]:
    """A compound: the sender report whole (RFC 3550 §6.4.1), of the others their type."""
    walk = Walk(data)
    while walk.left:
        first = walk.number(1, "")
        kind = walk.number(1, "")
        name = {200: "sender report", 202: "source description", 203: "goodbye", 205: "feedback", 207: "XR"}[kind]
        what = "reports" if kind == 200 else "sources" if kind in (202, 203) else "format"
        walk.rows[-2:] = [Row(bytes((first, kind)), f"{name}; {what}: {first & 31}")]
        size = 4 * walk.number(2, "words that follow: {}")
        if kind == 200:
            walk.take(4, "SSRC of the sender")
            walk.take(8, "the wall clock, NTP format, when …")
            walk.take(4, "… the RTP clock said {}")
            walk.take(4, "{} packets sent")
            walk.take(4, "{} bytes of payload")
            size -= 24
            while size >= 24:
                walk.take(4, "about SSRC {}:")
                walk.take(1, "  lost since the last report: {}/256")
                walk.take(3, "  lost in all: {}")
                walk.take(4, "  highest sequence number, with wraps: {}")
                walk.take(4, "  jitter: {} ticks")
                walk.take(4, "  the last report from there …")
                walk.take(4, "  … came {}/65536 s ago")
                size -= 24
        elif kind == 203:
            walk.take(4, "SSRC {} says goodbye")
            size -= 4
        if size:
            walk.take(size, {202: "CNAME", 207: "receiver reference time (RFC 3611)"}.get(kind, "its content"))
    return walk.rows


CHUNKS = {0: "DATA", 1: "INIT", 2: "INIT ACK", 3: "SACK", 10: "COOKIE ECHO", 11: "COOKIE ACK", 64: "I-DATA"}
PROTOCOLS = {50: "DCEP", 51: "text", 53: "binary"}


def sctp(data: bytes) -> list[Row]:
    """An SCTP packet (RFC 9260 §3) and what DCEP says in it (RFC 8832 §5)."""
    walk = Walk(data)
    walk.take(2, "from port {}")
    walk.take(2, "to port {}")
    if walk.number(4, "verification tag: the peer's, from its INIT") == 0:
        walk.relabel("verification tag: none, the peer's is not known yet")
    checksum = walk.number(4, "")
    text = "checksum: none, DTLS has one that is better (RFC 9653)" if not checksum else "checksum: CRC32c"
    walk.relabel(text)
    while walk.left:
        _chunk(walk)
    return walk.rows


def _chunk(walk: Walk) -> None:
    kind = walk.number(1, "")
    walk.relabel(f"chunk: {CHUNKS.get(kind, kind)}")
    walk.take(1, "flags: first and last piece of its message" if kind in (0, 64) else "flags")
    size = walk.number(2, "{} bytes")
    left = size - 4
    if kind in (1, 2):
        walk.take(4, "the tag that is to be written on packets to me")
        walk.take(4, "my receive window: {} bytes")
        walk.take(2, "I may send on {} streams")
        walk.take(2, "you may send on {}")
        walk.take(4, "my first chunk will have the TSN {}")
        left -= 16
        text = "parameters: what else I can do"
    elif kind == 64:
        walk.take(4, "TSN {}: the number of this chunk")
        walk.take(2, "stream {}")
        walk.take(2, "reserved")
        walk.take(4, "message {} of this stream")
        protocol = walk.number(4, "")
        walk.relabel(f"payload protocol {protocol}: {PROTOCOLS[protocol]}")
        left -= 16
        if protocol == 50:
            _dcep(walk, left)
            walk.take(-size % 4, "padding")
            _drop_empty(walk)
            return
        text = "the message"
    elif kind == 3:
        walk.take(4, "all chunks up to TSN {} are here")
        walk.take(4, "and there is room for {} bytes")
        left -= 8
        text = "gaps, duplicates"
    else:
        text = "cookie" if kind == 10 else "value"
    walk.take(left + -size % 4, text)
    _drop_empty(walk)


def _dcep(walk: Walk, size: int) -> None:
    if walk.number(1, "") == 2:
        walk.relabel("DCEP: the channel is open here, too")
        return
    walk.relabel("DCEP: open a channel")
    walk.take(1, "reliable, in order")
    walk.take(2, "priority {}")
    walk.take(4, "reliability parameter: none")
    label = walk.number(2, "its label has {} bytes,")
    walk.take(2, "its protocol {}")
    walk.take(label, "the label")
    walk.take(size - 12 - label, "the protocol")
    _drop_empty(walk)
