"""A caller who writes a stranger's address into its checks: what the stranger gets is no more than the caller
sends.

Whole calls in virtual time, with the clients of whom it must cost nothing beside those that must gain nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from interop.network_model import NetworkModel
from stack.core.machine import Address, Path
from stack.core.ufrag import new_transaction
from stack.dtls import Version
from stack.session import Authenticated, Connected
from stack.session.allowance import MAX_AHEAD, Allowance
from stack.stun import (
    IceControlling,
    Message,
    MessageClass,
    Method,
    Priority,
    TransactionId,
    UseCandidate,
    Username,
    short_term_key,
)
from stack.voice.commands import Write
from stack.voice.conversation import Conversation, ConversationConfig
from tests.server.test_moving import DELAY, ELSEWHERE, HOME, RATE, Call, Server
from tests.sim.calls import Sides, agree, is_up
from tests.sim.clock import START
from tests.sim.entropy import entropy
from tests.sim.network import Host, Network
from tests.sim.pair import LEFT, RIGHT

DROPPED = "session.dropped_unproven"
VICTIM = ELSEWHERE


class Tap:
    """Counts the bytes that reach the victim, and keeps them from being anything else."""

    def __init__(self, network: Network) -> None:
        self.octets = 0
        network.filter = self._see

    def _see(self, sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        if path.remote != VICTIM:
            return data
        self.octets += len(data)
        return None


def nominating_check(sides: Sides, number: int) -> bytes:
    ours, theirs = sides.server.local, sides.client.local
    attributes = (
        Username(f"{ours.ice_ufrag}:{theirs.ice_ufrag}"),
        IceControlling(1),
        Priority(1),
        UseCandidate(),
    )
    transaction = TransactionId(new_transaction(entropy(f"attack {number}"), theirs.ice_ufrag))
    return Message(MessageClass.REQUEST, Method.BINDING, transaction, attributes).sign(
        short_term_key(ours.ice_pwd)
    )


@pytest.mark.parametrize("version", [Version.DTLS_1_2, Version.DTLS_1_3])
@pytest.mark.parametrize("checks", [1, 10])
def test_a_call_is_set_up_with_a_strangers_address(version: Version, checks: int) -> None:
    """The caller sees nothing of what is answered, and sends its ClientHello from there as well."""
    sides = agree(7)
    network = Network(3, NetworkModel(delay=DELAY))
    server = network.attach("server", Server(sides, ConversationConfig()), RIGHT)
    tap = Tap(network)
    client = Conversation(
        sides.client, sides.client_certificate, ConversationConfig(dtls_version=version), entropy("c"), START
    )
    caller = network.attach("client", client, LEFT)
    network.rebind(LEFT, VICTIM)  # all that it sends seems to come from there, and none of the answers reaches it
    hello = client.session._dtls.drain_transmits() or client.session._carrier.undelivered
    came = 0
    for data in [nominating_check(sides, number) for number in range(checks)] + list(hello):
        came += len(data)
        server.take(data, Path(RIGHT, VICTIM))
    network.detach(caller)
    network.run(35.0)
    assert tap.octets > 300  # a flight went there
    assert tap.octets <= sides.server.offer_size + came


def test_a_call_that_is_up_is_turned_to_a_stranger() -> None:
    call = Call(seconds=60.0)
    tap = Tap(call.network)
    session = call.server.machine.conversation.session
    call.network.detach(call.client)
    check = nominating_check(call.sides, 0)
    call.server.take(check, Path(RIGHT, VICTIM))
    call.network.run(20.0)
    assert session.path is not None
    assert session.path.remote == VICTIM
    assert 0 < tap.octets <= MAX_AHEAD + len(check) + 4 * 120  # the checks that ask whether it is there
    assert call.counted(DROPPED) > 300
    # and no more for another stranger: what the caller has sent is spent
    tap.octets = 0
    call.server.take(nominating_check(call.sides, 1), Path(RIGHT, VICTIM))
    call.network.run(5.0)
    assert tap.octets <= 2 * len(check)


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_client_that_moves_by_nomination_loses_nothing(is_answered: bool) -> None:
    """Also one that answers no checks: it speaks, and what it sends may come back."""
    call = Call(seconds=20.0)
    moved = Address("203.0.113.7", 7_777)
    if not is_answered:
        call.network.filter = lambda sender, data, path: (
            None if sender is call.client and data[:1] == b"\x01" and path.remote == RIGHT else data
        )
    sent = call.client.machine.session.received.packets
    call.network.rebind(LEFT, moved)
    call.server.take(nominating_check(call.sides, 0), Path(RIGHT, moved))
    call.network.run(4.0)
    session = call.server.machine.conversation.session
    assert session.path is not None
    assert session.path.remote == moved
    assert call.counted(DROPPED) == 0
    assert call.client.machine.session.received.packets - sent >= 195
    assert call.counted("ice.probe_answered") == is_answered


@pytest.mark.parametrize("version", [Version.DTLS_1_2, Version.DTLS_1_3])
@pytest.mark.parametrize("delay", [0.01, 0.2])
@pytest.mark.parametrize("dtls_in_stun", [True, False], ids=["in STUN", "plain"])
def test_an_honest_set_up_waits_for_nothing(version: Version, delay: float, dtls_in_stun: bool) -> None:
    """The bound is the offer: an early voice has 400 ms of room with a small one, and waits then."""
    sides = agree(7)
    network = Network(3, NetworkModel(delay=delay), keep_sent=False)
    config = ConversationConfig(dtls_version=version, dtls_in_stun=dtls_in_stun)
    server = network.attach("server", Server(sides, config), RIGHT)
    client: Host[Conversation] = network.attach(
        "client", Conversation(sides.client, sides.client_certificate, config, entropy("c"), START), LEFT
    )
    network.rebind(LEFT, HOME)
    assert network.run(10, lambda: is_up(client))
    session = server.machine.conversation.session
    network.run(3.0)
    assert server.machine.all_counters().get(DROPPED, 0) == 0
    assert session._is_proven
    assert server.machine.all_counters().get("ice.probed", 0) == 0  # the handshake has shown it
    (connected,) = [event for _, event in server.events if isinstance(event, Connected)]
    if version is Version.DTLS_1_3:
        assert not connected.authenticated
        assert len([event for _, event in server.events if isinstance(event, Authenticated)]) == 1


def test_an_allowance_is_what_came_less_what_went() -> None:
    allowance = Allowance(100)
    assert allowance.room(0) == 100
    allowance.note_came(50)
    allowance.note_sent(120)
    assert allowance.room(10) == 40
    allowance.limit(10, 30)
    assert allowance.room(10) == 30
    allowance.limit(10, 50)  # it makes nothing
    assert allowance.room(15) == 35
    allowance.note_sent(100)
    assert allowance.room(15) == 0


def test_a_voice_that_begins_early_waits_when_the_offer_was_small() -> None:
    sides = agree(7)
    small = type(sides.server)(sides.server.local, sides.server.negotiation, offer_size=300)
    sides = type(sides)(sides.client, small, sides.client_certificate, sides.server_certificate)
    network = Network(3, NetworkModel(delay=0.4), keep_sent=False)
    server = network.attach("server", Server(sides, ConversationConfig()), RIGHT)
    client: Host[Conversation] = network.attach(
        "client",
        Conversation(sides.client, sides.client_certificate, ConversationConfig(), entropy("c"), START),
        LEFT,
    )
    network.rebind(LEFT, HOME)
    server.handle(Write((8000 * np.sin(np.arange(RATE) / 5)).astype(np.int16), RATE))
    assert network.run(15, lambda: is_up(client))
    network.run(3.0)
    assert client.machine.session.security is not None
    received = client.machine.session.received.packets
    assert received >= 40  # what waited was said


@pytest.mark.parametrize("offer", [300, 2_000])
@pytest.mark.parametrize("lost", [1, 2, 3])
@pytest.mark.parametrize("dtls_in_stun", [True, False], ids=["in STUN", "plain"])
def test_a_flight_that_is_lost_is_sent_again_whatever_was_said_meanwhile(
    offer: int, lost: int, dtls_in_stun: bool
) -> None:
    """Early sound must not take the room that the flight needs; where there is none, a check asks for it."""
    sides = agree(7)
    small = type(sides.server)(sides.server.local, sides.server.negotiation, offer_size=offer)
    sides = type(sides)(sides.client, small, sides.client_certificate, sides.server_certificate)
    config = ConversationConfig(dtls_in_stun=dtls_in_stun)
    network = Network(3, NetworkModel(delay=0.02), keep_sent=False)
    server = network.attach("server", Server(sides, config), RIGHT)
    client: Host[Conversation] = network.attach(
        "client", Conversation(sides.client, sides.client_certificate, config, entropy("c"), START), LEFT
    )
    network.rebind(LEFT, HOME)
    left = lost

    def lose(sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        """The first large datagrams of the handshake, by itself or in a response."""
        nonlocal left
        if sender is server and left and len(data) > 400 and data[0] < 64:
            left -= 1
            return None
        return data

    network.filter = lose
    server.handle(Write((8000 * np.sin(np.arange(3 * RATE) / 5)).astype(np.int16), RATE))
    assert network.run(12, lambda: is_up(client))
    network.run(1.0)
    assert left < lost
    assert client.machine.session.received.packets >= 40
    assert not server.machine.conversation.session._flight_waits
