"""What a gatherer asks, in what order, and what it makes of the answers."""

from __future__ import annotations

import pytest

from stack.core.machine import Address, Path, Transmit, TransportProtocol
from stack.ice import CandidateType
from stack.ice.allocation import REGAIN_AFTER, RETRY_AFTER
from stack.ice.candidate import ACTIVE_PORT
from stack.ice.candidate_lists import MAX_LOCAL_CANDIDATES
from stack.ice.gathering import (
    DROPPED_RELAYED_UNKNOWN,
    DROPPED_SERVER_TOO_MANY,
    MAX_TASKS,
    TA,
    Gatherer,
    TransportPolicy,
)
from stack.ice.relaying import RelayingMachine
from stack.ice.servers import IceServer, LocatedServer
from stack.ice.turn import KEEPALIVE
from stack.stun import (
    ErrorCode,
    Lifetime,
    Message,
    MessageClass,
    Method,
    RequestedTransport,
    TransactionId,
    XorMappedAddress,
    XorRelayedAddress,
)
from tests.sim.entropy import entropy
from tests.sim.ice import full

UDP, TCP = TransportProtocol.UDP, TransportProtocol.TCP
BASE, SECOND, BASE6 = Address("10.0.0.1", 5000), Address("10.0.0.2", 5000), Address("2001:db8::1", 5000)
SERVER = Address("192.0.2.1", 3478)
MAPPED = Address("203.0.113.1", 7000)
STUN = LocatedServer(IceServer("stun", 3478), SERVER)
TURN = LocatedServer(IceServer("turn", 3478, UDP, False, True, "u", "p"), SERVER)
TURNS = LocatedServer(IceServer("turn", 443, TCP, True, True, "u", "p"), Address("192.0.2.1", 443))


def gatherer(*bases: Address, policy: TransportPolicy = TransportPolicy.ALL) -> Gatherer:
    return Gatherer(bases or (BASE,), entropy("gatherer"), policy)


def asked(machine: Gatherer, now: float = 0.0, seconds: float = 5.0) -> list[tuple[float, Transmit]]:
    """Let time pass from deadline to deadline, and return what is sent and when."""
    sent, end = [(now, transmit) for transmit in machine.drain_transmits()], now + seconds
    while (deadline := machine.poll_timeout()) is not None and deadline <= end:
        machine.handle_timeout(deadline)
        sent += [(deadline, transmit) for transmit in machine.drain_transmits()]
    return sent


def respond(machine: Gatherer, transmit: Transmit, mapped: Address = MAPPED, now: float = 0.1) -> None:
    request = Message.parse(transmit.data)
    response = request.respond(MessageClass.SUCCESS_RESPONSE, XorMappedAddress(mapped))
    assert machine.unwrap(response.serialize_with_fingerprint(), transmit.path, now) == ()


def test_one_transaction_begins_every_ta_from_every_base_that_fits() -> None:
    machine = gatherer(BASE, SECOND, BASE6)
    machine.add_server(STUN, 0.0)
    machine.add_server(TURN, 0.0)
    machine.add_server(TURNS, 0.0)
    first = asked(machine, seconds=0.4)
    starts = [(round(at / TA), transmit.path) for at, transmit in first]
    assert starts == [
        (0, Path(BASE, SERVER)),
        (1, Path(SECOND, SERVER)),
        (2, Path(BASE, SERVER)),
        (3, Path(SECOND, SERVER)),
        (4, Path(Address(BASE.host, ACTIVE_PORT), TURNS.address, TCP)),
        (5, Path(Address(SECOND.host, ACTIVE_PORT), TURNS.address, TCP)),
    ]
    requests = [Message.parse(transmit.data) for _, transmit in first]
    assert [request.method for request in requests] == [Method.BINDING] * 2 + [Method.ALLOCATE] * 4
    assert requests[2].get(RequestedTransport) == RequestedTransport(17)


@pytest.mark.parametrize(
    ("policy", "ports"),
    [
        (TransportPolicy.ALL, [3478, 3478, 443]),
        (TransportPolicy.UDP, [3478, 3478]),
        (TransportPolicy.TCP, [443]),
        (TransportPolicy.RELAY, [3478, 443]),
    ],
)
def test_only_servers_that_the_policy_wants_are_asked(policy: TransportPolicy, ports: list[int]) -> None:
    machine = gatherer(policy=policy)
    for located in (STUN, TURN, TURNS):
        machine.add_server(located, 0.0)
    assert [transmit.path.remote.port for _, transmit in asked(machine, seconds=0.3)] == ports


