"""What one who does not know a call's ufrag and password can do to it: nothing, and gets no answer either.

The sentences of `docs/security.md`, with a real call behind the endpoint.
"""

from __future__ import annotations

from random import Random

import pytest

from stack.core.machine import Address, Path
from stack.server import Endpoint
from stack.server.routes import Routes
from stack.stun import (
    IceControlling,
    Message,
    MessageClass,
    Method,
    Priority,
    UseCandidate,
    Username,
    short_term_key,
)
from stack.voice.conversation import Conversation, ConversationConfig, ConversationEvent
from tests.sim.calls import agree
from tests.sim.entropy import entropy
from tests.sim.pair import RIGHT

STRANGER = Path(RIGHT, Address("198.51.100.9", 40_000))
SIDES = agree(1)
UFRAG = SIDES.server.local.ice_ufrag


@pytest.fixture
def endpoint() -> Endpoint[ConversationEvent]:
    """One call that waits for its peer."""
    endpoint: Endpoint[ConversationEvent] = Endpoint()
    conversation = Conversation(
        SIDES.server, SIDES.server_certificate, ConversationConfig(), entropy("server"), 0.0
    )
    endpoint.add("call", conversation, UFRAG)
    endpoint.pump()
    assert not endpoint.drain_transmits()
    return endpoint


def request(username: str | None, key: bytes | None = None, seed: int = 0) -> bytes:
    attributes = (Priority(1),) if username is None else (Username(username), Priority(1))
    message = Message(MessageClass.REQUEST, Method.BINDING, Random(seed).randbytes(12), attributes)
    return message.serialize() if key is None else message.sign(key)


def of_a_stranger() -> list[bytes]:
    """Every kind of datagram that shares the port (RFC 7983 §7), and some that are of no kind."""
    random = Random(7)
    return [
        b"",
        request(None),
        request("abcdefghijkl:mnop"),
        request("abcdefghijkl:mnop", short_term_key("a password of some stranger")),
        Message(MessageClass.INDICATION, Method.BINDING, bytes(12), ()).serialize(),
        bytes.fromhex("16fefd0000000000000000002c010000200000000000000020fefd")
        + bytes(32),  # a ClientHello begins
        bytes.fromhex("15fefd00000000000000000002022a"),  # a fatal alert
        bytes([0x80, 111]) + random.randbytes(170),  # RTP
        bytes([0x80, 203, 0, 1]) + random.randbytes(4),  # an RTCP BYE
        *(random.randbytes(size) for size in (1, 2, 19, 20, 1200, 65_507)),
        *(bytes([first]) + random.randbytes(99) for first in range(256)),
    ]


def test_a_stranger_gets_no_answer_and_changes_nothing(endpoint: Endpoint[ConversationEvent]) -> None:
    deadline = endpoint.poll_timeout()
    datagrams = of_a_stranger()
    endpoint.handle_datagrams([(data, STRANGER) for data in datagrams], 0.1)
    assert not endpoint.drain_transmits()
    assert not endpoint.drain_events()
    assert endpoint.poll_timeout() == deadline
    assert len(endpoint) == 1
    dropped = (
        endpoint.counters["endpoint.dropped_unknown_path"] + endpoint.counters["endpoint.dropped_unknown_ufrag"]
    )
    assert dropped == len(datagrams)


def test_one_who_saw_the_ufrag_but_not_the_password_is_refused_in_no_more_bytes(
    endpoint: Endpoint[ConversationEvent],
) -> None:
    deadline = endpoint.poll_timeout()
    theirs = SIDES.client.local.ice_ufrag
    for seed, (username, key) in enumerate(
        [
            (f"{UFRAG}:{theirs}", None),
            (f"{UFRAG}:{theirs}", short_term_key("not the password of this call")),
            (f"{UFRAG}:else", short_term_key("not the password of this call")),
            (UFRAG, None),
        ]
    ):
        data = request(username, key, seed)
        endpoint.handle_datagrams([(data, STRANGER)], 0.1)
        assert sum(len(answer) for answer, _ in endpoint.drain_transmits()) <= len(data)
    endpoint.handle_datagrams([(data, STRANGER) for data in of_a_stranger()], 0.2)  # no path was made
    assert not endpoint.drain_transmits()
    assert not endpoint.drain_events()
    assert endpoint.poll_timeout() == deadline


def test_a_peer_that_probes_many_paths_keeps_the_one_that_it_uses(endpoint: Endpoint[ConversationEvent]) -> None:
    """Two machines with five addresses each have more pairs than paths are kept."""
    username = f"{UFRAG}:{SIDES.server.negotiation.remote_ice_ufrag}"
    key = short_term_key(SIDES.server.local.ice_pwd)

    def check(number: int, path: Path, *, nominate: bool = False) -> None:
        extra = (UseCandidate(),) if nominate else ()
        attributes = (Username(username), IceControlling(7), *extra, Priority(1))
        message = Message(MessageClass.REQUEST, Method.BINDING, number.to_bytes(12, "big"), attributes)
        endpoint.handle_datagrams([(message.sign(key), path)], number / 100)

    used, later = Path(RIGHT, Address("192.0.2.1", 1000)), Path(RIGHT, Address("192.0.2.1", 2001))
    check(1, used, nominate=True)
    for number in range(2, 3 * Routes.MAX_PATHS_PER_SESSION):
        check(number, Path(RIGHT, Address("192.0.2.1", 2000 + number)))
        check(1000 + number, later)
    for number, path in ((100, used), (101, later)):
        check(number, path, nominate=True)
        before = endpoint.counters["endpoint.dropped_unknown_path"]
        endpoint.handle_datagrams([(bytes([22, 254, 253]) + bytes(10), path)], 2.0)
        assert endpoint.counters["endpoint.dropped_unknown_path"] == before
