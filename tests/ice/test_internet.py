"""Two full agents in the simulated Internet: who reaches whom, and how, as RFC 8445 and RFC 4787 have it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from stack.core.machine import Address, Path, TransportProtocol
from stack.ice import (
    Candidate,
    CandidateType,
    IceAgent,
    IceCredentials,
    IceEvent,
    IceState,
    LiteAgent,
    PathSelected,
)
from stack.ice.candidate import ACTIVE_PORT, TcpType
from stack.ice.gathering import TransportPolicy
from stack.ice.relaying import RelayingMachine
from stack.ice.servers import IceServer, LocatedServer
from tests.sim.entropy import entropy
from tests.sim.internet import (
    NAT64_PREFIX,
    Internet,
    Kind,
    Middlebox,
    Nat,
    Nat64,
    Permit,
    Realm,
    everything,
    no_udp,
    through_nat64,
    tls_only,
)
from tests.sim.pair import unordered
from tests.sim.parties import Party, add_turn_server, are_agreed, connect, join

TCP = TransportProtocol.TCP
ONE, OTHER = Address("10.0.1.1", 5000), Address("10.0.2.1", 6000)
SECOND = Address("10.0.9.1", 5000)
OUTSIDE = ("203.0.113.1", "203.0.113.2")

NAT_KINDS: dict[str, tuple[Kind, Kind, Permit]] = {
    # mapping, filtering; the names are those of RFC 3489 where it has one
    "full cone": (Kind.ENDPOINT, Kind.ENDPOINT, everything),
    "restricted": (Kind.ENDPOINT, Kind.ADDRESS, everything),
    "port-restricted": (Kind.ENDPOINT, Kind.PORT, everything),
    "maps by address": (Kind.ADDRESS, Kind.PORT, everything),
    "symmetric": (Kind.PORT, Kind.PORT, everything),
    "symmetric, no filter": (Kind.PORT, Kind.ENDPOINT, everything),
    "no UDP": (Kind.ENDPOINT, Kind.PORT, no_udp),
}
TABLE = """
                     | op | fc | re | pr | ma | sy | sn | nu