def test_a_mapped_address_becomes_a_candidate_once() -> None:
    machine = gatherer()
    other = LocatedServer(IceServer("other", 3478), Address("192.0.2.2", 3478))
    for located in (STUN, other):
        machine.add_server(located, 0.0)
    for _, transmit in asked(machine, seconds=0.1):
        respond(machine, transmit)
        respond(machine, transmit)  # a copy
    (candidate,) = machine.drain_candidates()
    assert candidate.type is CandidateType.SERVER_REFLEXIVE
    assert (candidate.address, candidate.base_address) == (MAPPED, BASE)
    assert [outcome.text for outcome in machine.outcomes] == [str(MAPPED)] * 2
    assert not machine.is_complete
    machine.finish(0.2)
    assert machine.is_complete


def test_without_a_nat_there_is_nothing_to_find() -> None:
    machine = gatherer()
    machine.add_server(STUN, 0.0)
    ((_, transmit),) = asked(machine, seconds=0.1)
    respond(machine, transmit, mapped=BASE)
    assert machine.drain_candidates() == []


def test_a_binding_is_kept_open() -> None:
    machine = gatherer()
    machine.add_server(STUN, 0.0)
    ((_, transmit),) = asked(machine, seconds=0.1)
    respond(machine, transmit)
    later = asked(machine, now=0.2, seconds=2.5 * KEEPALIVE)
    assert [Message.parse(each.data).message_class for _, each in later] == [MessageClass.INDICATION] * 2
    machine.close(60.0)
    assert machine.poll_timeout() is None


def test_a_refusal_is_named() -> None:
    machine = gatherer()
    machine.add_server(STUN, 0.0)
    ((_, transmit),) = asked(machine, seconds=0.1)
    refusal = Message.parse(transmit.data).respond(MessageClass.ERROR_RESPONSE, ErrorCode(500))
    assert machine.unwrap(refusal.serialize_with_fingerprint(), transmit.path, 0.1) == ()
    assert [outcome.text for outcome in machine.outcomes] == ["the STUN server refused"]


NOWHERE = [Address("0.0.0.0", 0), Address("203.0.113.5", 0), Address("224.0.0.1", 4000), Address("::", 4000)]


@pytest.mark.parametrize("address", NOWHERE, ids=str)
def test_an_address_where_nothing_is_makes_no_candidate(address: Address) -> None:
    machine = gatherer()
    machine.add_server(STUN, 0.0)
    machine.add_server(TURNS, 0.0)
    sent = {transmit.path.remote: transmit for _, transmit in asked(machine, seconds=0.2)}
    respond(machine, sent[STUN.address], mapped=address)
    request = sent[TURNS.address]
    granted = Message.parse(request.data).respond(
        MessageClass.SUCCESS_RESPONSE, XorRelayedAddress(address), XorMappedAddress(MAPPED), Lifetime(600)
    )
    machine.unwrap(granted.serialize_with_fingerprint(), request.path, 0.3)
    assert machine.drain_candidates() == []
    assert sorted(outcome.text for outcome in machine.outcomes) == [
        f"the STUN server says {address}, where nothing is",
        "the TURN server refused",
    ]


def test_responses_from_elsewhere_and_to_nothing_are_for_the_machine_above() -> None:
    machine = gatherer()
    machine.add_server(STUN, 0.0)
    ((_, transmit),) = asked(machine, seconds=0.1)
    response = Message.parse(transmit.data).respond(MessageClass.SUCCESS_RESPONSE, XorMappedAddress(MAPPED))
    data, elsewhere = response.serialize_with_fingerprint(), Path(BASE, Address("192.0.2.66", 3478))
    assert machine.unwrap(data, elsewhere, 0.1) == ((data, elsewhere),)
    other = Message(MessageClass.SUCCESS_RESPONSE, Method.BINDING, TransactionId(bytes(12))).serialize()
    assert machine.unwrap(other, transmit.path, 0.1) == ((other, transmit.path),)
    assert machine.unwrap(b"media", transmit.path, 0.1) == ((b"media", transmit.path),)
    assert machine.drain_candidates() == []


def test_what_is_not_relayed_passes_and_what_no_client_has_is_counted() -> None:
    machine = gatherer()
    udp = Transmit(b"x", Path(BASE, MAPPED))
    tcp = Transmit(b"x", Path(Address(BASE.host, ACTIVE_PORT), MAPPED, TCP))
    assert machine.wrap(udp) is udp
    assert machine.wrap(tcp) is tcp
    assert machine.wrap(Transmit(b"x", Path(Address("192.0.2.1", 50000), MAPPED))) is None
    assert machine.counters[DROPPED_RELAYED_UNKNOWN] == 1


def test_there_is_a_bound_on_what_is_asked() -> None:
    machine = gatherer()
    for number in range(MAX_TASKS + 5):
        machine.add_server(LocatedServer(IceServer("s", 1 + number), Address("192.0.2.1", 1 + number)), 0.0)
    assert machine.counters[DROPPED_SERVER_TOO_MANY] == 5
    assert len({transmit.path for _, transmit in asked(machine)}) == MAX_TASKS


