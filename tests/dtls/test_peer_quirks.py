"""Habits of other stacks that are not quite by the book, and that cost us nothing to live with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stack.dtls import DtlsFailed, DtlsRole, HandshakeComplete, NamedGroup, Version
from stack.dtls.client_hello import ClientHelloBuilder
from stack.dtls.extensions import ExtensionType, KeyShareEntry, client_key_shares, u16_list16
from stack.dtls.groups import AVAILABLE_GROUPS, start_exchange
from stack.dtls.messages import ClientHello, HandshakeType, ServerHello
from stack.dtls.reassembly import Fragment
from stack.dtls.record import ContentType, Record
from stack.dtls.server12 import Server12
from tests.sim.certificates import config
from tests.sim.dtls import DtlsPair
from tests.sim.entropy import entropy

V12, V13 = Version.DTLS_1_2, Version.DTLS_1_3


def test_our_client_hello_is_one_datagram_and_still_names_the_hybrid() -> None:
    """mbedTLS and wolfSSL take no fragmented ClientHello as servers; BoringSSL would rather retry than take less
    than our first choice, so the group that has a share is the first."""
    pair = DtlsPair()
    pair.client.start(0.0)
    (datagram,) = pair.client.drain_transmits()
    assert len(datagram) < 548
    hello = ClientHello.parse(datagram[25:])
    groups = sorted(AVAILABLE_GROUPS, key=lambda group: group is not NamedGroup.X25519)
    assert hello.extensions[ExtensionType.SUPPORTED_GROUPS] == u16_list16(groups)
    shares = hello.extensions[ExtensionType.KEY_SHARE]
    assert shares[2:4] == NamedGroup.X25519.to_bytes(2, "big")
    assert len(shares) == 2 + 4 + 32


def test_a_server_that_insists_on_the_hybrid_gets_it_after_a_retry() -> None:
    hybrid = (NamedGroup.X25519MLKEM768,)
    if hybrid[0] not in AVAILABLE_GROUPS:
        pytest.skip("this build of cryptography has no ML-KEM")
    pair = DtlsPair({}, {"groups": hybrid})
    pair.handshake()
    (done,) = pair.events[DtlsRole.CLIENT]
    assert isinstance(done, HandshakeComplete)
    assert done.group is hybrid[0]
    assert pair.client.negotiated.hello_retried


def test_a_1_2_server_may_echo_supported_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """webrtc-rs does."""
    original = Server12._server_extensions

    def echoing(self: Server12, hello: ClientHello) -> dict[int, bytes]:
        groups = hello.extensions[ExtensionType.SUPPORTED_GROUPS]
        return original(self, hello) | {ExtensionType.SUPPORTED_GROUPS: groups}

    monkeypatch.setattr(Server12, "_server_extensions", echoing)
    pair = DtlsPair({}, {"max_version": V12})
    pair.handshake()
    for role in DtlsRole:
        assert [type(event) for event in pair.events[role]] == [HandshakeComplete]


def test_every_retry_request_brings_a_cookie_and_wants_it_back() -> None:
    """Without one, some versions of wolfSSL's client send the same empty key_share again."""
    pair = DtlsPair({"key_shares": (NamedGroup.X25519,)}, {"groups": (NamedGroup.SECP256R1,)})
    pair.server.start(0.0)
    builder = ClientHelloBuilder(config(DtlsRole.CLIENT, key_shares=(NamedGroup.X25519,)), entropy(5))
    writer = pair.client._layer.records

    def send(hello: ClientHello, seq: int) -> list[bytes]:
        body = hello.serialize()
        payload = Fragment(HandshakeType.CLIENT_HELLO, len(body), seq, 0, body).serialize()
        pair.server.handle_datagram(writer.seal(ContentType.HANDSHAKE, payload, 0)[1], 0.0)
        return list(pair.server.drain_transmits())

    (answer,) = send(builder.hello, 0)
    (record,) = pair.client._layer.records.open(answer, 0.0)
    assert isinstance(record, Record)
    retry = ServerHello.parse(record.payload[12:])
    assert retry.is_hello_retry_request
    assert ExtensionType.COOKIE in retry.extensions
    share = start_exchange(NamedGroup.SECP256R1, entropy(6)).public
    extensions = builder.hello.extensions | {
        ExtensionType.KEY_SHARE: client_key_shares([KeyShareEntry(NamedGroup.SECP256R1, share)])
    }
    send(replace(builder.hello, extensions=extensions), 1)
    (event,) = pair.server.drain_events()
    assert isinstance(event, DtlsFailed)
    assert event.reason.name == "BAD_COOKIE"
