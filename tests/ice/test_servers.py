"""URIs of ICE servers, and credentials that expire."""

from __future__ import annotations

import pytest

from stack.core.errors import LocalError
from stack.core.machine import TransportProtocol
from stack.ice.servers import IceServer, make_ephemeral_credentials

UDP, TCP = TransportProtocol.UDP, TransportProtocol.TCP


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("stun:stun.example.com", IceServer("stun.example.com", 3478)),
        ("stun:[2001:db8::1]:5000", IceServer("2001:db8::1", 5000)),
        ("turn:192.0.2.1", IceServer("192.0.2.1", 3478, UDP, False, True, "u", "p")),
        ("turn:t.example?transport=udp", IceServer("t.example", 3478, UDP, False, True, "u", "p")),
        ("turn:t.example:80?transport=tcp", IceServer("t.example", 80, TCP, False, True, "u", "p")),
        ("turns:t.example", IceServer("t.example", 5349, TCP, True, True, "u", "p")),
        ("turns:t.example:443?transport=tcp", IceServer("t.example", 443, TCP, True, True, "u", "p")),
        ("turn:me:a%40b@t.example", IceServer("t.example", 3478, UDP, False, True, "me", "a@b")),
    ],
)
def test_uris_are_read(uri: str, expected: IceServer) -> None:
    server = IceServer.parse(uri, "u", "p") if expected.turn else IceServer.parse(uri)
    assert server == expected
    again = IceServer.parse(str(server), server.username, server.password)
    assert again == server


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "stun:",
        "http://x",
        "stuns:x",
        "stun:x?transport=tcp",
        "turns:x?transport=udp",
        "turn:x:0",
        "turn:x:65536",
    ],
)
def test_what_is_no_server_is_refused(uri: str) -> None:
    with pytest.raises(LocalError):
        IceServer.parse(uri, "u", "p")


def test_a_turn_server_wants_credentials_and_they_are_shown_nowhere() -> None:
    with pytest.raises(LocalError, match="user name"):
        IceServer.parse("turn:t.example")
    server = IceServer.parse("turn:me:hidden@t.example")
    assert "hidden" not in repr(server) + str(server)


def test_ephemeral_credentials_are_those_that_coturn_computes() -> None:
    # echo -n 1700000000:alice | openssl dgst -sha1 -hmac north -binary | base64
    credentials = make_ephemeral_credentials("north", 1700000000, "alice")
    assert credentials.username == "1700000000:alice"
    assert credentials.password == "Cd/49soE35ICqcJF/bCTn8Z4OyE="
    assert make_ephemeral_credentials("north", 1700000000).username == "1700000000"
    assert credentials.password not in repr(credentials)
