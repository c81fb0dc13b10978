"""Full agents that gather and trickle, in the simulated Internet: what a call is to its ICE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stack.core.machine import Address, Instant, TransportProtocol
from stack.ice import Candidate, CandidateType, IceAgent, IceCredentials, IceEvent, IceSettings, LiteAgent
from stack.ice.candidate import TcpType
from stack.ice.gathering import Gatherer, TransportPolicy
from stack.ice.relaying import RelayingMachine
from stack.ice.servers import IceServer, LocatedServer
from tests.sim.entropy import entropy
from tests.sim.internet import Internet, Realm
from tests.sim.network import Host
from tests.sim.turn_server import TurnServer

UDP, TCP = TransportProtocol.UDP, TransportProtocol.TCP
SIGNALLING_DELAY = 0.05
"""Seconds that a trickled candidate takes to the other side."""

SERVER_HOST, SERVER_HOST6 = "192.0.2.53", "2001:db8:53::1"
PORTS = (3478, 443)
USERS = {"user": "secret"}


@dataclass(eq=False)
class Party:
    """One side: its agent, its machine, and the other side, to which candidates are trickled."""

    name: str
    network: Internet
    machine: TricklingMachine
    host: Host[Any]
    peer: Party | LiteParty | None = None
    nat64_prefix: str = ""

    @property
    def agent(self) -> IceAgent:
        """Its agent."""
        agent = self.machine.machine
        assert isinstance(agent, IceAgent)
        return agent

    def add_server(self, located: LocatedServer) -> None:
        """Ask a server."""
        self.host.command(lambda machine, now: machine.add_server(located, now))

    def trickle(self, candidate: Candidate) -> None:
        """Have the peer know a candidate of ours in a moment."""
        peer = self.peer
        if isinstance(peer, Party):
            self.network.after(SIGNALLING_DELAY, lambda: peer.learn(Candidate.parse(candidate.serialize())))

    def learn(self, candidate: Candidate) -> None:
        """Take a candidate of the peer, as its network lets it be reached."""
        if self.nat64_prefix:
            candidate = candidate.through_nat64(self.nat64_prefix)
        self.host.command(lambda machine, now: self.agent.add_remote_candidate(candidate, now))

    @property
    def how(self) -> str:
        """Say what this end of the selected pair is: host, srflx, prflx, relay, or the same over TCP."""
        pair = self.agent.selected_pair
        if pair is None:
            return "nothing"
        kind = self.agent.local_type(pair).value
        return kind if pair.path.protocol is UDP else f"{kind}/tcp"


class TricklingMachine(RelayingMachine[IceEvent]):
    """Tells its party what has been found."""

    party: Party

    def _pass_candidates(self, now: Instant) -> None:
        super()._pass_candidates(now)
        for candidate in self.drain_candidates():
            self.party.trickle(candidate)


@dataclass(eq=False)
class LiteParty:
    """A server with a public address."""

    agent: LiteAgent
    host: Host[Any]


def add_turn_server(
    network: Internet, relayed: int = 8, server: TurnServer | None = None
) -> tuple[Host[TurnServer], Sequence[LocatedServer]]:
    """Put a server into the public realm; return it, and what to ask: STUN, and TURN by UDP and TLS."""
    addresses = [Address(SERVER_HOST, 40_000 + n) for n in range(relayed)]
    addresses += [Address(SERVER_HOST6, 40_000 + n) for n in range(relayed)]
    own = [Address(host, port) for host in (SERVER_HOST, SERVER_HOST6) for port in PORTS]
    machine = server or TurnServer(addresses, USERS)
    host = network.attach_in(network.public, "turn", machine, *own, *addresses)
    stun = IceServer(SERVER_HOST, 3478)
    turn = IceServer(SERVER_HOST, 3478, UDP, False, True, "user", "secret")
    turn_tcp = IceServer(SERVER_HOST, 443, TCP, True, True, "user", "secret")
    located = [LocatedServer(server, Address(SERVER_HOST, server.port)) for server in (stun, turn, turn_tcp)]
    return host, located


def join(
    network: Internet,
    realm: Realm,
    name: str,
    *addresses: Address,
    controlling: bool,
    servers: Sequence[LocatedServer] = (),
    policy: TransportPolicy = TransportPolicy.ALL,
    settings: IceSettings | None = None,
    tcp: bool = True,
) -> Party:
    """Put an agent with a gatherer into a realm; it begins to gather at once."""
    credentials = IceCredentials.generate(entropy(name))
    agent = IceAgent(credentials, entropy(name + "/agent"), controlling=controlling, settings=settings)
    gatherer = Gatherer(addresses, entropy(name + "/gatherer"), policy)
    machine = TricklingMachine(agent, gatherer)
    host = network.attach_in(realm, name, machine, *addresses)
    machine.party = party = Party(name, network, machine, host)
    for number, address in enumerate(addresses):
        if policy in (TransportPolicy.ALL, TransportPolicy.UDP):
            agent.add_local_candidate(Candidate.host_candidate(address, 65535 - number), network.now)
        if tcp and policy in (TransportPolicy.ALL, TransportPolicy.TCP):
            agent.add_local_candidate(Candidate.tcp_candidate(TcpType.ACTIVE, address, 8191 - number), network.now)
    for located in servers:
        party.add_server(located)
    host.command(lambda machine, now: machine.finish(now))
    return party


def connect(one: Party, other: Party) -> None:
    """Exchange credentials and what has been gathered, and start; the rest is trickled."""
    network = one.network
    for here, there in ((one, other), (other, one)):
        here.peer = there
        here.agent.set_remote_credentials(there.agent.credentials, network.now)
        for candidate in there.agent.local_candidates:
            here.learn(Candidate.parse(candidate.serialize()))
    for party in (one, other):
        party.host.command(lambda machine, now, agent=party.agent: agent.start(now))


def are_agreed(one: Party, other: Party) -> bool:
    """Return True when both have a nominated path, and it is the same one."""
    ours, theirs = one.agent.selected_pair, other.agent.selected_pair
    if ours is None or theirs is None:
        return False
    return one.agent.state.value == other.agent.state.value == "completed" and kinds(ours) == kinds(theirs)[::-1]


def kinds(pair: Any) -> list[bool]:
    """Return whether either end is relayed."""
    return [candidate.type is CandidateType.RELAYED for candidate in (pair.local, pair.remote)]
