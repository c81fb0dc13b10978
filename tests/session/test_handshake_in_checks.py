"""The handshake inside checks and responses, between two whole endpoints (draft-hancke-webrtc-sped)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from interop.network_model import NetworkModel
from stack.core.machine import Instant, Path
from stack.dtls import Version
from stack.ice.piggyback import sign_with_piggyback
from stack.sdp import ChannelMap, Setup
from stack.session import Connected, Kind, classify
from stack.session.dtls_in_stun import MAX_DATAGRAM
from stack.session.session import LIBWEBRTC_PAUSE
from stack.stun import (
    DtlsInStun,
    DtlsInStunAcknowledgement,
    Fingerprint,
    GoogNetworkInfo,
    Message,
    MessageClass,
    MessageIntegrity,
)
from stack.voice.conversation import ConversationConfig
from tests.sim.calls import CallPair, agree, is_up
from tests.sim.network import Host

PLAIN = ConversationConfig(dtls_in_stun=False)
DELAY = 0.05
SERVER_HELLO = 2


def begins_with_server_hello(datagram: bytes) -> bool:
    return datagram[0] == 22 and datagram[13] == SERVER_HELLO


def unsigned(message: Message) -> Message:
    kept = tuple(each for each in message.attributes if not isinstance(each, MessageIntegrity | Fingerprint))
    return replace(message, attributes=kept)


class Wire:
    """Notes what the server sends, in order: (when, its kind, DTLS in it)."""

    def __init__(self, pair: CallPair) -> None:
        self.sent: list[tuple[Instant, Kind, bytes]] = []
        self._pair, self._begun = pair, pair.now
        pair.network.filter = self

    def __call__(self, sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        if sender is self._pair.right:
            kind = classify(data)
            held = Message.parse(data).get(DtlsInStun) if kind is Kind.STUN else None
            carried = data if kind is Kind.DTLS else held.value if held else b""
            self.sent.append((self._pair.now - self._begun, kind, carried))
        return data


@pytest.mark.parametrize("ice_lite", [True, False], ids=["lite", "full"])
def test_the_servers_flight_is_in_the_response_to_the_check_with_the_hello(ice_lite: bool) -> None:
    pair = CallPair(agree(ice_lite=ice_lite), NetworkModel(delay=DELAY))
    wire = Wire(pair)
    assert pair.run(5, lambda: bool(pair.left.seen(Connected)))
    at, kind, carried = wire.sent[0]
    assert (at, kind) == (pytest.approx(DELAY), Kind.STUN)
    assert begins_with_server_hello(carried)
    assert len(carried) <= MAX_DATAGRAM
    plain = [data for _, kind, data in wire.sent if kind is Kind.DTLS]
    assert not any(map(begins_with_server_hello, plain)), "once is enough"
    assert pair.left.machine.session.steps["keys_ready"] == pytest.approx(2000 * DELAY, abs=1)


@pytest.mark.parametrize("ice_lite", [True, False], ids=["lite", "full"])
def test_the_servers_hello_is_in_the_response_to_a_check(ice_lite: bool) -> None:
    pair = CallPair(agree(setup=Setup.ACTIVE, ice_lite=ice_lite), NetworkModel(delay=DELAY))
    wire = Wire(pair)
    assert pair.run(5, lambda: is_up(pair.left) and is_up(pair.right))
    carried = next(data for _, kind, data in wire.sent if kind is Kind.STUN and data)
    assert (carried[0], carried[13]) == (22, 1)
    assert pair.left.machine.session.steps["keys_ready"] <= 4000 * DELAY + 1


def test_a_flight_of_two_datagrams_arrives_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.session.session.MAX_DATAGRAM", 400)
    pair = CallPair(agree(), NetworkModel(delay=DELAY))
    wire = Wire(pair)
    assert pair.run(5, lambda: bool(pair.left.seen(Connected)))
    flight = [(kind, data) for _, kind, data in wire.sent if data][:2]
    assert [kind for kind, _ in flight] == [Kind.STUN, Kind.DTLS]
    assert begins_with_server_hello(flight[0][1])
    assert pair.left.machine.session.steps["keys_ready"] == pytest.approx(2000 * DELAY, abs=1)


def test_a_client_that_does_not_speak_it_gets_what_it_always_got() -> None:
    pair = CallPair(agree(), NetworkModel(delay=DELAY), client=PLAIN)
    wire = Wire(pair)
    assert pair.run(5, lambda: bool(pair.left.seen(Connected)))
    assert not any(data for _, kind, data in wire.sent if kind is Kind.STUN)
    assert wire.sent[0][:2] == (pytest.approx(DELAY), Kind.STUN)
    assert pair.left.machine.session.steps["keys_ready"] == pytest.approx(4000 * DELAY, abs=1)


@pytest.mark.parametrize("setup", [Setup.PASSIVE, Setup.ACTIVE])
def test_dtls_in_a_response_that_the_peer_did_not_sign_is_not_taken(setup: Setup) -> None:
    """A client's agent verifies a response before anything in it reaches DTLS."""
    pair = CallPair(agree(setup=setup), NetworkModel(delay=DELAY))
    forged: list[bytes] = []

    def forge(sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        """Sign every response of the server that carries DTLS with another password."""
        if sender is not pair.right:
            return data
        if classify(data) is not Kind.STUN:
            return None
        message = Message.parse(data)
        held = message.get(DtlsInStun)
        if message.message_class is not MessageClass.SUCCESS_RESPONSE or held is None or not held.value:
            return data
        forged.append(held.value)
        return unsigned(message).sign(b"another")

    pair.network.filter = forge
    pair.run(1)
    counters = pair.left.machine.all_counters()
    assert forged
    assert counters["ice.dropped_wrong_response_integrity"] == len(forged)
    assert counters["session.dtls_in_stun"] == 0
    assert "dtls_begun" not in pair.left.machine.session.steps


def test_a_last_flight_that_is_lost_comes_in_a_check() -> None:
    pair = CallPair(agree(), NetworkModel(delay=DELAY))

    def lose(sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        """Lose what the client's handshake sends by itself."""
        return None if sender is pair.left and classify(data) is Kind.DTLS else data

    pair.network.filter = lose
    assert pair.run(1, lambda: is_up(pair.right))
    assert pair.right.machine.session.steps["dtls_connected"] == pytest.approx(3000 * DELAY, abs=1)


@pytest.mark.parametrize("version", [Version.DTLS_1_2, Version.DTLS_1_3])
@pytest.mark.parametrize("setup", [Setup.PASSIVE, Setup.ACTIVE])
def test_it_ends_on_both_sides(version: Version, setup: Setup) -> None:
    pair = CallPair(agree(setup=setup), NetworkModel(delay=DELAY), client=ConversationConfig(dtls_version=version))
    assert pair.run(5, lambda: is_up(pair.left) and is_up(pair.right))
    pair.run(8)  # until consent has been checked
    seen: list[Message] = []

    def note(sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        if classify(data) is Kind.STUN:
            seen.append(Message.parse(data))
        return data

    pair.network.filter = note
    pair.run(8)
    assert len(seen) >= 2
    assert not any(each.get(DtlsInStun) or each.get(DtlsInStunAcknowledgement) for each in seen)


@pytest.mark.parametrize("is_libwebrtc", [True, False])
def test_nothing_follows_the_flight_closely_to_a_peer_that_would_lose_its_own(
    is_libwebrtc: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sign(piggyback: Any, message: Message, key: bytes) -> bytes:
        """Make the client's checks libwebrtc's."""
        return sign_with_piggyback(piggyback, message.with_attributes(GoogNetworkInfo(1, 50)), key)

    if is_libwebrtc:
        monkeypatch.setattr("stack.ice.check_client.sign_with_piggyback", sign)
    pair = CallPair(agree(channels=(ChannelMap(0, "events"),)), NetworkModel(delay=DELAY))
    wire = Wire(pair)
    assert pair.run(5, lambda: bool(pair.right.seen(Connected)))
    pair.run(0.02)
    data = [at for at, kind, _ in wire.sent if kind is Kind.DTLS]
    paused = LIBWEBRTC_PAUSE if is_libwebrtc else 0.0
    assert pair.right.machine.session.steps["keys_ready"] == pytest.approx(1000 * (DELAY + paused), abs=0.5)
    assert data[0] == pytest.approx(DELAY + paused, abs=0.0005)
    assert pair.right.seen(Connected)[0].authenticated is False
    assert pair.run(5, lambda: is_up(pair.right) and is_up(pair.left))


def test_a_handshake_that_checks_alone_have_carried_waits_for_a_path() -> None:
    """Of two full agents one may have the whole handshake before a check of its own was answered."""
    pair = CallPair(agree(ice_lite=False), NetworkModel(delay=DELAY))
    finished = False

    def lose(sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        nonlocal finished
        finished = finished or pair.right.machine.session.security is not None
        is_check = classify(data) is Kind.STUN
        answers = is_check and Message.parse(data).message_class is MessageClass.SUCCESS_RESPONSE
        return None if sender is pair.left and answers and not finished else data

    pair.network.filter = lose
    assert pair.run(10, lambda: is_up(pair.left) and is_up(pair.right))
    steps = pair.right.machine.session.steps
    assert steps["dtls_connected"] < steps["ice_validated"] <= steps["keys_ready"]
