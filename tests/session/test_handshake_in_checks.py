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
from stack.session.session import LIBWEBRTC_PAUSE, MAX_BEFORE_ICE
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
from tests.sim.pair import LEFT, RIGHT

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


def test_a_check_of_the_server_does_not_end_dtls_in_stun() -> None:
    """Where its flight is lost the server asks by a check whether the client is there: its first message, then."""
    pair = CallPair(agree(), NetworkModel(delay=DELAY))
    seen: list[MessageClass] = []

    def lose(sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        """Lose the server's responses, and what comes by itself, until its own check is answered."""
        if sender is not pair.right or MessageClass.REQUEST in seen:
            return data
        if classify(data) is not Kind.STUN:
            return None
        seen.append(Message.parse(data).message_class)
        return data if seen[-1] is MessageClass.REQUEST else None

    pair.network.filter = lose
    assert pair.run(5, lambda: is_up(pair.right))
    assert MessageClass.REQUEST in seen
    assert pair.left.machine.session._carrier.peer_supports
    assert pair.left.machine.all_counters()["session.dtls_in_stun"] > 0


def test_a_flight_that_waits_for_room_goes_when_the_check_is_answered() -> None:
    """A voice has begun with the Finished; the flight was lost, and there is no room for another."""
    sides = agree()
    small = replace(sides, server=replace(sides.server, offer_size=1_300))
    pair = CallPair(small, NetworkModel(delay=DELAY))
    answered: list[float] = []
    flights: list[float] = []

    def lose(sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        kind = classify(data)
        if sender is pair.left and kind is Kind.STUN:
            is_response = Message.parse(data).message_class is MessageClass.SUCCESS_RESPONSE
            answered.extend([pair.now] * is_response)
        elif sender is pair.right and kind in (Kind.STUN, Kind.DTLS) and len(data) > 400:
            flights.append(pair.now)
            return None if len(flights) == 1 else data
        return data

    pair.network.filter = lose
    assert pair.run(5, lambda: is_up(pair.right))
    assert answered
    assert flights[1] == pytest.approx(answered[0] + DELAY)


def test_dtls_that_comes_before_the_answer_to_a_check_is_kept() -> None:
    """The server's check came through, and its ClientHello with it; only the response to ours is late."""
    pair = CallPair(agree(setup=Setup.ACTIVE), NetworkModel(delay=DELAY), client=PLAIN, server=PLAIN)
    held: list[tuple[bytes, Path]] = []

    def hold(sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        if sender is pair.right and classify(data) is Kind.STUN and not held:
            held.append((data, path))
            return None
        return data

    pair.network.filter = hold
    assert pair.run(5, lambda: is_up(pair.left) and is_up(pair.right))
    assert pair.left.machine.all_counters()["session.dropped_dtls_before_ice"] == 0
    # the check is repeated after 0.2 s, answered after a round trip, and the ClientHello is there already
    assert pair.left.machine.session.steps["dtls_begun"] == pair.left.machine.session.steps["ice_validated"]


def test_of_what_comes_before_ice_a_flight_is_kept() -> None:
    pair = CallPair(agree(), NetworkModel(delay=DELAY))
    session = pair.left.machine.session
    stranger = Path(LEFT, RIGHT._replace(port=9))
    for number in range(MAX_BEFORE_ICE + 3):
        session.handle_datagram(b"\x16" + bytes([number]), stranger, pair.now)
    assert session.counters["session.dropped_dtls_before_ice"] == 3
    assert pair.run(5, lambda: is_up(pair.left))
    assert session.counters["session.dropped_dtls_before_ice"] == MAX_BEFORE_ICE + 3, "none came where ICE went"
