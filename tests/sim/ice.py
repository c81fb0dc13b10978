"""Agents of ICE on a simulated network."""

from __future__ import annotations

from stack.core.machine import Address
from stack.ice import Candidate, IceAgent, IceCredentials, IceFailed, IceSettings, IceState, LiteAgent
from tests.sim.entropy import entropy
from tests.sim.network import Host, Network
from tests.sim.pair import unordered

Agent = IceAgent | LiteAgent
Node = Host[Agent]

A = Address("10.0.0.1", 5000)
B = Address("10.0.0.2", 6000)
A6 = Address("2001:db8::1", 5000)
B6 = Address("2001:db8::2", 6000)


class IceNetwork(Network):
    """A network that agents join with their addresses; `nodes` are those that did."""

    def __init__(
        self,
        seed: int = 0,
        *,
        loss: float = 0.0,
        delay: float = 0.005,
        jitter: float = 0.0,
        duplicate: float = 0.0,
    ) -> None:
        super().__init__(seed, unordered(delay, jitter, loss, duplicate))
        self.nodes: list[Node] = []

    def join(self, agent: Agent, *addresses: Address) -> Node:
        node = self.attach(f"agent {len(self.nodes)}", agent, *addresses)
        self.nodes.append(node)
        for number, address in enumerate(addresses):
            agent.add_local_candidate(Candidate.host_candidate(address, 65535 - number), self.now)
        return node

    def cut(self) -> None:
        """From now on everything is lost."""
        self.set_default(unordered(loss=1.0))


def failure(node: Node) -> str | None:
    return next((event.reason.name for event in node.seen(IceFailed)), None)


def credentials(name: str) -> IceCredentials:
    return IceCredentials.generate(entropy(name))


def full(name: str, *, controlling: bool, settings: IceSettings | None = None) -> IceAgent:
    return IceAgent(credentials(name), entropy(name + "/agent"), controlling=controlling, settings=settings)


def signal(network: IceNetwork, one: Node, other: Node, *, candidates: bool = True) -> None:
    """Exchange credentials, and candidates, instantly; what a NAT hides is not signalled."""
    for agent, peer in ((one.machine, other.machine), (other.machine, one.machine)):
        lite = isinstance(peer, LiteAgent)
        if isinstance(agent, IceAgent):
            agent.set_remote_credentials(peer.credentials, network.now, lite=lite)
        else:
            agent.set_remote_credentials(peer.credentials, network.now)
        if candidates or lite:
            for candidate in peer.local_candidates:
                agent.add_remote_candidate(candidate, network.now)


def start(network: IceNetwork) -> None:
    for node in network.nodes:
        if node.machine.state is IceState.NEW:
            node.machine.start(network.now)
        node.pump()
