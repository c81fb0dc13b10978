"""Any number of machines on a simulated network in virtual time: a whole call in milliseconds, from a seed.

`Network.attach` gives a machine its addresses, `Network.link` says what the network between two hosts is like
(`interop.network_model`), `Network.run` lets time pass. After every input the machine is pumped as the contract of
`stack.core.machine` demands, and the contract is held against it: `poll_timeout` changes nothing, a drained queue
is empty, a timeout that comes early changes nothing, no machine wants to be woken at one instant for ever, and
nothing comes after the terminal event. Datagrams come one by one or in batches (`tests.sim.arrivals`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from interop.network_model import Link, NetworkModel
from stack.core.machine import Address, Instant, Machine, Path
from stack.core.timers import earliest
from stack.core.trace import Direction, PacketTrace
from tests.sim.arrivals import Arrivals, ContractViolation, Ending
from tests.sim.clock import Agenda, VirtualClock

EventT = TypeVar("EventT")
MachineT = TypeVar("MachineT", bound=Machine[Any])

Filter: TypeAlias = "Callable[[Host[Any], bytes, Path], bytes | None]"
"""Is shown every datagram that a host sends; returns what travels on in its place, None if nothing does."""

MAX_STEPS_AT_ONE_INSTANT = 10_000
"""A network that takes more steps than this without any time passing is going round in circles."""


class Sent(NamedTuple):
    """A datagram that a host has sent, and when."""

    at: Instant
    data: bytes
    path: Path


@dataclass(slots=True)
class Host(Generic[MachineT]):
    """A machine with its addresses, everything it reported and when, and everything it sent."""

    name: str
    machine: MachineT
    network: Network
    addresses: tuple[Address, ...]
    events: list[Any] = field(default_factory=list)
    times: list[Instant] = field(default_factory=list)
    react: Callable[[Any, Instant], None] | None = None
    trace: PacketTrace | None = None
    sent: list[Sent] = field(default_factory=list)
    received: int = 0
    ending: Ending = field(init=False)

    def __post_init__(self) -> None:
        self.ending = Ending(self.name, self.machine)

    def command(self, action: Callable[[MachineT, Instant], None]) -> None:
        """Let `action` command the machine at the present instant, then pump it."""
        action(self.machine, self.network.now)
        self.pump()

    def handle(self, command: Any) -> Any:
        """Have the machine carry out a command that is a value, pump it, and return what came of it."""
        result = self.machine.handle_command(command, self.network.now)  # type: ignore[attr-defined]
        self.pump()
        return result

    def seen(self, kind: type[EventT]) -> list[EventT]:
        """Return the events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def time_of(self, kind: type[Any]) -> Instant:
        """Return when the first event of one kind was reported; raises `LookupError` if there was none."""
        for event, at in zip(self.events, self.times, strict=True):
            if isinstance(event, kind):
                return at
        raise LookupError(f"{self.name} reported no {kind.__name__}")

    def pump(self) -> None:
        """Drain transmits and events until there are none, and hold the contract against the machine."""
        self._drain()
        self._check_contract()

    def take(self, data: bytes, path: Path) -> None:
        """Hand one datagram to the machine."""
        self.take_together([(data, path)])

    def take_together(self, batch: Sequence[tuple[bytes, Path]]) -> None:
        """Hand datagrams to the machine that arrived together."""
        self.received += len(batch)
        if self.trace is not None:
            for data, path in batch:
                self.trace.datagram(Direction.IN, data, path, self.network.now)
        self.machine.handle_datagrams(iter(batch), self.network.now)
        self.pump()

    def wake(self) -> None:
        """Tell the machine that it is late enough."""
        self.machine.handle_timeout(self.network.now)
        self.pump()

    def _drain(self) -> None:
        now = self.network.now
        fresh = True
        while fresh:
            fresh = False
            for transmit in self.machine.drain_transmits():
                if self.network.keep_sent:
                    self.sent.append(Sent(now, transmit.data, transmit.path))
                if self.trace is not None:
                    self.trace.datagram(Direction.OUT, transmit.data, transmit.path, now)
                self.network.carry(self, transmit.data, transmit.path)
            for event in self.machine.drain_events():
                fresh = True  # the reaction may have commanded something
                self.ending.check(event)
                self.events.append(event)
                self.times.append(now)
                if self.react is not None:
                    self.react(event, now)

    def _check_contract(self) -> None:
        now, deadline = self.network.now, self.machine.poll_timeout()
        self._expect_quiet("draining")
        if self.machine.poll_timeout() != deadline:
            raise ContractViolation(f"{self.name}: poll_timeout changes what it returns")
        if deadline is None or deadline > now:
            self.machine.handle_timeout(now)
            self._expect_quiet("a timeout before its time")
            if self.machine.poll_timeout() != deadline:
                raise ContractViolation(f"{self.name}: a timeout before its time moves the deadline")

    def _expect_quiet(self, after: str) -> None:
        if self.machine.drain_transmits() or self.machine.drain_events():
            raise ContractViolation(f"{self.name}: something to drain after {after}")


