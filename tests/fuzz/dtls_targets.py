"""What is fuzzed of DTLS: each target takes any bytes and raises nothing but `AssertionError`.

The state machines are not fed with noise alone, which their first checks would stop: the bytes are a script that
delivers, drops, repeats, cuts and alters the datagrams of a real handshake and lets time pass.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from stack.core.counters import Counters
from stack.core.errors import ParseError
from stack.dtls import DtlsEndpoint, DtlsRole, NamedGroup, Version
from stack.dtls.alerts import HandshakeFailure
from stack.dtls.certificate import peer_public_key
from stack.dtls.der import read_certificate
from stack.dtls.endpoint import DtlsEndpointState
from stack.dtls.keys12 import Keys12
from stack.dtls.keys13 import Keys13
from stack.dtls.messages import CertificateVerify, ClientHello, ServerHello
from stack.dtls.messages12 import (
    Certificate12,
    CertificateRequest12,
    ClientKeyExchange,
    HelloVerifyRequest,
    ServerKeyExchange,
)
from stack.dtls.messages13 import Ack, Certificate13, CertificateRequest13, EncryptedExtensions, KeyUpdate
from stack.dtls.reassembly import MAX_AHEAD, MAX_BUFFERED, MAX_MESSAGE_LENGTH, Fragment, Reassembler
from stack.dtls.record import MAX_DEFERRED_RECORDS, MAX_RECORDS_PER_DATAGRAM, RecordLayer
from stack.dtls.suites import SUITES, CipherSuite
from tests.sim.certificates import SERVER_CERTIFICATE, config
from tests.sim.entropy import entropy

MESSAGES: tuple[Any, ...] = (
    Ack,
    Certificate12,
    Certificate13,
    CertificateRequest12,
    CertificateRequest13,
    CertificateVerify,
    ClientHello,
    ClientKeyExchange,
    EncryptedExtensions,
    HelloVerifyRequest,
    KeyUpdate,
    ServerHello,
    ServerKeyExchange,
)
VERSIONS = (Version.DTLS_1_2, Version.DTLS_1_3)
MAX_STEPS = 64


def records(data: bytes) -> None:
    """The record layer, in plaintext and with keys of each version; the first byte chooses."""
    if not data:
        return
    counters = Counters()
    layer = RecordLayer(counters)
    if data[0] & 1:
        layer.set_version(Version.DTLS_1_2)
        suite = SUITES[CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]
        layer.install_read_epoch(1, Keys12(suite, bytes(48), bytes(32), bytes(32)).protections()[0])
    elif data[0] & 2:
        layer.set_version(Version.DTLS_1_3)
        keys = Keys13(SUITES[CipherSuite.TLS_AES_128_GCM_SHA256], bytes(32), bytes(32))
        layer.install_read_epoch(2, keys.protection(keys.client_handshake))
    try:
        opened = list(layer.open(data[1:], 0.0))
    except HandshakeFailure:
        return
    assert len(opened) <= MAX_RECORDS_PER_DATAGRAM
    assert sum(len(record.payload) for record in opened) <= len(data)
    assert len(layer.take_deferred()) <= MAX_DEFERRED_RECORDS


def messages(data: bytes) -> None:
    """Each message's parser; the first byte chooses. What is parsed and written again is the same message."""
    if not data:
        return
    kind = MESSAGES[data[0] % len(MESSAGES)]
    try:
        message = kind.parse(data[1:])
    except ParseError:
        return
    if kind is not Certificate13:  # whose extensions are read and never sent
        assert kind.parse(message.serialize()) == message


def fragments(data: bytes) -> None:
    """Reassembly: the bytes are handshake records behind one-byte lengths."""
    reassembler = Reassembler()
    while data:
        size, record, data = data[0], data[1 : 1 + data[0]], data[1 + data[0] :]
        assert len(record) <= size
        try:
            for fragment in Fragment.parse_all(record):
                reassembler.add(fragment, 0)
                assert len(reassembler._partials) <= MAX_AHEAD
                # The message that is due is held beyond the budget, with the notes about its pieces.
                assert reassembler._buffered <= MAX_BUFFERED + 2 * MAX_MESSAGE_LENGTH
            while reassembler.pop() is not None:
                pass
        except (HandshakeFailure, ParseError):
            return


