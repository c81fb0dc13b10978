"""Peers that break the rules: whatever arrives, nothing is raised, memory stays bounded, and alerts are right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.core.counters import Counters
from stack.core.errors import ParseError
from stack.dtls import (
    AlertDescription,
    DtlsEndpoint,
    DtlsEndpointState,
    DtlsFailed,
    DtlsFailure,
    DtlsRole,
    HandshakeComplete,
    PeerClosed,
    Version,
)
from stack.dtls.client_hello import ClientHelloBuilder
from stack.dtls.endpoint import MAX_HANDSHAKE_BYTES, MAX_WARNING_ALERTS, UNAUTHENTICATED_ALERT_AFTER
from stack.dtls.extensions import ExtensionType, u16_list16
from stack.dtls.messages import CertificateVerify, ClientHello, HandshakeType, ServerHello
from stack.dtls.messages12 import (
    Certificate12,
    CertificateRequest12,
    ClientKeyExchange,
    HelloVerifyRequest,
    ServerKeyExchange,
)
from stack.dtls.messages13 import Ack, Certificate13, CertificateRequest13, EncryptedExtensions, KeyUpdate
from stack.dtls.post13 import MAX_UPDATES_WITHOUT_DATA
from stack.dtls.reassembly import Fragment, Reassembler
from stack.dtls.record import ContentType, RecordLayer, RecordNumber
from tests.sim.certificates import config
from tests.sim.dtls import DtlsPair
from tests.sim.entropy import entropy

V12, V13 = Version.DTLS_1_2, Version.DTLS_1_3
MESSAGES = (
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


class Plaintext:
    """A peer that writes epoch 0 by hand."""

    def __init__(self) -> None:
        self._records = RecordLayer(Counters())

    def record(self, kind: int, payload: bytes) -> bytes:
        return self._records.seal(kind, payload, 0)[1]

    def message(self, kind: int, body: bytes, seq: int = 0) -> bytes:
        return self.record(ContentType.HANDSHAKE, Fragment(kind, len(body), seq, 0, body).serialize())


def failure(endpoint: DtlsEndpoint) -> tuple[DtlsFailure, int | None]:
    (event,) = [event for event in endpoint.drain_events() if isinstance(event, DtlsFailed)]
    assert endpoint.state is DtlsEndpointState.FAILED
    assert endpoint.poll_timeout() is None
    return event.reason, event.alert


def client_hello(**changes: Any) -> ClientHello:
    return replace(ClientHelloBuilder(config(DtlsRole.CLIENT), entropy(9)).hello, **changes)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=6), st.sampled_from(list(DtlsRole)))
def test_any_datagrams_are_survived(datagrams: list[bytes], role: DtlsRole) -> None:
    endpoint = DtlsEndpoint(role, config(role), entropy(1))
    endpoint.start(0.0)
    for data in datagrams:
        endpoint.handle_datagram(data, 0.0)
        endpoint.handle_timeout(1.0)
        endpoint.drain_transmits()
    assert not any(isinstance(event, HandshakeComplete) for event in endpoint.drain_events())


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(HandshakeType)), st.binary(max_size=200), st.sampled_from(list(DtlsRole)))
def test_any_handshake_message_is_survived(kind: HandshakeType, body: bytes, role: DtlsRole) -> None:
    endpoint = DtlsEndpoint(role, config(role), entropy(1))
    endpoint.start(0.0)
    endpoint.handle_datagram(Plaintext().message(kind, body), 0.0)
    events = endpoint.drain_events()
    assert all(isinstance(event, DtlsFailed) and not event.remote for event in events)


@pytest.mark.parametrize("seed", range(150))
def test_a_handshake_with_flipped_bits_ends_well_or_in_a_failure(seed: int) -> None:
    random = Random(seed)

    def flip(role: DtlsRole, data: bytes, number: int) -> bytes:
        if random.random() < 0.4:
            spoiled = bytearray(data)
            for _ in range(random.randint(1, 4)):
                spoiled[random.randrange(len(spoiled))] ^= 1 << random.randrange(8)
            return bytes(spoiled)
        return data

    version = random.choice((V12, V13))
    pair = DtlsPair({"max_version": version, "mtu": 300}, {"mtu": 300}, seed=seed, filter=flip)
    pair.handshake(100.0)
    done = [any(isinstance(e, HandshakeComplete) for e in pair.events[role]) for role in DtlsRole]
    if all(done):
        label = "EXTRACTOR-dtls_srtp"
        assert pair.client.export_keying_material(label, None, 60) == pair.server.export_keying_material(
            label, None, 60
        )


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(MESSAGES), st.binary(max_size=120))
def test_any_body_is_a_message_or_a_parse_error(message: Any, body: bytes) -> None:
    try:
        parsed = message.parse(body)
    except ParseError:
        return
    assert message.parse(parsed.serialize()) == parsed


ALERT, ILLEGAL, UNEXPECTED = (
    AlertDescription,
    AlertDescription.ILLEGAL_PARAMETER,
    AlertDescription.UNEXPECTED_MESSAGE,
)
WITHOUT_VERSIONS = {k: v for k, v in client_hello().extensions.items() if k != ExtensionType.SUPPORTED_VERSIONS}


def extended(**changes: bytes | None) -> ClientHello:
    """Our ClientHello with extensions replaced or, with None, left out."""
    extensions = dict(client_hello().extensions)
    for name, body in changes.items():
        kind = ExtensionType[name.upper()]
        extensions.pop(kind, None)
        if body is not None:
            extensions[kind] = body
    return client_hello(extensions=extensions)


@pytest.mark.parametrize(
    ("hello", "reason", "alert"),
    [
        (client_hello(cookie=b"x"), DtlsFailure.BAD_COOKIE, ILLEGAL),
        (client_hello(compression_methods=b"\0\1"), DtlsFailure.UNSUPPORTED_COMPRESSION, ILLEGAL),
        (client_hello(cipher_suites=(0x1399,)), DtlsFailure.NO_SHARED_CIPHER, ALERT.HANDSHAKE_FAILURE),
        (extended(supported_versions=b"\2\x7f\x17"), DtlsFailure.UNSUPPORTED_PROTOCOL, ALERT.PROTOCOL_VERSION),
        (extended(supported_versions=b"\1\xfe"), DtlsFailure.BAD_EXTENSION, ALERT.DECODE_ERROR),
        (extended(key_share=None), DtlsFailure.MISSING_KEY_SHARE, ALERT.MISSING_EXTENSION),
        (extended(supported_groups=None), DtlsFailure.MISSING_EXTENSION, ALERT.MISSING_EXTENSION),
        (extended(signature_algorithms=None), DtlsFailure.MISSING_EXTENSION, ALERT.MISSING_EXTENSION),
        (
            extended(signature_algorithms=u16_list16((0x0201,))),
            DtlsFailure.NO_COMMON_SIGNATURE_ALGORITHM,
            ALERT.HANDSHAKE_FAILURE,
        ),
        (extended(supported_groups=u16_list16((256,))), DtlsFailure.NO_SHARED_GROUP, ALERT.HANDSHAKE_FAILURE),
        (extended(key_share=bytes.fromhex("0006 001d 0002 0102")), DtlsFailure.BAD_KEY_SHARE, ILLEGAL),
        (
            extended(key_share=b"\0\x48" + 2 * (b"\0\x1d\0\x20" + bytes(32))),
            DtlsFailure.DUPLICATE_KEY_SHARE,
            ILLEGAL,
        ),
        (extended(key_share=b"\0\x24\0\x1d\0\x20" + bytes(32)), DtlsFailure.BAD_KEY_SHARE, ILLEGAL),
        (extended(use_srtp=b"\0\0\0"), DtlsFailure.BAD_EXTENSION, ALERT.DECODE_ERROR),
        (
            extended(application_layer_protocol_negotiation=b"\0\3\2h2"),
            DtlsFailure.NO_APPLICATION_PROTOCOL,
            ALERT.NO_APPLICATION_PROTOCOL,
        ),
        (extended(certificate_authorities=b"\0\0"), DtlsFailure.BAD_EXTENSION, ALERT.DECODE_ERROR),
        (
            client_hello(extensions=WITHOUT_VERSIONS, cipher_suites=(*client_hello().cipher_suites, 0x5600)),
            DtlsFailure.INAPPROPRIATE_FALLBACK,
            ALERT.INAPPROPRIATE_FALLBACK,
        ),
        (
            client_hello(extensions=WITHOUT_VERSIONS, legacy_version=0xFEFF),
            DtlsFailure.UNSUPPORTED_PROTOCOL,
            ALERT.PROTOCOL_VERSION,
        ),
        (
            client_hello(extensions=WITHOUT_VERSIONS | {ExtensionType.RENEGOTIATION_INFO: b"\1x"}),
            DtlsFailure.RENEGOTIATION_MISMATCH,
            ALERT.HANDSHAKE_FAILURE,
        ),
    ],
)
def test_a_server_refuses_hellos_with_the_right_alert(
    hello: ClientHello, reason: DtlsFailure, alert: AlertDescription
) -> None:
    server = DtlsEndpoint(DtlsRole.SERVER, config(DtlsRole.SERVER, mtu=1200), entropy(1))
    server.handle_datagram(Plaintext().message(HandshakeType.CLIENT_HELLO, hello.serialize()), 0.0)
    assert failure(server) == (reason, alert)
    (sent,) = server.drain_transmits()
    assert sent[-2:] == bytes((2, alert))


def test_the_same_extension_twice_is_refused() -> None:
    body = bytearray(client_hello(extensions={}).serialize())
    body[-2:] = b"\0\x08" + 2 * b"\xff\xff\0\0"
    server = DtlsEndpoint(DtlsRole.SERVER, config(DtlsRole.SERVER), entropy(1))
    server.handle_datagram(Plaintext().message(HandshakeType.CLIENT_HELLO, bytes(body)), 0.0)
    assert failure(server) == (DtlsFailure.DUPLICATE_EXTENSION, ALERT.DECODE_ERROR)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (lambda p: p.message(HandshakeType.FINISHED, bytes(12)), (DtlsFailure.UNEXPECTED_MESSAGE, UNEXPECTED)),
        (
            lambda p: p.message(HandshakeType.SERVER_HELLO, bytes(9)),
            (DtlsFailure.UNEXPECTED_MESSAGE, UNEXPECTED),
        ),
        (lambda p: p.record(ContentType.HANDSHAKE, b""), (DtlsFailure.BAD_HANDSHAKE_RECORD, UNEXPECTED)),
        (
            lambda p: p.record(ContentType.HANDSHAKE, b"\1\0"),
            (DtlsFailure.BAD_HANDSHAKE_RECORD, ALERT.DECODE_ERROR),
        ),
        (lambda p: p.record(ContentType.APPLICATION_DATA, b"x"), (DtlsFailure.UNEXPECTED_RECORD, UNEXPECTED)),
        (lambda p: p.record(99, b"x"), (DtlsFailure.UNEXPECTED_RECORD, UNEXPECTED)),
        (
            lambda p: p.record(ContentType.CHANGE_CIPHER_SPEC, b"\2"),
            (DtlsFailure.BAD_CHANGE_CIPHER_SPEC, ILLEGAL),
        ),
        (lambda p: p.record(ContentType.ALERT, b"\1"), (DtlsFailure.BAD_ALERT, ALERT.DECODE_ERROR)),
        (lambda p: p.record(ContentType.ALERT, b"\3\1"), (DtlsFailure.UNKNOWN_ALERT_TYPE, ILLEGAL)),
    ],
)
def test_records_that_do_not_belong_are_fatal_where_plaintext_is_judged_strictly(
    record: Callable[[Plaintext], bytes], expected: tuple[DtlsFailure, AlertDescription]
) -> None:
    server = DtlsEndpoint(DtlsRole.SERVER, config(DtlsRole.SERVER, strict_plaintext=True), entropy(1))
    server.handle_datagram(record(Plaintext()), 0.0)
    assert failure(server) == expected


def test_a_few_warnings_are_overlooked() -> None:
    server = DtlsEndpoint(DtlsRole.SERVER, config(DtlsRole.SERVER, strict_plaintext=True), entropy(1))
    peer = Plaintext()
    for _ in range(MAX_WARNING_ALERTS):
        server.handle_datagram(peer.record(ContentType.ALERT, b"\1\x6e"), 0.0)
    assert server.counters["dtls.alert_warning"] == MAX_WARNING_ALERTS
    assert server.drain_events() == []
    server.handle_datagram(peer.record(ContentType.ALERT, b"\1\x6e"), 0.0)
    assert failure(server)[0] is DtlsFailure.TOO_MANY_WARNING_ALERTS


@pytest.mark.parametrize(
    ("alert", "event"),
    [
        (b"\2\x28", DtlsFailed(DtlsFailure.ALERT_RECEIVED, ALERT.HANDSHAKE_FAILURE, remote=True)),
        (b"\1\0", PeerClosed()),
    ],
)
def test_an_alert_in_the_clear_is_believed_once_the_peer_has_fallen_silent(alert: bytes, event: object) -> None:
    client = DtlsEndpoint(DtlsRole.CLIENT, config(DtlsRole.CLIENT, initial_timeout=0.1), entropy(1))
    client.start(0.0)
    client.handle_datagram(Plaintext().record(ContentType.ALERT, alert), 0.0)
    repeats = 0
    while not (events := client.drain_events()):
        at = client.poll_timeout()
        assert at is not None
        client.handle_timeout(at)
        repeats += 1
    assert list(events) == [event]
    assert repeats == UNAUTHENTICATED_ALERT_AFTER
    assert client.poll_timeout() is None


def test_an_alert_ends_it_at_once_where_plaintext_is_judged_strictly() -> None:
    client = DtlsEndpoint(DtlsRole.CLIENT, config(DtlsRole.CLIENT, strict_plaintext=True), entropy(1))
    client.start(0.0)
    client.drain_transmits()
    client.handle_datagram(Plaintext().record(ContentType.ALERT, b"\2\x28"), 0.0)
    assert client.drain_events() == [DtlsFailed(DtlsFailure.ALERT_RECEIVED, ALERT.HANDSHAKE_FAILURE, remote=True)]
    assert client.drain_transmits() == []


def test_bytes_before_the_end_of_the_handshake_are_bounded() -> None:
    server = DtlsEndpoint(DtlsRole.SERVER, config(DtlsRole.SERVER), entropy(1))
    junk = bytes(1000)
    for _ in range(MAX_HANDSHAKE_BYTES // len(junk) + 5):
        server.handle_datagram(junk, 0.0)
    assert (
        server.counters["dtls.dropped_handshake_bytes_exceeded"] == 5
        or server.counters["dtls.dropped_handshake_bytes_exceeded"] == 6
    )
    assert server.state is DtlsEndpointState.HANDSHAKE


def first_server_flight(version: Version) -> tuple[DtlsEndpoint, list[tuple[int, bytes]]]:
    """A client that has sent its hello, and the plaintext messages with which a server would answer."""
    client = DtlsEndpoint(DtlsRole.CLIENT, config(DtlsRole.CLIENT, max_version=V13), entropy(11))
    server = DtlsEndpoint(DtlsRole.SERVER, config(DtlsRole.SERVER, max_version=version), entropy(12))
    client.start(0.0)
    for data in client.drain_transmits():
        server.handle_datagram(data, 0.0)
    records, reassembler, messages = RecordLayer(Counters()), Reassembler(), []
    for data in server.drain_transmits():
        for record in records.open(data, 0.0):
            for fragment in Fragment.parse_all(record.payload):
                reassembler.add(fragment, 0)
    while (message := reassembler.pop()) is not None:
        messages.append((message.msg_type, message.body))
    return client, messages


SERVER_HELLO_CHANGES: list[tuple[str, Version, dict[str, Any], DtlsFailure, AlertDescription]] = [
    ("downgrade", V12, {"random": bytes(24) + b"DOWNGRD\1"}, DtlsFailure.DOWNGRADE, ILLEGAL),
    ("cipher", V12, {"cipher_suite": 0x1301}, DtlsFailure.WRONG_CIPHER, ILLEGAL),
    ("cipher", V13, {"cipher_suite": 0xC02B}, DtlsFailure.WRONG_CIPHER, ILLEGAL),
    ("version", V12, {"legacy_version": 0xFEFF}, DtlsFailure.UNSUPPORTED_PROTOCOL, ALERT.PROTOCOL_VERSION),
    ("session", V13, {"session_id": b"x"}, DtlsFailure.BAD_SESSION_ID, ILLEGAL),
    ("compression", V12, {"compression_method": 1}, DtlsFailure.UNSUPPORTED_COMPRESSION, ILLEGAL),
    ("compression", V13, {"compression_method": 1}, DtlsFailure.UNSUPPORTED_COMPRESSION, ILLEGAL),
    ("unasked", V12, {"extensions": {5: b""}}, DtlsFailure.UNEXPECTED_EXTENSION, ALERT.UNSUPPORTED_EXTENSION),
    ("profile", V12, {"extensions": {14: b"\0\2\0\2\0"}}, DtlsFailure.BAD_SRTP_PROFILE, ILLEGAL),
    ("mki", V12, {"extensions": {14: b"\0\2\0\7\1x"}}, DtlsFailure.BAD_SRTP_MKI, ILLEGAL),
    ("two", V12, {"extensions": {14: b"\0\4\0\7\0\1\0"}}, DtlsFailure.BAD_SRTP_PROFILE, ALERT.DECODE_ERROR),
    ("alpn", V12, {"extensions": {16: b"\0\3\2h2"}}, DtlsFailure.BAD_APPLICATION_PROTOCOL, ILLEGAL),
    ("group", V13, {"extensions": {43: b"\xfe\xfc", 51: b"\0\x17\0\1x"}}, DtlsFailure.WRONG_GROUP, ILLEGAL),
    ("share", V13, {"extensions": {43: b"\xfe\xfc"}}, DtlsFailure.MISSING_KEY_SHARE, ALERT.MISSING_EXTENSION),
    ("selected", V13, {"extensions": {43: b"\xfe\xfd"}}, DtlsFailure.WRONG_VERSION, ILLEGAL),
]


@pytest.mark.parametrize(("name", "version", "changes", "reason", "alert"), SERVER_HELLO_CHANGES)
def test_a_client_refuses_server_hellos_with_the_right_alert(
    name: str, version: Version, changes: dict[str, Any], reason: DtlsFailure, alert: AlertDescription
) -> None:
    client, messages = first_server_flight(version)
    hello = replace(ServerHello.parse(messages[0][1]), **changes)
    client.handle_datagram(Plaintext().message(HandshakeType.SERVER_HELLO, hello.serialize()), 0.0)
    assert failure(client) == (reason, alert)


@pytest.mark.parametrize(("skipped", "state"), [(1, "certificate"), (2, "server key exchange")])
def test_a_1_2_client_misses_what_the_server_leaves_out(skipped: int, state: str) -> None:
    client, messages = first_server_flight(V12)
    del messages[skipped]
    peer = Plaintext()
    for seq, (kind, body) in enumerate(messages):
        client.handle_datagram(peer.message(kind, body, seq), 0.0)
    (event,) = client.drain_events()
    assert isinstance(event, DtlsFailed)
    assert (event.reason, event.alert) == (DtlsFailure.UNEXPECTED_MESSAGE, UNEXPECTED)
    assert state in event.detail


def test_a_1_2_signature_over_other_parameters_is_refused() -> None:
    client, messages = first_server_flight(V12)
    peer = Plaintext()
    exchange = ServerKeyExchange.parse(messages[2][1])
    messages[2] = (messages[2][0], replace(exchange, public=bytes([9]) * 32).serialize())
    for seq, (kind, body) in enumerate(messages[:3]):
        client.handle_datagram(peer.message(kind, body, seq), 0.0)
    assert failure(client) == (DtlsFailure.BAD_SIGNATURE, ALERT.DECRYPT_ERROR)


def connected(version: Version) -> DtlsPair:
    pair = DtlsPair({"max_version": version})
    pair.handshake()
    return pair


def inject(pair: DtlsPair, role: DtlsRole, kind: int, payload: bytes) -> None:
    """Let one side send a record that no honest endpoint sends."""
    sender = pair.endpoint(role)
    sender._layer.send_record(kind, payload)
    pair.run(1.0)


@pytest.mark.parametrize("kind", [HandshakeType.HELLO_REQUEST, HandshakeType.CLIENT_HELLO, HandshakeType.FINISHED])
@pytest.mark.parametrize("seq", [0, 9])
def test_renegotiation_is_refused_in_1_2(kind: HandshakeType, seq: int) -> None:
    pair = connected(V12)
    body = bytes(12) if kind is HandshakeType.FINISHED else b""
    inject(pair, DtlsRole.CLIENT, ContentType.HANDSHAKE, Fragment(kind, len(body), seq, 0, body).serialize())
    if kind is HandshakeType.FINISHED and seq == 0:  # an old message again: nothing to do
        assert pair.server.state is DtlsEndpointState.CONNECTED
        return
    (event,) = [event for event in pair.events[DtlsRole.SERVER] if isinstance(event, DtlsFailed)]
    assert (event.reason, event.alert) == (DtlsFailure.RENEGOTIATION_REFUSED, UNEXPECTED)


@pytest.mark.parametrize(
    ("version", "kind", "payload", "reason"),
    [
        (V12, ContentType.ACK, b"\0\0", DtlsFailure.UNEXPECTED_RECORD),
        (V12, ContentType.CHANGE_CIPHER_SPEC, b"\1", DtlsFailure.UNEXPECTED_RECORD),
        (V13, ContentType.CHANGE_CIPHER_SPEC, b"\1", DtlsFailure.UNEXPECTED_RECORD),
        (V13, ContentType.ACK, b"\0", DtlsFailure.BAD_ACK),
        (V13, ContentType.ACK, b"\0\x08" + bytes(8), DtlsFailure.BAD_ACK),
        (V13, ContentType.HANDSHAKE, Fragment(20, 0, 4, 0, b"").serialize(), DtlsFailure.UNEXPECTED_MESSAGE),
        (V13, ContentType.HANDSHAKE, Fragment(24, 1, 4, 0, b"\2").serialize(), DtlsFailure.BAD_KEY_UPDATE),
        (V13, ContentType.HANDSHAKE, Fragment(24, 2, 4, 0, b"\0\0").serialize(), DtlsFailure.BAD_KEY_UPDATE),
        (V13, ContentType.ALERT, b"\1\x6e", DtlsFailure.BAD_ALERT),
    ],
)
def test_records_that_do_not_belong_after_the_handshake_are_fatal(
    version: Version, kind: ContentType, payload: bytes, reason: DtlsFailure
) -> None:
    pair = connected(version)
    inject(pair, DtlsRole.CLIENT, kind, payload)
    assert [event.reason for event in pair.events[DtlsRole.SERVER] if isinstance(event, DtlsFailed)] == [reason]


def test_an_ack_of_what_was_never_sent_is_overlooked() -> None:
    pair = connected(V13)
    inject(pair, DtlsRole.CLIENT, ContentType.ACK, Ack(((3, 77), (1 << 60, 1 << 60))).serialize())
    assert pair.server.state is DtlsEndpointState.CONNECTED


def test_key_updates_without_data_in_between_are_bounded() -> None:
    pair = connected(V13)
    for _ in range(MAX_UPDATES_WITHOUT_DATA):
        pair.client.update_keys(pair.now)
        pair.run(2.0)
    assert pair.server.state is DtlsEndpointState.CONNECTED
    pair.client.update_keys(pair.now)
    pair.run(2.0)
    (event,) = [event for event in pair.events[DtlsRole.SERVER] if isinstance(event, DtlsFailed)]
    assert (event.reason, event.alert) == (DtlsFailure.TOO_MANY_KEY_UPDATES, UNEXPECTED)


@pytest.mark.parametrize("version", [V12, V13])
def test_replayed_datagrams_deliver_nothing_twice(version: Version) -> None:
    pair = connected(version)
    pair.client.send(b"once", pair.now)
    (datagram,) = pair.client.drain_transmits()
    for _ in range(3):
        pair.server.handle_datagram(datagram, pair.now)
    assert len(pair.server.drain_events()) == 1
    assert pair.server.counters["dtls.dropped_record_replayed"] == 2


def test_the_server_repeats_its_last_flight_only_so_often() -> None:
    pair = DtlsPair(
        {"max_version": V12}, filter=lambda role, data, n: None if role is DtlsRole.SERVER and n >= 2 else data
    )
    pair.handshake(10_000.0)
    assert [f.reason for f in pair.events[DtlsRole.CLIENT] if isinstance(f, DtlsFailed)] == [DtlsFailure.TIMEOUT]
    assert pair.server.counters["dtls.flight_repeated_on_request"] == 12


def test_a_record_number_never_wraps() -> None:
    pair = connected(V12)
    pair.client._layer.records._write[1].next_sequence = 1 << 48
    pair.client.send(b"one too many", pair.now)
    assert failure(pair.client) == (DtlsFailure.AEAD_LIMIT, None)


def test_keys_are_renewed_before_the_aead_limit() -> None:
    pair = connected(V13)
    records = pair.client._layer.records
    records._write[3].next_sequence = 1 << 23
    # The server heard nothing of the records in between; its window has to follow.
    pair.server._layer.records._read[3].window.accept((1 << 23) - 1)
    pair.client.send(b"x", pair.now)
    pair.run(2.0)
    assert records.write_epoch == 4
    assert pair.server.state is DtlsEndpointState.CONNECTED
    assert RecordNumber(4, 0).epoch == records.write_epoch