class Network:
    """Hosts, the links between them, and time.

    `lateness` is how long after its deadline a machine is woken, as by an event loop that has other things to do.
    Without `keep_sent` no host remembers what it sent: for calls of many minutes.
    """

    def __init__(
        self,
        seed: int | str = 0,
        model: NetworkModel | None = None,
        *,
        lateness: float = 0.0,
        keep_sent: bool = True,
    ) -> None:
        self.clock = VirtualClock()
        self.counters: Counter[str] = Counter()
        self.keep_sent = keep_sent
        self.filter: Filter | None = None
        self._seed = seed
        self._default = NetworkModel() if model is None else model
        self._lateness = lateness
        self._agenda = Agenda()
        self._arrivals = Arrivals(seed)
        self._unread: dict[tuple[str, Instant], list[tuple[Instant, bytes, Path]]] = {}
        self._hosts: dict[str, Host[Any]] = {}
        self._owners: dict[Address, Host[Any]] = {}
        self._models: dict[tuple[str, str], NetworkModel] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._outside: dict[Address, Address] = {}
        self._inside: dict[Address, Address] = {}

    @property
    def now(self) -> Instant:
        """The present instant."""
        return self.clock.now

    def attach(self, name: str, machine: MachineT, *addresses: Address) -> Host[MachineT]:
        """Put a machine on the network."""
        if name in self._hosts:
            raise ValueError(f"there is a host {name} already")
        host = Host(name, machine, self, addresses)
        self._hosts[name] = host
        for address in addresses:
            self.add_address(host, address)
        return host

    def add_address(self, host: Host[Any], address: Address) -> None:
        """Give a host one more address."""
        if self._owners.setdefault(address, host) is not host:
            raise ValueError(f"{address} belongs to {self._owners[address].name}")

    def detach(self, host: Host[Any]) -> None:
        """Take a host off the network: what is under way to it is lost."""
        del self._hosts[host.name]
        self._owners = {address: owner for address, owner in self._owners.items() if owner is not host}

    def link(
        self, one: Host[Any], other: Host[Any], there: NetworkModel, back: NetworkModel | None = None
    ) -> None:
        """Say what the network from `one` to `other` is like from now on, and `back` (if it differs)."""
        for a, b, model in ((one, other, there), (other, one, there if back is None else back)):
            self._models[a.name, b.name] = model
            self._links.pop((a.name, b.name), None)

    def set_default(self, model: NetworkModel) -> None:
        """Say what the network is like from now on between hosts for which `link` has said nothing."""
        self._default = model
        self._links = {ends: link for ends, link in self._links.items() if ends in self._models}

    def rebind(self, inside: Address, outside: Address) -> None:
        """Put a NAT before `inside`, or have it choose a new mapping: others see `outside` from now on.

        What is sent to an earlier outside address, or to the inside one, is lost.
        """
        self._inside.pop(self._outside.get(inside, outside), None)
        self._outside[inside] = outside
        self._inside[outside] = inside

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Have something done later: `action` may command machines (`Host.command`), change links, rebind."""
        self._agenda.add(self.now + seconds, action)

    def carry(self, sender: Host[Any], data: bytes, path: Path) -> None:
        """Take a datagram from a host and have it arrive as its link says."""
        if self._owners.get(path.local) is not sender:
            raise ContractViolation(f"{sender.name} sends from {path.local}, which is not its address")
        if self.filter is not None:
            passed = self.filter(sender, data, path)
            if passed is None:
                self.counters["filtered"] += 1
                return
            data = passed
        reached = self.route(path)
        if reached is None:
            self.counters["unreachable"] += 1
            return
        receiver, back = reached
        arrivals = self._link(sender.name, receiver.name).transit(len(data), self.now)
        self.counters["carried" if arrivals else "lost"] += 1
        for at in arrivals:
            key = receiver.name, self._arrivals.reading(receiver.name, at)
            if self._arrivals.in_batches and key in self._unread:
                self._unread[key].append((at, data, back))
                continue
            unread = [(at, data, back)]
            if self._arrivals.in_batches:
                self._unread[key] = unread
            self._agenda.add(key[1], lambda key=key, unread=unread: self._read(key, unread))

    def route(self, path: Path) -> tuple[Host[Any], Path] | None:
        """Return who a datagram reaches, and the path on which it arrives there; None if it reaches no host."""
        source = self._outside.get(path.local, path.local)
        inside = self._inside.get(path.remote, path.remote)
        receiver = self._owners.get(inside)
        if receiver is None or self._outside.get(inside, inside) != path.remote:
            return None
        return receiver, Path(path.remote, source, path.protocol)

    def owner(self, address: Address) -> Host[Any] | None:
        """Return the host that has an address."""
        return self._owners.get(address)

    def step(self, until: Instant) -> bool:
        """Do what is due next, if it is due by `until`; False if nothing is."""
        due = [(host.machine.poll_timeout(), host) for host in self._hosts.values()]
        sleepers = [(deadline + self._lateness, host) for deadline, host in due if deadline is not None]
        wake_at = min((at for at, _ in sleepers), default=None)
        at = earliest(self._agenda.next, wake_at)
        if at is None or at > until:
            return False
        self.clock.advance_to(at)
        if self._agenda.next == at:
            self._agenda.pop()()
        else:
            next(host for deadline, host in sleepers if deadline == wake_at).wake()
        return True

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let at most `seconds` pass; stop early, with True, when `until` says so.

        Without anything left to do, the clock goes to the end at once.
        """
        end = self.now + seconds
        for host in list(self._hosts.values()):
            host.pump()
        steps, instant = 0, self.now
        while until is None or not until():
            if not self.step(end):
                self.clock.advance_to(end)
                return until is not None and until()
            steps = steps + 1 if self.now == instant else 0
            instant = self.now
            if steps > MAX_STEPS_AT_ONE_INSTANT:
                raise ContractViolation(f"time stands still at {instant}: {self._restless()}")
        return True

    def statistics(self, sender: Host[Any], receiver: Host[Any]) -> dict[str, int]:
        """Return what became of the datagrams from one host to another since their link was last set."""
        return dict(self._link(sender.name, receiver.name).statistics())

    def _link(self, sender: str, receiver: str) -> Link:
        link = self._links.get((sender, receiver))
        if link is None:
            model = self._models.get((sender, receiver), self._default)
            link = self._links[sender, receiver] = Link(model, f"{self._seed}/{sender}/{receiver}")
        return link

    def _read(self, key: tuple[str, Instant], unread: list[tuple[Instant, bytes, Path]]) -> None:
        self._unread.pop(key, None)
        unread.sort(key=lambda arrival: arrival[0])
        for batch in self._arrivals.cut(unread):
            self._deliver([(data, path) for _, data, path in batch])

    def _deliver(self, batch: Sequence[tuple[bytes, Path]]) -> None:
        reached: list[tuple[bytes, Path]] = []
        receiver: Host[Any] | None = None
        for data, path in batch:
            inside = self._inside.get(path.local, path.local)
            host = self._owners.get(inside)
            if host is None or self._outside.get(inside, inside) != path.local:
                self.counters["unreachable"] += 1
                continue
            receiver = host
            reached.append((data, path._replace(local=inside)))
        if receiver is not None:
            receiver.take_together(reached)

    def _restless(self) -> str:
        waiting = [
            host.name for host in self._hosts.values() if (host.machine.poll_timeout() or self.now + 1) <= self.now
        ]
        return (
            f"woken again and again: {', '.join(waiting) or 'no machine; datagrams without delay go in a circle'}"
        )