def test_a_lost_connection_ends_its_allocation() -> None:
    machine = gatherer()
    machine.add_server(TURNS, 0.0)
    ((_, transmit),) = asked(machine, seconds=0.1)
    machine.note_connection_lost(transmit.path, 0.2)
    machine.finish(0.2)
    assert machine.is_complete
    assert machine.outcomes[0].text == "the connection to the TURN server was lost"


def test_one_server_under_two_names_is_one_client() -> None:
    machine = gatherer()
    machine.add_server(TURN, 0.0)
    other = LocatedServer(IceServer("other", 3478, UDP, False, True, "v", "q"), SERVER)
    machine.add_server(other, 0.0)
    sent = asked(machine, seconds=0.2)
    assert len(sent) == 1
    assert [(outcome.server, outcome.text) for outcome in machine.outcomes] == [
        (other, "asked already, by another name")
    ]


def test_more_servers_than_an_agent_keeps_candidates_of_are_survived() -> None:
    agent = full("one", controlling=True)
    bases = [Address(f"10.0.{number}.1", 5000) for number in range(8)]
    machine = RelayingMachine(agent, Gatherer(bases, entropy("gatherer")))
    for number in range(4):
        server = LocatedServer(
            IceServer("turn", 3478, UDP, False, True, "u", "p"), Address("192.0.2.1", 1 + number)
        )
        machine.add_server(server, 0.0)
    sent: dict[Path, Transmit] = {}
    now = 0.0
    while now < 5.0 and len(sent) < MAX_TASKS:
        sent |= {transmit.path: transmit for transmit in machine.drain_transmits()}
        now = machine.poll_timeout() or 5.0
        machine.handle_timeout(now)
    assert len(sent) == MAX_TASKS
    for number, transmit in enumerate(sent.values()):
        request = Message.parse(transmit.data)
        relayed = XorRelayedAddress(Address("192.0.2.1", 40_000 + number))
        granted = request.respond(MessageClass.SUCCESS_RESPONSE, relayed, XorMappedAddress(MAPPED), Lifetime(600))
        machine.handle_datagrams([(granted.serialize_with_fingerprint(), transmit.path)], now)
    assert len(agent.local_candidates) == MAX_LOCAL_CANDIDATES
    assert agent.counters["ice.dropped_local_candidate_too_many"] > 0


def granted(machine: Gatherer, now: float) -> Path:
    """Let the allocation that is being asked for be granted; return its path."""
    (transmit,) = machine.drain_transmits()
    request = Message.parse(transmit.data)
    relayed = XorRelayedAddress(Address("192.0.2.1", 40_000))
    response = request.respond(MessageClass.SUCCESS_RESPONSE, relayed, XorMappedAddress(MAPPED), Lifetime(600))
    machine.unwrap(response.serialize_with_fingerprint(), transmit.path, now)
    assert [candidate.type for candidate in machine.drain_candidates()] == [CandidateType.RELAYED]
    return transmit.path


def test_an_allocation_that_was_lost_is_asked_for_again_ever_more_seldom() -> None:
    machine = gatherer()
    machine.add_server(TURNS, 0.0)
    path = granted(machine, 0.0)
    now, asked_at = 100.0, []
    for _ in range(7):
        machine.note_connection_lost(path, now)
        assert machine.drain_transmits() == []
        sent = asked(machine, now, 36.0)
        assert len(sent) == 1
        asked_at.append(sent[0][0] - now)
        now = sent[0][0]
    assert asked_at == pytest.approx([REGAIN_AFTER * 2**n for n in range(5)] + [RETRY_AFTER] * 2)


def test_an_allocation_that_was_never_had_is_not_asked_for_again() -> None:
    machine = gatherer()
    machine.add_server(TURNS, 0.0)
    ((_, transmit),) = asked(machine, seconds=0.1)
    machine.note_connection_lost(transmit.path, 0.2)
    assert asked(machine, 0.2, 600.0) == []


def test_nor_is_one_whose_credentials_hold_no_more() -> None:
    machine = gatherer()
    machine.add_server(TURNS, 0.0)
    granted(machine, 0.0)
    ((_, refresh),) = [each for each in asked(machine, 0.0, 541.0) if Message.parse(each[1].data).method == 4]
    refused = Message.parse(refresh.data).respond(MessageClass.ERROR_RESPONSE, ErrorCode(401))
    machine.unwrap(refused.serialize_with_fingerprint(), refresh.path, 541.0)
    assert machine.outcomes[-1].text == "the TURN server does not take our username and password (401)"
    assert asked(machine, 541.0, 600.0) == []
