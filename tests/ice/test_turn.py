"""The TURN client against a strict server, in virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.core.machine import Address, Instant, Path, TerminalEvents, Transmit, TransportProtocol
from stack.ice.turn import KEEPALIVE, MAX_ATTEMPTS, MAX_SERVERS, TurnClient
from stack.ice.turn_events import TurnAllocated, TurnClientState, TurnCredentials, TurnFailed, TurnFailureReason
from stack.ice.turn_framing import channel_data
from stack.ice.turn_peers import FORBIDDEN_PAUSE, MAX_WAITING
from stack.stun import AddressFamily, Message, MessageClass, Method, TransactionId, XorPeerAddress
from tests.sim.entropy import entropy
from tests.sim.network import Host, Network
from tests.sim.pair import unordered
from tests.sim.turn_server import TurnServer

US = Address("10.0.0.1", 5000)
SERVER = Address("192.0.2.1", 3478)
RELAYED = [Address("192.0.2.1", 49152 + n) for n in range(3)]
RELAYED6 = Address("2001:db8::1", 49152)
PEER = Address("198.51.100.1", 7000)
USERS = {"user": "secret"}
UDP, TCP = TransportProtocol.UDP, TransportProtocol.TCP
STUN = Message(MessageClass.REQUEST, Method.BINDING, TransactionId(bytes(12))).serialize()
MEDIA = b"\x80 some media"


class Peer:
    """Keeps what arrives and sends it back, changed."""

    terminal_events: ClassVar[TerminalEvents] = ()

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Address]] = []
        self._transmits: list[Transmit] = []

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        for data, path in batch:
            self.received.append((data, path.remote))
            self._transmits.append(Transmit(b"re:" + data, path))

    def handle_timeout(self, now: Instant) -> None: ...

    def poll_timeout(self) -> Instant | None:
        return None

    def drain_transmits(self) -> Sequence[Transmit]:
        transmits, self._transmits = self._transmits, []
        return transmits

    def drain_events(self) -> Sequence[Any]:
        return ()


@dataclass
class Setup:
    network: Network
    client: Host[TurnClient]
    server: Host[TurnServer]
    peer: Host[Peer]

    def send(self, data: bytes, peer: Address = PEER) -> None:
        machine = self.client.machine
        wrapped = machine.wrap(data, Path(machine.relayed[0], peer))
        if wrapped is not None:
            self.network.carry(self.client, *wrapped)

    def received(self) -> list[tuple[bytes, Path]]:
        return list(self.client.machine.drain_received())

    def run(self, seconds: float = 1.0) -> None:
        self.network.run(seconds)

    def spend(self, seconds: float, every: float = 2.0) -> None:
        """Let time pass with something to send now and then."""
        for _ in range(int(seconds / every)):
            self.send(MEDIA)
            self.run(every)


def make(
    server: TurnServer | None = None,
    *,
    protocol: TransportProtocol = UDP,
    password: str = "secret",
    family: AddressFamily | None = AddressFamily.IPV4,
    loss: float = 0.0,
    allocate: bool = True,
) -> Setup:
    network = Network(1, unordered(0.01, loss=loss))
    path = Path(US, SERVER, protocol)
    client = TurnClient(path, TurnCredentials("user", password), entropy("client"), family=family)
    hosts = Setup(
        network,
        network.attach("client", client, US),
        network.attach("server", server or TurnServer(RELAYED, USERS), SERVER, *RELAYED, RELAYED6),
        network.attach("peer", Peer(), PEER),
    )
    if allocate:
        hosts.client.command(lambda machine, now: machine.start(now))
        network.run(1.0, lambda: bool(hosts.client.events))
    return hosts


def failure(hosts: Setup) -> TurnFailed:
    (failed,) = hosts.client.seen(TurnFailed)
    assert hosts.client.machine.state is TurnClientState.CLOSED
    assert hosts.client.machine.poll_timeout() is None
    return failed


@pytest.mark.parametrize("protocol", [UDP, TCP])
def test_an_allocation_takes_two_round_trips_with_the_challenge(protocol: TransportProtocol) -> None:
    hosts = make(protocol=protocol)
    assert hosts.client.events == [TurnAllocated((RELAYED[0],), US)]
    assert hosts.server.machine.requests == {"allocate 401": 1, "allocate": 1}
    assert hosts.network.now == pytest.approx(1000.04)


def test_a_server_without_users_grants_the_unsigned_request() -> None:
    hosts = make(TurnServer(RELAYED))
    assert hosts.client.events == [TurnAllocated((RELAYED[0],), US)]


def test_data_go_both_ways_first_in_indications_and_then_through_a_channel() -> None:
    hosts = make()
    hosts.send(STUN)
    hosts.run()
    assert hosts.peer.machine.received == [(STUN, RELAYED[0])]
    assert hosts.received() == [(b"re:" + STUN, Path(RELAYED[0], PEER))]
    assert hosts.server.machine.requests["channel_bind"] == 0  # a candidate that is checked costs no channel
    hosts.send(MEDIA)
    hosts.run()
    assert hosts.server.machine.relayed_bytes == {
        "send indication": 2,
        "data indication": 1,
        "channel data down": 1,
    }
    hosts.send(MEDIA)
    hosts.send(STUN)
    hosts.run()
    assert hosts.server.machine.relayed_bytes["channel data up"] == 2
    assert [data for data, _ in hosts.received()] == [b"re:" + MEDIA, b"re:" + MEDIA, b"re:" + STUN]
    assert hosts.server.machine.requests["create_permission"] == 1


def test_over_tcp_channel_data_are_padded() -> None:
    hosts = make(protocol=TCP)
    hosts.send(MEDIA)
    hosts.run()
    hosts.client.sent.clear()
    wrapped = hosts.client.machine.wrap(b"x", Path(RELAYED[0], PEER))
    assert wrapped is not None
    assert wrapped.data == b"\x40\x00\x00\x01x\0\0\0"
    assert wrapped.path == Path(US, SERVER, TCP)


def test_few_datagrams_wait_for_the_permission() -> None:
    hosts = make()
    for number in range(MAX_WAITING + 2):
        hosts.send(b"%d" % number)
    hosts.run()
    assert [data for data, _ in hosts.peer.machine.received] == [b"%d" % n for n in range(MAX_WAITING)]
    assert hosts.client.machine.counters["ice.dropped_turn_queue_full"] == 2


def test_a_forbidden_peer_is_not_asked_for_again_at_once() -> None:
    server = TurnServer(RELAYED, USERS, forbidden=[PEER.host])
    hosts = make(server)
    for _ in range(10):
        hosts.send(STUN)
        hosts.run()
    assert server.requests["create_permission 403"] == 1
    assert hosts.client.machine.counters["ice.dropped_turn_forbidden"] == 10
    hosts.run(FORBIDDEN_PAUSE)
    server.forbidden.clear()
    hosts.send(STUN)
    hosts.run()
    assert len(hosts.peer.machine.received) == 1


def test_a_peer_of_which_no_channel_is_to_be_had_is_served_by_indications() -> None:
    hosts = make()
    hosts.send(STUN)
    hosts.run()
    hosts.network.filter = lambda host, data, path: None if data[:2] == b"\x00\x09" else data  # ChannelBind
    hosts.spend(60.0)
    assert len(hosts.received()) == 31
    assert hosts.server.machine.relayed_bytes["channel data up"] == 0


def test_everything_is_renewed_for_as_long_as_a_call_may_last() -> None:
    hosts = make()
    hosts.spend(3600.0)
    hosts.run()
    requests = hosts.server.machine.requests
    assert len(hosts.peer.machine.received) == 1800
    assert requests["refresh"] == pytest.approx(3600 / 540, abs=1)
    assert requests["channel_bind"] == 3600 // 240 + 1
    assert requests["create_permission"] == 1  # the channel renews it
    assert hosts.server.machine.requests["peer without permission"] == 0


def test_a_permission_is_renewed_without_a_channel_too() -> None:
    hosts = make()
    for _ in range(400):
        hosts.send(STUN)
        hosts.run(2.0)
    assert hosts.server.machine.requests["create_permission"] == 4
    assert len(hosts.received()) == 400


def test_what_is_not_used_any_more_is_let_go_and_can_be_used_again() -> None:
    hosts = make()
    hosts.send(MEDIA)
    hosts.run(200.0)
    hosts.run(800.0)
    requests = dict(hosts.server.machine.requests)
    assert requests["create_permission"] == 1
    assert requests["channel_bind"] == 1
    hosts.send(MEDIA)
    hosts.run()
    assert len(hosts.peer.machine.received) == 2
    assert hosts.server.machine.requests["channel_bind"] == 2


def test_a_channel_that_falls_out_of_use_shortly_before_its_end_is_renewed() -> None:
    hosts = make()
    hosts.send(MEDIA)
    hosts.run(500.0)  # it is bound for 600 s, and was not used after the first datagram
    hosts.spend(300.0)
    hosts.run()
    assert len(hosts.peer.machine.received) == 151
    assert hosts.server.machine.requests["unbound channel"] == 0


@pytest.mark.parametrize("lifetime", [600, 60, 4])
def test_an_allocation_lives_on_whatever_lifetime_is_granted(lifetime: int) -> None:
    hosts = make(TurnServer(RELAYED, USERS, max_lifetime=lifetime))
    hosts.run(1300.0)
    assert list(hosts.server.machine.allocations) == [Path(SERVER, US)]
    assert hosts.client.machine.state is TurnClientState.ALLOCATED


def test_a_lifetime_of_nothing_is_no_allocation() -> None:
    hosts = make(TurnServer(RELAYED, USERS, max_lifetime=0))
    assert failure(hosts) == TurnFailed(TurnFailureReason.REFUSED)
    assert hosts.server.machine.requests["allocate"] == 1


@pytest.mark.parametrize("is_sending", [False, True])
def test_a_server_that_has_started_anew_is_noticed_by_its_silence(is_sending: bool) -> None:
    hosts = make()
    hosts.spend(4.0)
    hosts.server.machine.allocations.clear()
    hosts.server.machine.nonce = "nonce-2"
    wait = hosts.spend if is_sending else hosts.run
    wait(2 * KEEPALIVE + 2.0)
    assert failure(hosts).reason is TurnFailureReason.REFUSED


def test_a_server_that_relays_to_us_is_not_asked_whether_it_is_there() -> None:
    hosts = make()
    hosts.spend(400.0)
    assert hosts.server.machine.requests["refresh"] == 0


def test_the_bindings_of_nats_are_kept_by_a_datagram_now_and_then() -> None:
    hosts = make()
    before = len(hosts.client.sent)
    hosts.run(300.0)
    gaps = [b.at - a.at for a, b in zip(hosts.client.sent[before:], hosts.client.sent[before + 1 :], strict=False)]
    assert len(gaps) > 15
    assert max(gaps) <= KEEPALIVE + 0.1


def test_a_stale_nonce_is_replaced() -> None:
    hosts = make()
    hosts.server.machine.nonce = "nonce-2"
    hosts.send(MEDIA)
    hosts.run()
    assert hosts.server.machine.requests["create_permission 438"] == 1
    assert hosts.client.machine.counters["ice.turn_stale_nonce"] >= 1
    assert len(hosts.peer.machine.received) == 1


def test_a_server_whose_nonce_is_always_stale_ends_it() -> None:
    server = TurnServer(RELAYED, USERS)
    hosts = make(server, allocate=False)

    def changing(host: Host[Any], data: bytes, path: Path) -> bytes:
        server.nonce += "x"
        return data

    hosts.network.filter = changing
    hosts.client.command(lambda machine, now: machine.start(now))
    hosts.run()
    assert failure(hosts) == TurnFailed(TurnFailureReason.REFUSED, 438)
    assert sum(server.requests.values()) == MAX_ATTEMPTS


def test_a_wrong_password_is_found_out_after_one_try() -> None:
    hosts = make(password="wrong")
    assert failure(hosts) == TurnFailed(TurnFailureReason.WRONG_CREDENTIALS, 401)
    assert hosts.server.machine.requests == {"allocate 401": 2}


def test_a_server_that_has_nothing_left_refuses() -> None:
    hosts = make(TurnServer([], USERS))
    assert failure(hosts) == TurnFailed(TurnFailureReason.REFUSED, 508)


def test_a_dead_server_fails_when_its_transaction_does() -> None:
    hosts = make(allocate=False)
    hosts.network.detach(hosts.server)
    hosts.client.command(lambda machine, now: machine.start(now))
    hosts.run(39.0)
    assert not hosts.client.events
    hosts.run(1.0)
    assert failure(hosts) == TurnFailed(TurnFailureReason.NO_RESPONSE)


def test_an_allocation_that_the_server_has_lost_is_reported() -> None:
    hosts = make()
    hosts.server.machine.allocations.clear()
    hosts.run(600.0)
    assert failure(hosts) == TurnFailed(TurnFailureReason.REFUSED, 437)


def test_a_lost_connection_ends_the_allocation() -> None:
    hosts = make(protocol=TCP)
    hosts.client.command(lambda machine, now: machine.note_connection_lost(now))
    assert failure(hosts) == TurnFailed(TurnFailureReason.CONNECTION_LOST)
    assert hosts.client.machine.wrap(MEDIA, Path(RELAYED[0], PEER)) is None
    assert hosts.client.machine.counters["ice.dropped_turn_not_allocated"] == 1


def test_another_server_is_turned_to_once() -> None:
    other_address = Address("192.0.2.2", 3479)
    other_relayed = Address("192.0.2.2", 50000)
    hosts = make(TurnServer([], USERS, alternate=other_address), allocate=False)
    other = TurnServer([other_relayed], USERS)
    hosts.network.attach("other", other, other_address, other_relayed)
    hosts.client.command(lambda machine, now: machine.start(now))
    hosts.run()
    assert hosts.client.events == [TurnAllocated((other_relayed,), US)]
    assert hosts.client.machine.server == Path(US, other_address)
    hosts.send(MEDIA)
    hosts.run()
    assert hosts.received() == [(b"re:" + MEDIA, Path(other_relayed, PEER))]


@pytest.mark.parametrize("others", [1, MAX_SERVERS - 1, MAX_SERVERS])
def test_each_server_may_send_us_to_the_next(others: int) -> None:
    addresses = [Address(f"192.0.2.{2 + number}", 3478) for number in range(others)]
    relayed = Address("192.0.2.100", 50000)
    hosts = make(TurnServer([], USERS, alternate=addresses[0]), allocate=False)
    for address, following in pairwise(addresses):
        hosts.network.attach(str(address), TurnServer([], USERS, alternate=following), address)
    hosts.network.attach("last", TurnServer([relayed], USERS), addresses[-1], relayed)
    hosts.client.command(lambda machine, now: machine.start(now))
    hosts.run()
    if others < MAX_SERVERS:
        assert hosts.client.events == [TurnAllocated((relayed,), US)]
    else:
        assert failure(hosts) == TurnFailed(TurnFailureReason.REFUSED, 300)


def test_servers_that_point_at_each_other_end_it() -> None:
    other_address = Address("192.0.2.2", 3479)
    hosts = make(TurnServer([], USERS, alternate=other_address), allocate=False)
    hosts.network.attach("other", TurnServer([], USERS, alternate=SERVER), other_address)
    hosts.client.command(lambda machine, now: machine.start(now))
    hosts.run()
    assert failure(hosts) == TurnFailed(TurnFailureReason.REFUSED, 300)


def test_both_families_are_asked_for_and_one_is_enough() -> None:
    both = make(TurnServer([*RELAYED, RELAYED6], USERS), family=None)
    assert both.client.events == [TurnAllocated((RELAYED[0], RELAYED6), US)]
    one = make(TurnServer(RELAYED, USERS), family=None)
    assert one.client.events == [TurnAllocated((RELAYED[0],), US)]
    old = make(TurnServer(RELAYED, USERS, knows_ipv6=False), family=None)
    assert old.client.events == [TurnAllocated((RELAYED[0],), US)]
    six = make(TurnServer([*RELAYED, RELAYED6], USERS), family=AddressFamily.IPV6)
    assert six.client.events == [TurnAllocated((RELAYED6,), US)]


def test_close_gives_the_allocation_back() -> None:
    hosts = make()
    hosts.client.command(lambda machine, now: machine.close(now))
    hosts.run()
    assert hosts.server.machine.allocations == {}
    assert hosts.client.machine.poll_timeout() is None


def test_through_loss_everything_comes_about() -> None:
    hosts = make(loss=0.3, allocate=False)
    hosts.client.command(lambda machine, now: machine.start(now))
    hosts.run(60.0)
    assert hosts.client.seen(TurnAllocated)
    for _ in range(200):
        hosts.send(MEDIA)
        hosts.run(2.0)
    assert hosts.server.machine.relayed_bytes["channel data up"] > 100
    assert not hosts.client.seen(TurnFailed)


def test_an_unsigned_success_to_a_signed_request_changes_nothing() -> None:
    hosts = make()
    hosts.send(STUN)
    hosts.client.wake()
    (request,) = [Message.parse(s.data) for s in hosts.client.sent if s.data[:2] == b"\x00\x08"]
    forged = request.respond(MessageClass.SUCCESS_RESPONSE).serialize_with_fingerprint()
    hosts.client.take(forged, Path(US, SERVER))
    assert hosts.client.machine.counters["ice.dropped_turn_wrong_integrity"] == 1
    assert hosts.server.machine.relayed_bytes["send indication"] == 0
    elsewhere = Path(US, Address("192.0.2.66", 3478))
    hosts.client.take(forged, elsewhere)
    assert hosts.client.machine.counters["ice.dropped_turn_unexpected"] == 1


@given(
    data=st.one_of(
        st.binary(max_size=80), st.binary(max_size=40).map(lambda d: channel_data(0x4000, d, padded=False))
    )
)
@settings(max_examples=100, deadline=None)
def test_hostile_datagrams_raise_nothing(data: bytes) -> None:
    hosts = make()
    hosts.client.take(data, Path(US, SERVER))
    indication = Message(MessageClass.INDICATION, Method.DATA, TransactionId(bytes(12)), (XorPeerAddress(PEER),))
    hosts.client.take(indication.serialize() + data, Path(US, SERVER))
    assert hosts.client.machine.state is TurnClientState.ALLOCATED