open                 | d  | d  | d  | d  | d  | d  | d  | r
full cone            |    | d  | d  | d  | d  | d  | d  | r
restricted           |    |    | d  | d  | d  | d  | d  | r
port-restricted      |    |    |    | d  | r  | r  | r  | r
maps by address      |    |    |    |    | r  | r  | r  | r
symmetric            |    |    |    |    |    | r  | r  | r
symmetric, no filter |    |    |    |    |    |    | r  | r
no UDP               |    |    |    |    |    |    |    | r
"""
"""d: direct, r: relayed. Direct, unless both sides need the other's port to be known before: a mapping for each
destination has a port that cannot be told beforehand, and a filter by port wants to be told."""


@dataclass(frozen=True)
class Case:
    one: str
    other: str
    how: str


def read_table() -> list[Case]:
    """The columns stand in the order of the rows."""
    rows = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip("\n").splitlines()][1:]
    kinds = [row[0] for row in rows]
    assert kinds == ["open", *NAT_KINDS]
    meaning = {"d": "direct", "r": "relay"}
    return [
        Case(row[0], column, meaning[how])
        for row in rows
        for column, how in zip(kinds, row[1:], strict=True)
        if how
    ]


def realm_of(network: Internet, kind: str, outside: str) -> Realm:
    if kind == "open":
        return network.public
    mapping, filtering, permits = NAT_KINDS[kind]
    return network.realm(outside, behind=Nat(mapping, filtering, outside=outside, permits=permits))


def expected_end(kind: str) -> str:
    """What an end is on a direct path: how the other side sees it."""
    if kind == "open":
        return "host"
    return "srflx" if NAT_KINDS[kind][0] is Kind.ENDPOINT else "prflx"


def two_parties(network: Internet, one: Realm, other: Realm, *, controlling: bool = True) -> tuple[Party, Party]:
    _, servers = add_turn_server(network)
    parties = (
        join(network, one, "one", ONE, controlling=controlling, servers=servers),
        join(network, other, "other", OTHER, controlling=not controlling, servers=servers),
    )
    connect(*parties)
    return parties


def the_internet(seed: int = 1) -> Internet:
    return Internet(seed, unordered(0.02, 0.01))


@pytest.mark.parametrize("controlling", [True, False], ids=["first controls", "second controls"])
@pytest.mark.parametrize("case", read_table(), ids=lambda case: f"{case.one} - {case.other}")
def test_every_kind_reaches_every_kind(case: Case, controlling: bool) -> None:
    network = the_internet()
    realms = [realm_of(network, kind, out) for kind, out in zip((case.one, case.other), OUTSIDE, strict=True)]
    one, other = two_parties(network, *realms, controlling=controlling)
    assert network.run(5.0, lambda: are_agreed(one, other))
    network.run(2.0)
    assert are_agreed(one, other)
    if case.how == "direct":
        assert (one.how, other.how) == (expected_end(case.one), expected_end(case.other))
        assert one.host.time_of(PathSelected) - 1000.0 < 1.0
    else:
        assert "relay" in (one.how, other.how)
        if case.one == "no UDP":
            assert one.how == "relay"
        if case.other == "no UDP":
            assert other.how == "relay"
    assert one.agent.controlling is controlling


def test_behind_one_nat_the_way_is_inside() -> None:
    network = the_internet()
    home = realm_of(network, "symmetric", OUTSIDE[0])
    one, other = two_parties(network, home, home)
    assert network.run(5.0, lambda: are_agreed(one, other))
    assert (one.how, other.how) == ("host", "host")


@pytest.mark.parametrize(("hairpin", "expected"), [(True, {"srflx"}), (False, {"relay", "srflx"})])
def test_two_homes_behind_one_carrier_grade_nat(hairpin: bool, expected: set[str]) -> None:
    network = the_internet()
    carrier = network.realm(
        "carrier", behind=Nat(Kind.ENDPOINT, Kind.ENDPOINT, outside=OUTSIDE[0], hairpin=hairpin)
    )
    homes = [
        network.realm(name, behind=Nat(Kind.ENDPOINT, Kind.ENDPOINT, outside=outside), outer=carrier)
        for name, outside in (("first", "100.64.0.1"), ("second", "100.64.0.2"))
    ]
    one, other = two_parties(network, *homes)
    assert network.run(5.0, lambda: are_agreed(one, other))
    assert {one.how, other.how} == expected


def test_two_nats_deep_on_both_sides() -> None:
    network = the_internet()
    homes = []
    for number, outside in enumerate(OUTSIDE):
        carrier = network.realm(f"carrier {number}", behind=Nat(Kind.ENDPOINT, Kind.PORT, outside=outside))
        nat = Nat(Kind.ENDPOINT, Kind.PORT, outside=f"100.64.{number}.1")
        homes.append(network.realm(f"home {number}", behind=nat, outer=carrier))
    one, other = two_parties(network, *homes)
    assert network.run(5.0, lambda: are_agreed(one, other))
    assert (one.how, other.how) == ("srflx", "srflx")


def test_a_firewall_without_a_nat_is_punched() -> None:
    network = the_internet()
    realms = [network.realm(f"office {n}", behind=Middlebox()) for n in range(2)]
    one, other = two_parties(network, *realms)
    assert network.run(5.0, lambda: are_agreed(one, other))
    assert (one.how, other.how) == ("host", "host")


def lite_server(network: Internet, *, tcp_port: int) -> tuple[LiteAgent, list[Candidate]]:
    agent = LiteAgent(IceCredentials.generate(entropy("lite")))
    udp, tcp = Address("198.51.100.9", 4000), Address("198.51.100.9", tcp_port)
    candidates = [Candidate.host_candidate(udp), Candidate.tcp_candidate(TcpType.PASSIVE, tcp)]
    network.attach_in(network.public, "lite", agent, udp, tcp)
    return agent, candidates


def call_lite(network: Internet, party: Party, agent: LiteAgent, candidates: list[Candidate]) -> None:
    party.agent.set_remote_credentials(agent.credentials, network.now, lite=True)
    agent.set_remote_credentials(party.agent.credentials, network.now)
    agent.start(network.now)
    for candidate in candidates:
        party.learn(Candidate.parse(candidate.serialize()))
    party.host.command(lambda machine, now: party.agent.start(now))


def test_a_hotel_that_lets_out_tcp_443_alone() -> None:
    network = the_internet()
    hotel = network.realm("hotel", behind=Nat(Kind.PORT, Kind.PORT, outside=OUTSIDE[0], permits=tls_only))
    agent, candidates = lite_server(network, tcp_port=443)
    _, servers = add_turn_server(network)
    party = join(network, hotel, "guest", ONE, controlling=True, servers=servers)
    call_lite(network, party, agent, candidates)
    assert network.run(5.0, lambda: party.agent.state is IceState.COMPLETED)
    assert party.how == "host/tcp"  # straight to the server's port 443
    assert agent.selected_path is not None
    assert agent.selected_path.protocol is TCP


def test_in_the_hotel_a_server_without_that_port_is_reached_through_turn_over_tls() -> None:
    network = the_internet()
    hotel = network.realm("hotel", behind=Nat(Kind.PORT, Kind.PORT, outside=OUTSIDE[0], permits=tls_only))
    agent, candidates = lite_server(network, tcp_port=8443)
    _, servers = add_turn_server(network)
    party = join(network, hotel, "guest", ONE, controlling=True, servers=servers)
    call_lite(network, party, agent, candidates)
    assert network.run(5.0, lambda: party.agent.state is IceState.COMPLETED)
    assert party.how == "relay"


TCP_TABLE = """
                     | lite | full
