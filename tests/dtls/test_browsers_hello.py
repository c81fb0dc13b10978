"""The first datagrams of real browsers, in both orders (`tests/vectors/dtls-client-hellos.txt`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.core.counters import Counters
from stack.dtls import DtlsEndpoint, DtlsRole, NamedGroup, SrtpProfile, Version
from stack.dtls.messages import ClientHello, HandshakeType, ServerHello
from stack.dtls.reassembly import Fragment, Reassembler
from stack.dtls.record import RecordLayer
from tests.sim.certificates import config
from tests.sim.entropy import entropy

VECTORS = Path(__file__).parent.parent / "vectors" / "dtls-client-hellos.txt"


def hello_datagrams(browser: str) -> list[bytes]:
    lines = [line.split() for line in VECTORS.read_text().splitlines() if not line.startswith("#")]
    return [bytes.fromhex(data) for name, data in lines if name == browser]


def messages_of(datagrams: list[bytes]) -> list[tuple[int, bytes]]:
    """The plaintext handshake messages in some datagrams."""
    records, reassembler = RecordLayer(Counters()), Reassembler()
    messages = []
    for data in datagrams:
        for record in records.open(data, 0.0):
            for fragment in Fragment.parse_all(record.payload):
                reassembler.add(fragment, 0)
        while (message := reassembler.pop()) is not None:
            messages.append((message.msg_type, message.body))
    return messages


@pytest.mark.parametrize("browser", ["chromium", "firefox"])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("version", [Version.DTLS_1_2, Version.DTLS_1_3])
def test_a_server_answers_in_either_order(browser: str, backwards: bool, version: Version) -> None:
    datagrams = hello_datagrams(browser)
    assert len(datagrams) == 2
    server = DtlsEndpoint(DtlsRole.SERVER, config(DtlsRole.SERVER, max_version=version), entropy(1))
    first, second = reversed(datagrams) if backwards else datagrams
    server.handle_datagram(first, 0.0)
    assert server.drain_transmits() == []
    server.handle_datagram(second, 0.0)
    answer = list(server.drain_transmits())
    assert answer
    assert max(map(len, answer)) <= 1200
    assert server.drain_events() == []
    assert server.version is version
    assert server.srtp_profile is SrtpProfile.AEAD_AES_128_GCM
    hybrid = version is Version.DTLS_1_3
    assert server.group is (NamedGroup.X25519MLKEM768 if hybrid else NamedGroup.X25519)
    assert server.negotiated.alpn == (b"webrtc" if browser == "firefox" else None)
    kind, body = messages_of(answer)[0]
    assert kind == HandshakeType.SERVER_HELLO
    assert ServerHello.parse(body).cipher_suite == server.cipher_suite
    # Copies that the network made are not answered; a repeated ClientHello is, with the same flight.
    for data in datagrams:
        server.handle_datagram(data, 0.001)
    assert server.drain_transmits() == []
    for data in datagrams:
        server.handle_datagram(data, 0.1)
    assert list(map(len, server.drain_transmits())) == list(map(len, answer))


@pytest.mark.parametrize("browser", ["chromium", "firefox"])
def test_a_client_hello_is_written_as_it_was_read(browser: str) -> None:
    ((kind, body),) = messages_of(hello_datagrams(browser))
    assert kind == HandshakeType.CLIENT_HELLO
    assert ClientHello.parse(body).serialize() == body
