"""Gathering: server-reflexive and relayed candidates of our own (RFC 8445 §5.1.1; RFC 8838 §4.1: one by one).

A `Gatherer` is told the addresses of our UDP sockets and, as soon as each is known, the STUN and TURN servers. It
asks every server from every base that fits, one new transaction every Ta (RFC 8445 §14), and hands out what is
found as it is found. Nothing waits for it: a server that does not answer costs its requests and no more, and is
named in `outcomes`. When all have answered or failed, and `finish` has said that there will be no other server,
gathering is complete, which the peer is told as end-of-candidates (RFC 8838 §13).

It keeps what it has found: bindings of NATs by a datagram every 15 s (RFC 8445 §11), allocations by refreshing
them, until it is closed. Relayed candidates work through `relaying`.

A *standing* gatherer is a server's, for all its calls (`stack.server.gathering`): it asks each STUN server again
every 15 s, which finds a NAT that has given us another address, and a STUN server that was dead; and for an
allocation that it could not have, or has lost, every `RETRY_AFTER` seconds. What holds now is `standing`. That of
a call asks again for an allocation that it has had and lost: a call that can be relayed alone would end
(`allocation`).

Left out: candidates over TCP towards STUN servers (a NAT lets no connection in, whatever it maps), freeing what is
not selected (RFC 8445 §8.3): it serves after an ICE restart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from stack.core.counters import Counters, declare
from stack.core.errors import ParseError
from stack.core.machine import Address, Entropy, Instant, Path, Transmit, TransportProtocol
from stack.core.timers import TimerName, Timers, earliest
from stack.ice.allocation import Allocation
from stack.ice.candidate import ACTIVE_PORT, MAX_LOCAL_PREFERENCE, Candidate
from stack.ice.candidate_lists import is_usable
from stack.ice.servers import IceServer, LocatedServer
from stack.ice.turn import KEEPALIVE, TurnClient
from stack.ice.turn_events import TurnAllocated, TurnClientState, TurnCredentials, TurnFailed
from stack.ice.turn_peers import MAX_HOSTS, MAX_HOSTS_OF_SERVER
from stack.stun import (
    ClientTransaction,
    Message,
    MessageClass,
    Method,
    RetransmissionPolicy,
    TransactionId,
    TransactionState,
    XorMappedAddress,
    is_stun,
)

DROPPED_SERVER_TOO_MANY = declare(
    "ice", "dropped_server_too_many", "STUN and TURN servers beyond those that are asked for one call"
)
DROPPED_RELAYED_UNKNOWN = declare(
    "ice", "dropped_relayed_unknown", "Datagrams from a relayed address that no TURN client of ours has"
)

TA = 0.05
"""Seconds between two new transactions (RFC 8445 §14.2)."""
MAX_TASKS = 32
"""Pairs of a base and a server that are asked."""


class TransportPolicy(Enum):
    """Which candidates of our own there may be."""

    ALL = "all"
    UDP = "udp"
    """Over UDP alone, relayed ones included."""
    TCP = "tcp"
    """Over TCP alone: connections to the peer, and TURN over TCP and TLS."""
    RELAY = "relay"
    """Relayed ones alone, so that the peer does not learn our address."""


@dataclass(frozen=True, slots=True)
class GatheringOutcome:
    """What came of asking one server from one address."""

    server: LocatedServer
    base: Address
    text: str
    """For people: the address that was found, or why there is none."""


class GatheringTimer(TimerName):
    """The timers of a gatherer."""

    PACING = "pacing"
    TRANSACTIONS = "transactions"
    """A request, or a TURN client, is due."""
    KEEPALIVE = "keepalive"
    RETRY = "retry"
    """An allocation is asked for again."""


@dataclass(slots=True, eq=False)
class _Binding:
    """A Binding request from one base to one server; pending until `transaction` is over."""

    server: LocatedServer
    path: Path
    preference: int
    transaction: ClientTransaction
    transaction_id: TransactionId
    found: bool = False
    candidate: Candidate | None = None


class Gatherer:
    """Looks for candidates; a part of `RelayingMachine`, which feeds it and moves what it has to send."""

    def __init__(
        self,
        bases: Sequence[Address],
        entropy: Entropy,
        policy: TransportPolicy = TransportPolicy.ALL,
        retransmission: RetransmissionPolicy | None = None,
        *,
        standing: bool = False,
    ) -> None:
        """`bases`: the addresses of our UDP sockets, the preferred one first."""
        self.counters = Counters()
        self.outcomes: list[GatheringOutcome] = []
        self._bases = tuple(bases)
        self._entropy = entropy
        self._policy = policy
        self._retransmission = retransmission or RetransmissionPolicy()
        self._waiting: deque[tuple[LocatedServer, Path, int]] = deque()
        self._turn_paths: set[Path] = set()
        self._asked = 0
        self._is_standing = standing
        self._now: Instant = 0.0
        self._finished = False
        self._closed = False
        self._bindings: list[_Binding] = []
        self._allocations: list[Allocation] = []
        self._found: set[tuple[Address, Address]] = set()
        self._candidates: list[Candidate] = []
        self._timers: Timers[GatheringTimer] = Timers()
        self._transmits: list[Transmit] = []

    # --- commands -------------------------------------------------------------------------------------------

    def add_server(
        self, located: LocatedServer, now: Instant, relay_bases: Sequence[Address] | None = None
    ) -> None:
        """Ask a server, from every base from which it can be reached and as far as the policy wants it.

        `relay_bases` are sockets of their own for allocations over UDP, where the bases are shared by processes: a
        TURN server knows its client by the 5-tuple.
        """
        self._now = now
        server, address = located.server, located.address
        over_udp = server.protocol is TransportProtocol.UDP
        wanted = server.turn or self._policy is not TransportPolicy.RELAY
        if not wanted or self._policy is (TransportPolicy.TCP if over_udp else TransportPolicy.UDP):
            return
        if self._is_standing and server.turn and over_udp:  # for the addresses of the bases themselves
            plain = replace(server, turn=False, username="", password="")
            self.add_server(LocatedServer(plain, address), now)
        mine = relay_bases if server.turn and relay_bases is not None else self._bases
        bases = [base for base in mine if base.is_ipv6 == address.is_ipv6]
        if not over_udp:
            bases = [Address(host, ACTIVE_PORT) for host in dict.fromkeys(base.host for base in bases)]
        for base in bases:
            if self._asked >= MAX_TASKS:
                self.counters.add(DROPPED_SERVER_TOO_MANY)
                continue
            path = Path(base, address, server.protocol)
            if server.turn and path in self._turn_paths:
                # A TURN server knows its client by the 5-tuple: two clients there would take each other's answers.
                self._note(located, base, "asked already, by another name")
                continue
            if server.turn:
                self._turn_paths.add(path)
            preference = self._preference(located)
            self._asked += 1
            self._waiting.append((located, path, preference))
        self._start_next(now)

    def finish(self, now: Instant) -> None:
        """Say that there will be no other server."""
        self._finished = True

    def close(self, now: Instant) -> None:
        """Give the allocations back, and send nothing any more."""
        self._now = now
        for allocation in self._allocations:
            allocation.client.close(now)
        self._collect()
        self._closed = True
        self._waiting.clear()
        self._timers.clear_all()

    @property
    def is_complete(self) -> bool:
        """True when every candidate has been found that will be."""
        pending = any(binding.transaction.state is TransactionState.PENDING for binding in self._bindings)
        allocating = any(a.client.state is TurnClientState.ALLOCATING for a in self._allocations)
        return self._finished and not (self._waiting or pending or allocating)

    @property
    def standing(self) -> tuple[Candidate, ...]:
        """The candidates that hold now, each address and base once."""
        found: dict[tuple[Address, Address], Candidate] = {}
        kept = [binding.candidate for binding in self._bindings if binding.candidate is not None]
        for allocation in self._allocations:
            if allocation.client.state is TurnClientState.ALLOCATED:
                kept += allocation.candidates
        for candidate in kept:
            found.setdefault((candidate.address, candidate.base_address), candidate)
        return tuple(found.values())

    @property
    def relayed(self) -> frozenset[Address]:
        """The addresses that are allocated now."""
        return frozenset(address for allocation in self._allocations for address in allocation.client.relayed)

    def server_of(self, relayed: Address) -> LocatedServer | None:
        """Return the server that has allocated an address; None if it is none of ours."""
        return next((a.server for a in self._allocations if relayed in a.client.relayed), None)

    def relayed_through(self, path: Path) -> tuple[Address, ...]:
        """Return the addresses that the server at the end of a path of ours has allocated."""
        return tuple(own for a in self._allocations if a.client.server == path for own in a.client.relayed)

    def server_at(self, path: Path) -> IceServer | None:
        """Return the TURN server at the end of a path of ours; None if there is none."""
        return next((a.server.server for a in self._allocations if a.client.server == path), None)

    # --- datagrams ------------------------------------------------------------------------------------------

    def unwrap(self, data: bytes, path: Path, now: Instant) -> Sequence[tuple[bytes, Path]]:
        """Return what a datagram is for the machine above: itself, what was relayed in it, or nothing."""
        self._now = now
        if is_stun(data) and self._handle_binding_response(data, path, now):
            self._arm()
            return ()
        allocation = next((a for a in self._allocations if a.client.server == path), None)
        if allocation is not None:
            allocation.client.handle_datagrams(((data, path),), now)
            received = allocation.client.drain_received()
            self._collect()
            self._arm()
            return received
        return ((data, path),)

    def wrap(self, transmit: Transmit) -> Transmit | None:
        """Return a datagram of the machine above as it leaves our sockets; None if it does not, or later."""
        local = transmit.path.local
        for allocation in self._allocations:
            client = allocation.client
            if local in client.relayed:
                wrapped = client.wrap(*transmit)
                self._timers.set(GatheringTimer.TRANSACTIONS, self._deadline())
                return wrapped
        if transmit.path.protocol is TransportProtocol.TCP or local in self._bases:
            return transmit
        self.counters.add(DROPPED_RELAYED_UNKNOWN)
        return None

    def note_connection_lost(self, path: Path, now: Instant, why: str = "") -> None:
        """The connection of a path over TCP has failed; `why` goes into the outcome."""
        self._now = now
        for allocation in self._allocations:
            if allocation.client.server == path:
                allocation.client.note_connection_lost(now)
        self._collect(why)
        self._arm()

    # --- time -----------------------------------------------------------------------------------------------

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        self._now = now
        self._timers.fire(now, self._handle_timer)
        if not self._closed:
            self._collect()
            self._arm()

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called."""
        return self._timers.next

    def drain_transmits(self) -> Sequence[Transmit]:
        """Return what is to be sent to servers."""
        transmits, self._transmits = self._transmits, []
        return transmits

    def drain_candidates(self) -> Sequence[Candidate]:
        """Return what was found since the last call."""
        candidates, self._candidates = self._candidates, []
        return candidates

    def all_counters(self) -> Counters:
        """Return what was counted here and by the TURN clients."""
        total = Counters()
        total.merge(self.counters)
        for allocation in self._allocations:
            total.merge(allocation.client.counters)
        return total

    def _handle_timer(self, timer: GatheringTimer, now: Instant) -> None:
        match timer:
            case GatheringTimer.PACING:
                self._start_next(now)
            case GatheringTimer.TRANSACTIONS:
                for binding in self._bindings:
                    self._retransmit(binding, now)
                for allocation in self._allocations:
                    allocation.client.handle_timeout(now)
            case GatheringTimer.KEEPALIVE:
                for binding in self._bindings:
                    if self._is_standing:
                        if binding.transaction.state is not TransactionState.PENDING:
                            self._ask(binding, now)
                    elif binding.found:
                        keepalive = Message(MessageClass.INDICATION, Method.BINDING, self._transaction_id())
                        self._transmits.append(Transmit(keepalive.serialize_with_fingerprint(), binding.path))
                self._timers.set(GatheringTimer.KEEPALIVE, now + KEEPALIVE)
            case GatheringTimer.RETRY:
                for allocation in self._allocations:
                    if allocation.retry_at is not None and allocation.retry_at <= now:
                        self._allocate_again(allocation, now)
                self._timers.set(GatheringTimer.RETRY, earliest(*(a.retry_at for a in self._allocations)))

    def _start_next(self, now: Instant) -> None:
        """Begin the next transaction, unless one began less than Ta ago."""
        if not self._waiting or self._timers.is_set(GatheringTimer.PACING):
            return
        located, path, preference = self._waiting.popleft()
        if located.server.turn:
            self._allocate(located, path, preference, now)
        else:
            self._bind(located, path, preference, now)
        self._timers.set(GatheringTimer.PACING, now + TA)
        self._collect()
        self._arm()

    def _deadline(self) -> Instant | None:
        return earliest(
            *(binding.transaction.poll_timeout() for binding in self._bindings),
            *(allocation.client.poll_timeout() for allocation in self._allocations),
        )

    def _arm(self) -> None:
        self._timers.set(GatheringTimer.TRANSACTIONS, self._deadline())

    def _collect(self, why: str = "") -> None:
        """Take what the TURN clients have to send and to say."""
        for allocation in self._allocations:
            self._transmits += allocation.client.drain_transmits()
            for event in allocation.client.drain_events():
                match event:
                    case TurnAllocated():
                        self._note_allocated(allocation, event)
                    case TurnFailed():
                        code = f" ({event.code})" if event.code else ""
                        more = f": {why}" if why else ""
                        self._note(allocation.server, allocation.base, f"{event.reason.value}{code}{more}")
                        allocation.plan_retry(event, self._now, self._is_standing)
                        if allocation.retry_at is not None:
                            self._timers.bring_forward(GatheringTimer.RETRY, allocation.retry_at)

    # --- STUN -----------------------------------------------------------------------------------------------

    def _bind(self, located: LocatedServer, path: Path, preference: int, now: Instant) -> None:
        transaction, transaction_id = self._begin(path, now)
        self._bindings.append(_Binding(located, path, preference, transaction, transaction_id))
        if self._is_standing:
            self._timers.set_default(GatheringTimer.KEEPALIVE, now + KEEPALIVE)

    def _ask(self, binding: _Binding, now: Instant) -> None:
        """Ask once more: it keeps the NAT's mapping open, and finds another."""
        binding.transaction, binding.transaction_id = self._begin(binding.path, now)

    def _begin(self, path: Path, now: Instant) -> tuple[ClientTransaction, TransactionId]:
        transaction_id = self._transaction_id()
        data = Message(MessageClass.REQUEST, Method.BINDING, transaction_id).serialize_with_fingerprint()
        self._transmits.append(Transmit(data, path))
        return ClientTransaction(data, now, self._retransmission), transaction_id

    def _retransmit(self, binding: _Binding, now: Instant) -> None:
        pending = binding.transaction.state is TransactionState.PENDING
        again = binding.transaction.handle_timeout(now)
        if again is not None:
            self._transmits.append(Transmit(again, binding.path))
        elif pending and binding.transaction.state is TransactionState.TIMED_OUT:
            self._note(binding.server, binding.path.local, "the STUN server did not respond")

    def _handle_binding_response(self, data: bytes, path: Path, now: Instant) -> bool:
        """Take a response to a request of ours, told by its transaction; False if it is none."""
        transaction_id = data[8:20]
        binding = next((b for b in self._bindings if b.transaction_id == transaction_id and b.path == path), None)
        if binding is None:
            return False
        if binding.transaction.state is not TransactionState.PENDING:
            return True
        try:
            message = Message.parse(data)
        except ParseError:
            return True
        binding.transaction.handle_response(now)
        mapped = message.get(XorMappedAddress)
        if message.message_class is not MessageClass.SUCCESS_RESPONSE or mapped is None:
            self._note(binding.server, path.local, "the STUN server refused")
            return True
        if not is_usable(mapped.address):
            self._note(binding.server, path.local, f"the STUN server says {mapped.address}, where nothing is")
            return True
        binding.found = True
        self._timers.set_default(GatheringTimer.KEEPALIVE, now + KEEPALIVE)
        self._note(binding.server, path.local, str(mapped.address))
        known = binding.candidate
        if known is None or known.address != mapped.address:
            if known is not None:
                self._found.discard((known.address, path.local))
            binding.candidate = self._found_reflexive(
                mapped.address, path.local, binding.server.address, binding.preference
            )
        return True

    def _found_reflexive(
        self, mapped: Address, base: Address, server: Address, preference: int
    ) -> Candidate | None:
        # RFC 8445 §5.1.3: without a NAT it is the host candidate again, and two servers may say the same.
        if mapped == base or self._policy is TransportPolicy.RELAY:
            return None
        candidate = Candidate.server_reflexive(mapped, base, server, preference)
        if (mapped, base) not in self._found:
            self._found.add((mapped, base))
            self._candidates.append(candidate)
        return candidate

    # --- TURN -----------------------------------------------------------------------------------------------

    def _allocate(self, located: LocatedServer, path: Path, preference: int, now: Instant) -> None:
        client = self._turn_client(located, path)
        self._allocations.append(Allocation(located, path.local, preference, path, client))
        client.start(now)

    def _turn_client(self, located: LocatedServer, path: Path) -> TurnClient:
        credentials = TurnCredentials(located.server.username, located.server.password)
        hosts = MAX_HOSTS_OF_SERVER if self._is_standing else MAX_HOSTS
        return TurnClient(path, credentials, self._entropy, policy=self._retransmission, max_hosts=hosts)

    def _allocate_again(self, allocation: Allocation, now: Instant) -> None:
        self.counters.merge(allocation.client.counters)
        allocation.begin_again(self._turn_client(allocation.server, allocation.path), now)

    def _note_allocated(self, allocation: Allocation, event: TurnAllocated) -> None:
        address = allocation.client.server.remote
        self._note(allocation.server, allocation.base, ", ".join(map(str, event.relayed)))
        if allocation.client.server.protocol is TransportProtocol.UDP and allocation.base in self._bases:
            self._found_reflexive(event.mapped, allocation.base, address, allocation.preference)
        mapped = event.mapped
        if self._policy is TransportPolicy.RELAY or self._is_standing:
            # RFC 8839 §5.1: what is to stay hidden is written so.
            mapped = Address("::" if mapped.is_ipv6 else "0.0.0.0", ACTIVE_PORT)
        relayed = (Candidate.relayed(each, mapped, address, allocation.preference) for each in event.relayed)
        allocation.note_had(tuple(relayed))
        self._candidates += allocation.candidates

    def _preference(self, located: LocatedServer) -> int:
        """Return the local preference: the cheaper the way to the server, and the earlier, the better."""
        server = located.server
        rank = 2 if server.tls else 1 if server.protocol is TransportProtocol.TCP else 0
        return (MAX_LOCAL_PREFERENCE >> rank) - self._asked

    def _note(self, server: LocatedServer, base: Address, text: str) -> None:
        if self._is_standing:  # of each the latest, or there would be ever more
            self.outcomes = [known for known in self.outcomes if (known.server, known.base) != (server, base)]
        self.outcomes.append(GatheringOutcome(server, base, text))

    def _transaction_id(self) -> TransactionId:
        return TransactionId(self._entropy(12))
