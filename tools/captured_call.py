"""Open a recorded call: the datagrams of its capture, and with its key log what is encrypted in them.

Nothing is taken from the call's own machines: a reader of the capture does the same. Only what our calls over
loopback use is understood: IPv4, DTLS 1.3, SRTP with AES-GCM.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from struct import unpack_from

from stack.core.errors import ParseError
from stack.core.srtp_profile import SrtpProfile
from stack.dtls.keys13 import Keys13
from stack.dtls.messages import HandshakeType, ServerHello
from stack.dtls.reassembly import Fragment
from stack.dtls.record import PLAINTEXT_HEADER_LENGTH, ContentType, Protection13
from stack.dtls.suites import SUITES, CipherSuite, SuiteParameters
from stack.session.demux import Kind, classify
from stack.srtp import SrtpContext, keying_material_length, split_keying_material
from tools.record_call import RecordedCall

_PCAP_HEADER, _PACKET_HEADER, _IP_UDP_HEADER = 24, 16, 28
_UNIFIED_HEADER = 5
_HANDSHAKE_EPOCH, _APPLICATION_EPOCH = 2, 3
_EXPORTER_LABEL = b"EXTRACTOR-dtls_srtp"
PROFILE = SrtpProfile.AEAD_AES_128_GCM


class Sender(Enum):
    """Who sent a datagram."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def arrow(self) -> str:
        """The direction, the client on the left."""
        return "→" if self is Sender.CLIENT else "←"


@dataclass(frozen=True, slots=True)
class OpenedRecord:
    """A DTLS record: its bytes as they travelled, and what was in it. `epoch` 0 is not encrypted."""

    wire: bytes
    epoch: int
    sequence: int
    content_type: ContentType
    payload: bytes


@dataclass(frozen=True, slots=True)
class Datagram:
    """A datagram of the capture; `at_ms` since the first one."""

    number: int
    at_ms: float
    sender: Sender
    data: bytes
    kind: Kind
    records: tuple[OpenedRecord, ...] = ()
    plain: bytes = b""
    """Of SRTP and SRTCP: the packet without its protection."""


@dataclass(slots=True)
class _Secrets:
    """The lines of the key log, by label."""

    by_label: dict[str, bytes]
    suite: SuiteParameters | None = None
    protections: dict[tuple[Sender, int], Protection13] = field(default_factory=dict)
    contexts: dict[Sender, SrtpContext] = field(default_factory=dict)

    def agree(self, suite: SuiteParameters) -> None:
        """The ServerHello has named the suite: make what opens each epoch and the media."""
        self.suite = suite
        keys = Keys13(suite, b"", b"")
        for sender, side in ((Sender.CLIENT, "CLIENT"), (Sender.SERVER, "SERVER")):
            handshake = self.by_label[f"{side}_HANDSHAKE_TRAFFIC_SECRET"]
            application = self.by_label[f"{side}_TRAFFIC_SECRET_0"]
            self.protections[sender, _HANDSHAKE_EPOCH] = keys.protection(handshake)
            self.protections[sender, _APPLICATION_EPOCH] = keys.protection(application)
        keys.exporter = self.by_label["EXPORTER_SECRET"]
        material = keys.export(_EXPORTER_LABEL, None, keying_material_length(PROFILE))
        for sender, reader_is_client in ((Sender.CLIENT, False), (Sender.SERVER, True)):
            self.contexts[sender] = SrtpContext(
                PROFILE, *split_keying_material(PROFILE, material, reader_is_client)
            )


def read_pcap(data: bytes) -> Iterator[tuple[float, int, bytes]]:
    """Yield time in seconds, source port and payload of each UDP datagram (IPv4 in a raw capture)."""
    position = _PCAP_HEADER
    while position < len(data):
        seconds, fraction, length, _ = unpack_from("<IIII", data, position)
        packet = data[position + _PACKET_HEADER : position + _PACKET_HEADER + length]
        yield seconds + fraction / 1e6, unpack_from("!H", packet, 20)[0], packet[_IP_UDP_HEADER:]
        position += _PACKET_HEADER + length


def open_call(call: RecordedCall) -> list[Datagram]:
    """Return every datagram of a call, opened; `ParseError` if one does not open with the call's keys."""
    lines = (line.split() for line in call.keys.splitlines())
    secrets = _Secrets({label: bytes.fromhex(secret) for label, _, secret in lines})
    found: list[Datagram] = []
    begun, client = 0.0, None
    for number, (at, port, data) in enumerate(read_pcap(call.pcap), 1):
        if client is None:
            begun, client = at, port  # the client checks first: the server is lite
        sender = Sender.CLIENT if port == client else Sender.SERVER
        kind = classify(data)
        records: tuple[OpenedRecord, ...] = ()
        plain = b""
        if kind is Kind.DTLS:
            records = tuple(_open_records(data, sender, secrets))
        elif kind is Kind.RTP:
            plain = secrets.contexts[sender].unprotect(data)
        elif kind is Kind.RTCP:
            plain = secrets.contexts[sender].unprotect_rtcp(data)
        found.append(Datagram(number, round((at - begun) * 1e3, 1), sender, data, kind, records, plain))
    return found


def _open_records(data: bytes, sender: Sender, secrets: _Secrets) -> Iterator[OpenedRecord]:
    position = 0
    while position < len(data):
        if data[position] >> 5 == 1:  # 001: the header of 1.3
            record = _open_protected(data, position, sender, secrets)
        else:
            record = _read_plaintext(data, position)
            for fragment in Fragment.parse_all(record.payload):
                if fragment.msg_type == HandshakeType.SERVER_HELLO:
                    secrets.agree(SUITES[CipherSuite(ServerHello.parse(fragment.body).cipher_suite)])
        position += len(record.wire)
        yield record


def _read_plaintext(data: bytes, position: int) -> OpenedRecord:
    kind, _, epoch, high, low, length = unpack_from("!BHHHIH", data, position)
    end = position + PLAINTEXT_HEADER_LENGTH + length
    payload = data[position + PLAINTEXT_HEADER_LENGTH : end]
    return OpenedRecord(data[position:end], epoch, high << 32 | low, ContentType(kind), payload)


def _open_protected(data: bytes, position: int, sender: Sender, secrets: _Secrets) -> OpenedRecord:
    """Take off sequence number encryption (RFC 9147 §4.2.3), then the AEAD (§4.2.4)."""
    first, sequence, length = unpack_from("!BHH", data, position)
    end = position + _UNIFIED_HEADER + length
    body = data[position + _UNIFIED_HEADER : end]
    epoch = first & 3  # a call this short does not reach epoch 4, whose low bits are those of 0
    protection = secrets.protections.get((sender, epoch))
    if protection is None:
        raise ParseError(f"no keys for epoch {epoch}")
    mask = protection.mask(body[:16])
    sequence ^= mask[0] << 8 | mask[1]
    header = bytes((first,)) + sequence.to_bytes(2, "big") + length.to_bytes(2, "big")
    inner = protection.open(sequence, header, body).rstrip(b"\0")
    return OpenedRecord(data[position:end], epoch, sequence, ContentType(inner[-1]), inner[:-1])
