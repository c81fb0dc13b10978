"""A client that moves keeps its call: another port of its NAT, another network, a silence and a return.

Whole calls behind an endpoint, in virtual time; packets are lost and delayed by the network alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from interop.network_model import NetworkModel
from stack.core.machine import Address, Path
from stack.ice import IceCredentials
from stack.sctp import MessageReceived
from stack.server import Endpoint
from stack.session import ConnectionPaused, ConnectionResumed, Ended, EndReason
from stack.stun import (
    IceControlling,
    Message,
    MessageClass,
    Method,
    Priority,
    TransactionId,
    Username,
    short_term_key,
)
from stack.voice.commands import OpenChannel, SendMessage, Write
from stack.voice.conversation import Conversation, ConversationConfig, ConversationEvent
from tests.sim.calls import Sides, agree, is_up
from tests.sim.clock import START
from tests.sim.entropy import entropy
from tests.sim.network import Host, Network
from tests.sim.pair import LEFT, RIGHT

RATE = 16_000
HOME = Address("198.51.100.7", 40_000)
MOVED = Address("198.51.100.7", 41_111)
ELSEWHERE = Address("203.0.113.99", 5_555)
DELAY = 0.03
PACKET = 0.02


class Server(Endpoint[ConversationEvent]):
    """An endpoint with one call, which takes commands for it."""

    def __init__(self, sides: Sides, config: ConversationConfig) -> None:
        super().__init__()
        self.conversation = Conversation(sides.server, sides.server_certificate, config, entropy("server"), START)
        self.add("call", self.conversation, sides.server.local.ice_ufrag)
        self.pump()

    def handle_command(self, command: Any, now: float) -> Any:
        try:
            return self.conversation.handle_command(command, now)
        finally:
            self.touch("call")
            self.pump()

    def all_counters(self) -> dict[str, int]:
        total = self.conversation.all_counters()
        total.merge(self.counters)
        return dict(total.snapshot())


class Call:
    """A client behind a NAT, a server, and both speaking."""

    def __init__(self, resume_timeout: float = 0.0, seconds: float = 60.0, *, lite: bool = True) -> None:
        self.sides = sides = agree(7, ice_lite=lite)
        self.network = network = Network(3, NetworkModel(delay=DELAY), keep_sent=False)
        client = Conversation(sides.client, sides.client_certificate, ConversationConfig(), entropy("c"), START)
        self.server = network.attach(
            "server", Server(sides, ConversationConfig(resume_timeout=resume_timeout)), RIGHT
        )
        self.client: Host[Conversation] = network.attach("client", client, LEFT)
        network.rebind(LEFT, HOME)
        assert network.run(5, lambda: is_up(self.client))
        pcm = (8000 * np.sin(np.arange(int(seconds * RATE)) / 5)).astype(np.int16)
        for host in (self.client, self.server):
            host.handle(Write(pcm, RATE))
        network.run(3.0)

    def check(self) -> bytes:
        """A check as the client would send it."""
        ours, theirs = self.sides.server.local, self.sides.client.local
        attributes = (Username(f"{ours.ice_ufrag}:{theirs.ice_ufrag}"), IceControlling(1), Priority(1))
        message = Message(MessageClass.REQUEST, Method.BINDING, TransactionId(bytes(12)), attributes)
        return message.sign(short_term_key(ours.ice_pwd))

    def counted(self, name: str) -> int:
        return self.server.machine.all_counters().get(name, 0)

    def events(self, kind: type[Any]) -> list[Any]:
        return [event for _, event in self.server.events if isinstance(event, kind)]


@pytest.mark.parametrize("lite", [True, False], ids=["lite", "full"])
def test_a_new_port_of_the_nat_costs_less_than_200_ms_of_sound(lite: bool) -> None:
    call = Call(lite=lite)
    received = call.server.machine.conversation.session.received.packets
    lost, unknown = call.network.counters["unreachable"], call.counted("endpoint.dropped_unknown_path")
    call.network.rebind(LEFT, MOVED)
    call.network.run(1.0)
    assert call.server.machine.conversation.session.path.remote == MOVED  # type: ignore[union-attr]
    assert call.counted("ice.followed_media") == 1
    assert call.counted("endpoint.dropped_unknown_path") == unknown  # upwards nothing is lost
    assert call.server.machine.conversation.session.received.packets - received >= 48
    assert (call.network.counters["unreachable"] - lost) * PACKET < 0.2  # downwards little
    assert call.counted("ice.probed") == 1


@pytest.mark.parametrize("lite", [True, False], ids=["lite", "full"])
def test_a_port_that_changes_again_before_the_peer_has_nominated_is_followed(lite: bool) -> None:
    call = Call(lite=lite)
    for port in (41_111, 42_222, 40_000):
        moved = Address(HOME.host, port)
        call.network.rebind(LEFT, moved)
        call.network.run(0.5)
        assert call.server.machine.conversation.session.path.remote == moved  # type: ignore[union-attr]
    assert call.counted("ice.followed_media") >= 2


@pytest.mark.parametrize("lite", [True, False], ids=["lite", "full"])
def test_without_an_answer_the_call_is_heard_and_does_not_move(lite: bool) -> None:
    """A copy of a packet, sent from elsewhere ahead of it, is no proof that the peer can be reached there."""
    call = Call(lite=lite)
    client = call.client

    def forged(sender: Host[Any], data: bytes, path: Any) -> bytes | None:
        """Media come from elsewhere, and nothing that the server sends there reaches the client."""
        return None if path.remote == ELSEWHERE else data

    call.network.filter = forged
    call.network.rebind(LEFT, ELSEWHERE)
    call.network.run(1.0)
    assert call.server.machine.conversation.session.path.remote == HOME  # type: ignore[union-attr]
    assert call.counted("ice.followed_media") == 0
    assert call.counted("endpoint.found_by_source") >= 45  # what is authentic is heard
    assert client.machine.session.is_connected


def test_forged_sound_from_elsewhere_is_neither_heard_nor_answered() -> None:
    call = Call()
    (source,) = call.server.machine.conversation.sources
    packet = b"\x80\x6f\x12\x34" + bytes(4) + source.to_bytes(4, "big") + bytes(60)
    before = call.counted("endpoint.found_by_source")
    call.server.take_together([(packet, Path(RIGHT, ELSEWHERE)), (b"\x80" + bytes(11), Path(RIGHT, ELSEWHERE))])
    assert call.counted("endpoint.found_by_source") == before + 1
    assert call.counted("ice.probed") == 0
    assert call.counted("endpoint.dropped_unknown_path") >= 1


def test_a_silent_client_pauses_the_call_and_returns_from_elsewhere() -> None:
    call = Call(resume_timeout=30.0)
    call.network.detach(call.client)
    call.network.run(33.0)
    (paused,) = call.events(ConnectionPaused)
    assert paused.seconds == 30.0
    conversation = call.server.machine.conversation
    session, sender = conversation.session, conversation.required_line.sender
    assert session.is_paused
    sent, waiting = session.sent.packets, sender.queued
    call.network.run(10.0)
    assert session.sent.packets == sent  # RFC 7675 §5.1
    assert sender.queued == waiting > 10  # what is said waits
    call.server.take(call.check(), Path(RIGHT, ELSEWHERE))
    assert call.events(ConnectionResumed) == [ConnectionResumed(Path(RIGHT, ELSEWHERE))]
    call.network.run(1.0)
    assert 49 <= session.sent.packets - sent <= 56
    assert sender.queued == pytest.approx(waiting - 1.0, abs=0.1)


@pytest.mark.parametrize("seconds", [0.0, 20.0])
def test_a_client_that_does_not_return_ends_the_call(seconds: float) -> None:
    call = Call(resume_timeout=seconds)
    call.network.detach(call.client)
    call.network.run(32.0)
    assert len(call.events(ConnectionPaused)) == (1 if seconds else 0)
    assert len(call.events(Ended)) == (0 if seconds else 1)
    call.network.run(20.0)
    (ended,) = call.events(Ended)
    assert ended.reason is EndReason.CONSENT_EXPIRED
    assert len(call.server.machine) == 0


def test_a_restart_shortly_before_the_end_of_a_pause_has_its_own_time() -> None:
    """A full server: its consent has expired, and a restart alone resumes it (RFC 7675 §5.1)."""
    call = Call(resume_timeout=30.0, lite=False)
    call.network.detach(call.client)
    call.network.run(50.0)
    assert len(call.events(ConnectionPaused)) == 1
    session = call.server.machine.conversation.session
    fresh = [IceCredentials.generate(entropy(name)) for name in ("server again", "client again")]
    call.server.command(lambda machine, now: session.restart_ice(*fresh, now))
    call.network.run(30.0)
    assert session.is_paused
    assert not call.events(Ended)
    call.network.run(15.0)
    (ended,) = call.events(Ended)
    assert ended.reason is EndReason.ICE_FAILED


class DataCall(Call):
    """A call without sound: nothing but DTLS records says whose a packet is."""

    def __init__(self, *, lite: bool = True) -> None:
        self.sides = sides = agree(7, audio=False, ice_lite=lite)
        self.network = network = Network(3, NetworkModel(delay=DELAY), keep_sent=False)
        client = Conversation(sides.client, sides.client_certificate, ConversationConfig(), entropy("c"), START)
        self.server = network.attach("server", Server(sides, ConversationConfig()), RIGHT)
        self.client = network.attach("client", client, LEFT)
        network.rebind(LEFT, HOME)
        assert network.run(5, lambda: is_up(self.client))
        self.channel = self.client.handle(OpenChannel("events"))
        network.run(0.5)

    def say(self, text: str) -> None:
        self.client.handle(SendMessage(self.channel, text))

    @property
    def heard(self) -> list[str]:
        return [event.data for event in self.events(MessageReceived)]


@pytest.mark.parametrize("lite", [True, False], ids=["lite", "full"])
def test_a_call_without_sound_is_followed_to_another_port(lite: bool) -> None:
    call = DataCall(lite=lite)
    call.say("one")
    call.network.run(0.5)
    call.network.rebind(LEFT, MOVED)
    call.say("two")
    call.network.run(5 * DELAY)
    assert call.heard == ["one", "two"]
    call.network.run(0.1)
    assert call.server.machine.conversation.session.path.remote == MOVED  # type: ignore[union-attr]
    assert call.counted("endpoint.tried_by_host") >= 1
    assert call.counted("ice.followed_media") == 1


def test_a_forged_record_moves_no_call_and_is_not_answered() -> None:
    call = DataCall()
    near = Address(HOME.host, 9_999)
    records = [b"\x17\xfe\xfd\x00\x01" + bytes(30), b"\x2f" + bytes(30), b"\x16\xfe\xfd" + bytes(30)]
    call.server.take_together([(record, Path(RIGHT, near)) for record in records])
    assert call.counted("endpoint.tried_by_host") == 2  # a handshake is tried with none
    assert call.counted("ice.probed") == 0
    call.say("one")
    call.network.run(0.5)
    assert call.heard == ["one"]
    assert call.server.machine.conversation.session.path.remote == HOME  # type: ignore[union-attr]