def certificates(data: bytes) -> None:
    """A peer's certificate: any bytes, and one of ours with a part of it replaced by them."""
    whole = SERVER_CERTIFICATE.der
    where = int.from_bytes(data[:2], "big") % len(whole)
    for der in (data, whole[:where] + data[2:] + whole[where + len(data[2:]) :]):
        with suppress(ParseError):
            assert read_certificate(der).public_key_info in der
        with suppress(HandshakeFailure):
            peer_public_key(der)


class _Script:
    """A handshake between two of our endpoints, and who does what to its datagrams."""

    def __init__(self, choice: int) -> None:
        version, group = VERSIONS[choice & 1], (NamedGroup.X25519,)
        common: dict[str, Any] = {"min_version": version, "max_version": version, "groups": group}
        common |= {"mtu": 300 if choice & 2 else 1200, "cookie": bool(choice & 4)}
        self.ends = {role: DtlsEndpoint(role, config(role, **common), entropy(choice)) for role in DtlsRole}
        self.now = 0.0
        self.wire: list[tuple[DtlsRole, bytes]] = []
        self.history: list[tuple[DtlsRole, bytes]] = []
        for end in self.ends.values():
            end.start(self.now)
        self.collect()

    def collect(self) -> None:
        for role, end in self.ends.items():
            end.drain_events()
            for datagram in end.drain_transmits():
                self.wire.append((DtlsRole.SERVER if role is DtlsRole.CLIENT else DtlsRole.CLIENT, datagram))
        del self.wire[:-MAX_STEPS]

    def deliver(self, role: DtlsRole, datagram: bytes) -> None:
        self.history.append((role, datagram))
        self.ends[role].handle_datagram(datagram, self.now)

    def step(self, verb: int, where: int, value: int, noise: bytes) -> None:
        """Do one thing; `where` and `value` are bytes that say to which part and with what."""
        verb %= 8
        if verb == 7:
            self.now += value / 8
            for end in self.ends.values():
                if (at := end.poll_timeout()) is not None and at <= self.now:
                    end.handle_timeout(self.now)
        elif verb == 6:
            self.deliver((DtlsRole.CLIENT, DtlsRole.SERVER)[where & 1], noise)
        elif verb == 5 and self.history:
            self.deliver(*self.history[where % len(self.history)])
        elif self.wire:
            role, datagram = self.wire.pop(0)
            at = where * len(datagram) // 256
            if verb == 1:
                datagram = datagram[:at]
            elif verb == 2 and datagram:
                datagram = datagram[:at] + bytes((value,)) + datagram[at + 1 :]
            elif verb == 3:
                datagram = datagram[:at] + noise + datagram[at:]
            if verb != 4:
                self.deliver(role, datagram)
        self.collect()


def machines(data: bytes) -> None:
    """Both state machines in both versions: a first byte of settings, then steps of three bytes and some noise."""
    if not data:
        return
    script = _Script(data[0])
    data = data[1:]
    for _ in range(MAX_STEPS):
        if len(data) < 3:
            break
        verb, where, value = data[:3]
        noise_length = value & 31
        script.step(verb, where, value, data[3 : 3 + noise_length])
        data = data[3 + (noise_length if verb % 8 in (3, 6) else 0) :]
    for end in script.ends.values():
        layer = end._layer
        assert len(layer._reassembler._partials) <= MAX_AHEAD
        assert len(layer.records._deferred) <= MAX_DEFERRED_RECORDS
        assert end.state in DtlsEndpointState
        if end.state is DtlsEndpointState.FAILED:
            assert end.poll_timeout() is None


TARGETS: dict[str, Callable[[bytes], None]] = {
    "dtls_records": records,
    "dtls_messages": messages,
    "dtls_fragments": fragments,
    "dtls_certificates": certificates,
    "dtls_machines": machines,
}
