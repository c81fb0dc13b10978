"""A network with virtual time for ICE agents: loss, delay, reordering, duplicates and NATs, all from one seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappush
from itertools import count

from stack.core.machine import Address, Entropy, Instant, Path
from stack.ice import (
    Candidate,
    IceAgent,
    IceCredentials,
    IceEvent,
    IceFailed,
    IceSettings,
    IceState,
    LiteAgent,
    PathSelected,
)
from tests.sim.arrivals import Arrivals, Ending

Agent = IceAgent | LiteAgent


def seeded(seed: int | str) -> Entropy:
    return random.Random(seed).randbytes


@dataclass
class Node:
    """An agent and what it has said so far."""

    agent: Agent
    addresses: list[Address]
    events: list[tuple[Instant, IceEvent]] = field(default_factory=list)
    sent: list[tuple[Instant, bytes, Path]] = field(default_factory=list)
    received: int = 0
    ending: Ending = field(init=False)

    def __post_init__(self) -> None:
        self.ending = Ending("an agent", self.agent)

    def of(self, kind: type[IceEvent]) -> list[IceEvent]:
        return [event for _, event in self.events if isinstance(event, kind)]

    @property
    def selected_at(self) -> Instant | None:
        return next((at for at, event in self.events if isinstance(event, PathSelected)), None)

    @property
    def failure(self) -> str | None:
        return next((event.reason.name for _, event in self.events if isinstance(event, IceFailed)), None)


class Network:
    """Delivers datagrams between nodes; `run` moves the clock."""

    def __init__(
        self,
        seed: int = 0,
        *,
        loss: float = 0.0,
        delay: float = 0.005,
        jitter: float = 0.0,
        duplicate: float = 0.0,
    ) -> None:
        self.now: Instant = 100.0
        self.random = random.Random(seed)
        self.loss, self.delay, self.jitter, self.duplicate = loss, delay, jitter, duplicate
        self.nodes: list[Node] = []
        self.blocked: Callable[[Address, Address], bool] = lambda source, destination: False
        self._public: dict[Address, Address] = {}
        self._queue: list[tuple[Instant, int, Address, Address, bytes]] = []
        self._order = count()
        self._arrivals = Arrivals(seed)

    def join(self, agent: Agent, *addresses: Address) -> Node:
        node = Node(agent, list(addresses))
        self.nodes.append(node)
        preference = 65535
        for address in addresses:
            agent.add_local_candidate(Candidate.host_candidate(address, preference), self.now)
            preference -= 1
        return node

    def map(self, private: Address, public: Address) -> None:
        """Put `private` behind a NAT; called again, the NAT forgets the former mapping."""
        self._public[private] = public

    def pump(self, node: Node) -> None:
        for data, path in node.agent.drain_transmits():
            node.sent.append((self.now, data, path))
            assert path.local in node.addresses
            self._carry(self._public.get(path.local, path.local), path.remote, data)
        for event in node.agent.drain_events():
            node.ending.check(event)
            node.events.append((self.now, event))

    def _carry(self, source: Address, destination: Address, data: bytes) -> None:
        copies = 2 if self.random.random() < self.duplicate else 1
        for _ in range(copies):
            if self.random.random() >= self.loss and not self.blocked(source, destination):
                at = self.now + self.delay + self.random.random() * self.jitter
                at = self._arrivals.reading(destination, at)
                heappush(self._queue, (at, next(self._order), source, destination, data))

    def inject(self, source: Address, destination: Address, data: bytes) -> None:
        """Send a datagram that belongs to nobody here."""
        self._carry(source, destination, data)

    def _deliver(self, destination: Address, arrived: list[tuple[Address, bytes]]) -> None:
        for node in self.nodes:
            for address in node.addresses:
                if self._public.get(address, address) == destination:
                    node.received += len(arrived)
                    batch = [(data, Path(address, source)) for source, data in arrived]
                    node.agent.handle_datagrams(batch, self.now)
                    self.pump(node)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Move on for `seconds` of virtual time, or until `until` is true; return what it says in the end."""
        end = self.now + seconds
        for node in self.nodes:
            self.pump(node)
        while not until():
            timeouts = [(at, node) for node in self.nodes if (at := node.agent.poll_timeout()) is not None]
            next_timeout = min((at for at, _ in timeouts), default=end + 1)
            next_arrival = self._queue[0][0] if self._queue else end + 1
            if min(next_timeout, next_arrival) > end:
                self.now = end
                break
            if next_arrival <= next_timeout:
                arrived = self._arrivals.pop(self._queue, lambda entry: entry[3])
                self.now = arrived[0][0]
                self._deliver(arrived[0][3], [(entry[2], entry[4]) for entry in arrived])
            else:
                self.now = max(self.now, next_timeout)
                for at, node in timeouts:
                    if at <= self.now:
                        node.agent.handle_timeout(self.now)
                        self.pump(node)
        return until()


def credentials(name: str) -> IceCredentials:
    return IceCredentials.generate(seeded(name))


def full(name: str, *, controlling: bool, settings: IceSettings | None = None) -> IceAgent:
    return IceAgent(credentials(name), seeded(name + "/agent"), controlling=controlling, settings=settings)


def signal(network: Network, one: Node, other: Node, *, candidates: bool = True) -> None:
    """Exchange credentials, and candidates, instantly; what a NAT hides is not signalled."""
    for node, peer in ((one, other), (other, one)):
        lite = isinstance(peer.agent, LiteAgent)
        if isinstance(node.agent, IceAgent):
            node.agent.set_remote_credentials(peer.agent.credentials, network.now, lite=lite)
        else:
            node.agent.set_remote_credentials(peer.agent.credentials, network.now)
        if candidates or lite:
            for candidate in peer.agent.local_candidates:
                node.agent.add_remote_candidate(candidate, network.now)


def start(network: Network) -> None:
    for node in network.nodes:
        if node.agent.state is IceState.NEW:
            node.agent.start(network.now)
        network.pump(node)


A = Address("10.0.0.1", 5000)
B = Address("10.0.0.2", 6000)
A6 = Address("2001:db8::1", 5000)
B6 = Address("2001:db8::2", 6000)
