"""A server behind a NAT that gathers for all its calls on one port, in the simulated Internet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from stack.core.machine import Address, Instant, Path, Transmit
from stack.ice import Candidate, IceAgent, IceCredentials, IceEvent, PathValidated
from stack.ice.allocation import RETRY_AFTER
from stack.ice.turn import KEEPALIVE
from stack.server import Gathered, GatheringEndpoint
from tests.ice.test_internet import NAT_KINDS, OUTSIDE, realm_of, the_internet
from tests.sim.entropy import entropy
from tests.sim.internet import Internet, Nat, Realm
from tests.sim.network import Host
from tests.sim.parties import Party, add_turn_server, join

BASE, RELAY_BASE = Address("10.0.1.1", 3478), Address("10.0.1.1", 40_001)
CLIENT = Address("10.0.2.1", 6000)


class HostedAgent:
    """A full agent that an endpoint hosts, as a session has it."""

    terminal_events = IceAgent.terminal_events
    sources: tuple[int, ...] = ()
    is_known_by_records = False

    def __init__(self, agent: IceAgent) -> None:
        self.agent = agent
        self.data: list[tuple[bytes, Path]] = []
        self._routes: list[Path] = []

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        for data, path in batch:
            if data[:1] < b"\x04":
                self.agent.handle_datagram(data, path, now)
            else:
                self.data.append((data, path))

    def handle_timeout(self, now: Instant) -> None:
        self.agent.handle_timeout(now)

    def poll_timeout(self) -> Instant | None:
        return self.agent.poll_timeout()

    def drain_transmits(self) -> Sequence[Transmit]:
        return self.agent.drain_transmits()

    def drain_events(self) -> Sequence[IceEvent]:
        events = self.agent.drain_events()
        self._routes += [event.path for event in events if isinstance(event, PathValidated)]
        return events

    def drain_routes(self) -> Sequence[Path]:
        routes, self._routes = self._routes, []
        return routes

    @property
    def is_finished(self) -> bool:
        return False


class BehindNat:
    """A server in a realm, and what it answers."""

    def __init__(self, network: Internet, realm: Realm, *servers: Any) -> None:
        self.network = network
        endpoint: GatheringEndpoint[IceEvent] = GatheringEndpoint([BASE], entropy("server"), reports_paths=True)
        self.endpoint = endpoint
        self.host: Host[Any] = network.attach_in(realm, "server", endpoint, BASE, RELAY_BASE)
        for located in servers:
            self.host.command(lambda machine, now, located=located: machine.add_server(located, now, [RELAY_BASE]))
        self.host.command(lambda machine, now: machine.finish(now))

    def answer(self, client: Party) -> HostedAgent:
        """Begin a call of a client, whose candidates so far are its offer's; both begin to check."""
        name, network = client.name, self.network
        credentials = IceCredentials.generate_for(entropy(f"{name}/server"), 0)
        hosted = HostedAgent(IceAgent(credentials, entropy(f"{name}/agent of the server"), controlling=False))
        agent, now = hosted.agent, network.now
        candidates = [Candidate.host_candidate(BASE)]
        candidates += [Candidate.parse(text) for text in self.endpoint.gathered.candidates]
        agent.set_remote_credentials(client.agent.credentials, now)
        client.agent.set_remote_credentials(credentials, now)
        for candidate in candidates:
            agent.add_local_candidate(candidate, now)
            client.learn(Candidate.parse(candidate.serialize()))
        for candidate in client.agent.local_candidates:
            agent.add_remote_candidate(Candidate.parse(candidate.serialize()), now)
        agent.start(now)
        self.endpoint.add(name, hosted, credentials.ufrag)
        self.host.command(lambda machine, now: machine.pump())
        client.host.command(lambda machine, now: client.agent.start(now))
        return hosted


def agreed(client: Party, hosted: HostedAgent) -> bool:
    return client.agent.state.value == hosted.agent.state.value == "completed"


def types(gathered: Gathered) -> list[str]:
    return sorted(Candidate.parse(text).type.value for text in gathered.candidates)