open                 | host | host
full cone            | srflx | srflx
restricted           | srflx | srflx
port-restricted      | srflx | srflx
maps by address      | prflx | prflx
symmetric            | prflx | prflx
symmetric, no filter | prflx | prflx
no UDP               | host/tcp | host/tcp
TCP 443 alone        | host/tcp | host/tcp
"""
"""What the client's end is, of a call to a public server that has UDP, and TCP on the port 443 (RFC 6544,
passive)."""


@pytest.mark.parametrize("server", ["lite", "full"])
@pytest.mark.parametrize(
    "line", TCP_TABLE.strip("\n").splitlines()[1:], ids=lambda line: line.split("|")[0].strip()
)
def test_every_kind_reaches_a_server_with_tcp(line: str, server: str) -> None:
    kind, *cells = (cell.strip() for cell in line.split("|"))
    network = the_internet()
    stun = add_turn_server(network)[1][:1]
    udp, tcp = Address("198.51.100.9", 4000), Address("198.51.100.9", 443)
    candidates = [Candidate.host_candidate(udp), Candidate.tcp_candidate(TcpType.PASSIVE, tcp)]
    credentials = IceCredentials.generate(entropy("server"))
    if kind == "TCP 443 alone":
        box = Nat(Kind.ENDPOINT, Kind.PORT, outside=OUTSIDE[0], permits=tls_only)
        realm = network.realm("hotel", behind=box)
    else:
        realm = realm_of(network, kind, OUTSIDE[0])
    party = join(network, realm, "client", ONE, controlling=True, servers=stun)
    agent: LiteAgent | IceAgent
    if server == "lite":
        agent = LiteAgent(credentials)
        agent.set_remote_credentials(party.agent.credentials, network.now)
    else:
        agent = IceAgent(credentials, entropy("agent of the server"), controlling=False)
        agent.set_remote_credentials(party.agent.credentials, network.now)
        for candidate in candidates:
            agent.add_local_candidate(candidate, network.now)
    host = network.attach_in(network.public, "server", agent, udp, tcp)
    host.command(lambda machine, now: machine.start(now))
    network.run(0.5)  # what STUN has to say is known
    party.agent.set_remote_credentials(credentials, network.now, lite=server == "lite")
    for candidate in candidates:
        party.learn(candidate)
    party.host.command(lambda machine, now: party.agent.start(now))
    assert network.run(3.0, lambda: party.agent.state is agent.state is IceState.COMPLETED)
    network.run(2.0)
    assert party.how == cells[["lite", "full"].index(server)]
    assert agent.selected_path is not None
    assert (agent.selected_path.protocol is TCP) is party.how.endswith("tcp")


def test_where_udp_works_tcp_is_not_used() -> None:
    network = the_internet()
    agent, candidates = lite_server(network, tcp_port=443)
    party = join(network, network.public, "guest", ONE, controlling=True)
    call_lite(network, party, agent, candidates)
    assert network.run(5.0, lambda: party.agent.state is IceState.COMPLETED)
    assert party.how == "host"


@pytest.mark.parametrize("prefix", [NAT64_PREFIX, ""])
def test_an_ipv6_only_host_reaches_an_ipv4_one(prefix: str) -> None:
    """With the prefix straight through the NAT64; without it by a relayed address of the other family."""
    network = the_internet()
    mobile = network.realm("mobile", behind=Nat64(Kind.ENDPOINT, Kind.PORT, outside=OUTSIDE[0]))
    _, servers = add_turn_server(network)
    through = [LocatedServer(each.server, through_nat64(each.address)) for each in servers]
    inside = Address("2001:db8:64::5", 5000)
    one = join(network, mobile, "one", inside, controlling=True, servers=through)
    one.nat64_prefix = prefix
    other = join(network, network.public, "other", OTHER, controlling=False, servers=servers)
    connect(one, other)
    assert network.run(5.0, lambda: are_agreed(one, other))
    network.run(2.0)
    assert one.how == ("srflx" if prefix else "relay")


def test_dead_servers_cost_nothing() -> None:
    """A STUN server that does not answer, and a TURN server, neither delay a call nor keep the others waiting."""

    def time_to_nomination(servers: list[LocatedServer]) -> float:
        network = the_internet()
        _, living = add_turn_server(network)
        home = realm_of(network, "port-restricted", OUTSIDE[0])
        one = join(network, home, "one", ONE, controlling=True, servers=[*servers, *living])
        other = join(network, network.public, "other", OTHER, controlling=False, servers=living)
        connect(one, other)
        assert network.run(5.0, lambda: are_agreed(one, other))
        return network.now

    dead = Address("192.0.2.250", 3478)
    stun = LocatedServer(IceServer("dead", 3478), dead)
    turn = LocatedServer(IceServer("dead", 3478, turn=True, username="user", password="secret"), dead)
    assert time_to_nomination([stun, turn]) == pytest.approx(time_to_nomination([]), abs=0.02)


def test_gathering_says_what_came_of_it_and_when_it_is_complete() -> None:
    network = the_internet()
    home = realm_of(network, "port-restricted", OUTSIDE[0])
    _, servers = add_turn_server(network)
    dead = LocatedServer(IceServer("dead", 3478), Address("192.0.2.250", 3478))
    party = join(network, home, "one", ONE, controlling=True, servers=[dead, *servers])
    network.run(5.0)
    gatherer = party.machine.gatherer
    assert not gatherer.is_complete
    kinds = [candidate.type for candidate in party.machine.candidates]
    reflexive, relay = CandidateType.SERVER_REFLEXIVE, CandidateType.RELAYED
    assert sorted(kinds, key=str) == sorted([reflexive, relay, relay, relay, relay], key=str)
    network.run(40.0)
    assert gatherer.is_complete
    texts = {str(outcome.server.server): outcome.text for outcome in gatherer.outcomes}
    assert texts["stun:dead:3478"] == "the STUN server did not respond"
    assert texts["stun:192.0.2.53:3478"].startswith(OUTSIDE[0])


def test_relay_alone_tells_the_peer_no_other_address() -> None:
    network = the_internet()
    home = realm_of(network, "full cone", OUTSIDE[0])
    _, servers = add_turn_server(network)
    relay = TransportPolicy.RELAY
    one = join(network, home, "one", ONE, controlling=True, servers=servers, policy=relay)
    other = join(network, network.public, "other", OTHER, controlling=False)
    connect(one, other)
    assert network.run(5.0, lambda: are_agreed(one, other))
    assert one.how == "relay"
    for candidate in one.agent.local_candidates:
        assert candidate.type is CandidateType.RELAYED
        assert candidate.related_host in ("0.0.0.0", "::")
    assert all(pair.remote.host not in (ONE.host, OUTSIDE[0]) for pair in other.agent.pairs)


@pytest.mark.parametrize("kind", ["full cone", "port-restricted"])
def test_a_nat_that_rebinds_in_mid_call_does_not_end_it(kind: str) -> None:
    network = the_internet()
    mapping, filtering, _ = NAT_KINDS[kind]
    nat = Nat(mapping, filtering, outside=OUTSIDE[0])
    home = network.realm("home", behind=nat)
    one, other = two_parties(network, home, network.public)
    assert network.run(5.0, lambda: are_agreed(one, other))
    network.run(20.0)
    before = other.agent.selected_path
    nat.rebind()
    network.run(12.0)
    assert are_agreed(one, other)
    after = other.agent.selected_path
    assert before is not None
    assert after is not None
    assert after.remote != before.remote
    network.run(120.0)
    assert one.agent.state is other.agent.state is IceState.COMPLETED


@pytest.mark.parametrize("notice", ["media stop", "the kernel says so", "checks alone"])
@pytest.mark.parametrize("controlling", [True, False])
def test_a_call_moves_to_the_other_interface_when_one_goes_down(controlling: bool, notice: str) -> None:
    network = the_internet()
    realms = {
        address: network.realm(name, behind=Nat(Kind.ENDPOINT, Kind.PORT, outside=outside))
        for name, address, outside in (("wifi", ONE, OUTSIDE[0]), ("mobile", SECOND, OUTSIDE[1]))
    }
    _, servers = add_turn_server(network)
    one = join(network, realms[ONE], "one", ONE, SECOND, controlling=controlling, servers=())
    network.settle(realms[SECOND], SECOND, Address(SECOND.host, 9))
    for server in servers:
        one.add_server(server)
    other = join(network, network.public, "other", OTHER, controlling=not controlling, servers=servers)
    connect(one, other)
    assert network.run(5.0, lambda: are_agreed(one, other))
    network.run(10.0)

    def interface() -> Address | None:
        path = one.agent.selected_path
        return path.local if path is not None else None

    first = interface()
    assert first in realms
    (second,) = realms.keys() - {first}
    if notice != "checks alone":  # media come until then
        for _ in range(100):
            assert one.agent.selected_path is not None
            one.host.command(lambda machine, now: one.agent.note_received(one.agent.selected_path, now))
            network.run(0.02)
    realms[first].up = False
    if notice == "the kernel says so":
        path = one.agent.selected_path
        assert path is not None
        one.host.command(lambda machine, now: one.agent.note_failed(path.local, path.remote, now))
        assert not one.agent.note_failed(path.local, path.remote, network.now)  # once in a while
        assert not one.agent.note_failed(second, None, network.now)  # another address than the call's
    within = {"media stop": 3.0, "the kernel says so": 2.0, "checks alone": 12.0}[notice]
    assert network.run(within, lambda: interface() == second)
    network.run(60.0)
    assert one.agent.state is other.agent.state is IceState.COMPLETED
    assert are_agreed(one, other)
    # who controls may have nominated a relay before it has heard of the second interface
    assert interface() == second or (notice == "the kernel says so" and interface() not in realms)


def test_a_peer_that_pauses_is_asked_once_and_is_not_left() -> None:
    """Silence alone is no death: an answer ends the suspicion until media come again."""
    network = the_internet()
    one, other = two_parties(network, network.public, network.public)
    assert network.run(5.0, lambda: are_agreed(one, other))
    network.run(5.0)
    path = one.agent.selected_path
    assert path is not None
    for _ in range(50):
        one.host.command(lambda machine, now: one.agent.note_received(path, now))
        network.run(0.02)
    before, began = len(one.host.sent), network.now
    network.run(3.9)
    asked = [sent for sent in one.host.sent[before:] if sent.data[:2] == b"\x00\x01"]
    assert 1 <= len(asked) <= 3  # of suspicion, and of consent
    assert any(0.9 < sent.at - began < 1.2 for sent in asked)
    network.run(60.0)
    assert one.agent.selected_path == path
    assert one.agent.counters["ice.path_failed"] == 0


@pytest.mark.parametrize("controlling", [True, False])
def test_a_call_outlives_the_connection_to_its_only_turn_server(controlling: bool) -> None:
    network = the_internet()
    hotel = network.realm("hotel", behind=Nat(Kind.PORT, Kind.PORT, outside=OUTSIDE[0], permits=tls_only))
    turn, servers = add_turn_server(network)
    one = join(
        network, hotel, "one", ONE, controlling=controlling, servers=servers[2:], policy=TransportPolicy.RELAY
    )
    other = join(network, network.public, "other", OTHER, controlling=not controlling, tcp=False)
    connect(one, other)
    assert network.run(5.0, lambda: are_agreed(one, other))
    network.run(10.0)
    before = one.agent.selected_path
    assert before is not None
    (client,) = turn.machine.allocations
    turn.machine.allocations.clear()

    def cut(machine: RelayingMachine[IceEvent], now: float) -> None:  # as the driver of a client does
        one.agent.note_failed(before.local, None, now)
        machine.gatherer.note_connection_lost(Path(Address(ONE.host, ACTIVE_PORT), client.local, TCP), now)

    one.host.command(cut)
    assert network.run(8.0, lambda: are_agreed(one, other) and one.agent.selected_path != before)
    assert one.how == "relay"
    network.run(60.0)
    assert one.agent.state is other.agent.state is IceState.COMPLETED
    assert are_agreed(one, other)