@pytest.mark.parametrize("theirs", ["open", "restricted", "symmetric", "no UDP"])
@pytest.mark.parametrize("ours", ["full cone", "port-restricted", "symmetric"])
def test_clients_of_every_kind_reach_a_server_behind_a_nat(ours: str, theirs: str) -> None:
    network = the_internet()
    _, located = add_turn_server(network)
    server = BehindNat(network, realm_of(network, ours, OUTSIDE[0]), located[1])
    client = join(
        network, realm_of(network, theirs, OUTSIDE[1]), "client", CLIENT, controlling=True, servers=located
    )
    network.run(1.0)
    assert server.endpoint.gathered.is_complete
    assert types(server.endpoint.gathered) == ["relay", "relay", "srflx"]  # IPv4 and IPv6 of the TURN server
    hosted = server.answer(client)
    assert network.run(5.0, lambda: agreed(client, hosted))
    # what the client sends from now on reaches its session, however it comes
    path = client.agent.selected_path
    assert path is not None
    sent = Transmit(b"\x80media", path)
    client.host.command(lambda machine, now: client.agent._transmits.append(sent))
    network.run(0.5)
    assert [data for data, _ in hosted.data] == [b"\x80media"]
    needs_relay = theirs == "no UDP" or (ours, theirs) in [
        ("port-restricted", "symmetric"),
        ("symmetric", "symmetric"),
    ]
    assert ("relay" in (client.how, hosted.agent.local_type(hosted.agent.selected_pair).value)) is needs_relay  # type: ignore[arg-type]


def test_many_calls_have_one_allocation_and_one_mapping() -> None:
    network = the_internet()
    turn, located = add_turn_server(network)
    home = realm_of(network, "symmetric", OUTSIDE[0])
    server = BehindNat(network, home, located[1])
    network.run(1.0)
    clients, calls = [], []
    for number in range(5):
        nat = Nat(*NAT_KINDS["symmetric"][:2], outside=f"198.51.100.{number + 1}")
        realm = network.realm(f"home {number}", behind=nat)
        address = Address(f"10.1.{number}.1", 6000)
        clients.append(join(network, realm, f"client {number}", address, controlling=True, servers=located[:1]))
        network.run(0.2)
        calls.append(server.answer(clients[-1]))
    pairs = list(zip(clients, calls, strict=True))
    assert network.run(5.0, lambda: all(agreed(*pair) for pair in pairs))
    assert len({hosted.agent.selected_path.local for hosted in calls if hosted.agent.selected_path}) == 1
    assert len(turn.machine.allocations) == 1
    # none of the relayed paths is a matter for the sockets
    assert all(change.path.local == BASE for change in server.endpoint.drain_path_changes())


def test_a_dead_server_costs_an_answer_nothing() -> None:
    network = the_internet()
    _, located = add_turn_server(network)
    dead = [type(each)(each.server, Address("192.0.2.99", each.address.port)) for each in located[:2]]
    server = BehindNat(network, network.public, *dead)
    client = join(network, network.public, "client", CLIENT, controlling=True)
    network.run(0.1)
    assert not server.endpoint.gathered.is_complete
    hosted = server.answer(client)
    began = network.now
    assert network.run(2.0, lambda: agreed(client, hosted))
    assert network.now - began < 0.3
    assert network.run(60.0, lambda: server.endpoint.gathered == Gathered())
    assert all("did not respond" in outcome.text for outcome in server.endpoint.gatherer.outcomes)


def test_a_nat_that_begins_anew_is_found_out() -> None:
    network = the_internet()
    _, located = add_turn_server(network)
    nat = Nat(*NAT_KINDS["restricted"][:2], outside=OUTSIDE[0])
    server = BehindNat(network, network.realm("office", behind=nat), located[0])
    network.run(1.0)
    former = server.endpoint.gathered.candidates
    nat.rebind()
    network.run(KEEPALIVE + 1)
    (now,) = server.endpoint.gathered.candidates
    assert [now] != list(former)
    client = join(network, network.public, "client", CLIENT, controlling=True)
    hosted = server.answer(client)
    assert network.run(3.0, lambda: agreed(client, hosted))


def test_an_allocation_is_refreshed_and_had_again_after_the_server_was_down() -> None:
    network = the_internet()
    turn, located = add_turn_server(network)
    server = BehindNat(network, realm_of(network, "symmetric", OUTSIDE[0]), located[1])
    network.run(1.0)
    former = server.endpoint.gathered
    network.run(1800.0)
    assert server.endpoint.gathered == former
    turn.machine.allocations.clear()  # it was restarted
    network.run(700.0, lambda: "relay" not in types(server.endpoint.gathered))
    network.run(RETRY_AFTER + 1)
    assert types(server.endpoint.gathered) == ["relay", "relay", "srflx"]
    assert server.endpoint.gathered != former
    assert server.endpoint.gathered.is_complete
    # of each question one outcome is kept, however often it was asked
    assert len(server.endpoint.gatherer.outcomes) == 2


def test_what_is_left_is_given_back() -> None:
    network = the_internet()
    turn, located = add_turn_server(network)
    server = BehindNat(network, realm_of(network, "symmetric", OUTSIDE[0]), located[1])
    network.run(1.0)
    assert turn.machine.allocations
    server.host.command(lambda machine, now: machine.close(now))
    network.run(1.0)
    assert not turn.machine.allocations
    assert server.endpoint.gatherer.poll_timeout() is None
