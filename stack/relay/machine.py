"""Which datagram goes where: by the node part of a check's username fragment, then by flow, both ways.

A *flow* is one client's address and port, one address of ours that it sends to, and one node. The relay speaks for
it to the node from a port of its own, so a node sees each client at another port of the relay, and answers there.
Datagrams pass unchanged: worker digit, ticket and signature are the node's to read.

- A check (a STUN request with USERNAME, RFC 8445 §7.2.2) whose fragment names a node that is known makes a flow.
- The flow is *unproven* until the node has answered one of its checks with success, which a node does after it has
  verified MESSAGE-INTEGRITY. Until then nothing but such checks goes to the node, and no more bytes come from the
  node than the client has sent: one who writes another's address into a packet gains nothing by us.
- What is no such check goes to the flow of its sender that was proven last. So bytes that are not authenticated
  move nothing: a check with a stranger's address makes an unproven flow beside the one that is up.
- Unproven flows are bounded, for each host and altogether; the oldest makes room. A node answers within a round
  trip, so it takes a flood of so many checks in one round trip to keep callers out.

Proven flows are in the flow file: a relay that was killed forwards them again before it knows any node.
What is left out: ICE-TCP, fragments that name no node, and the client's address, which the node is not told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple, TypeAlias

from stack.core.counters import Counters, declare
from stack.core.errors import LocalError, ParseError
from stack.core.machine import Address, Instant, Path, TerminalEvents, Transmit
from stack.core.stun_framing import peek_username
from stack.core.ufrag import Ufrag
from stack.relay.flow_file import FlowFile, StoredFlow

FORWARDED_UP = declare("relay", "forwarded_up", "Datagrams that went from a client to its node")
FORWARDED_DOWN = declare("relay", "forwarded_down", "Datagrams that went from a node to its client")
FLOW_MADE = declare("relay", "flow_made", "Flows that a check has made")
FLOW_PROVEN = declare("relay", "flow_proven", "Flows in which the node has answered a check with success")
FLOW_RESTORED = declare("relay", "flow_restored", "Flows that were read from the file at the start")
FLOW_EXPIRED = declare("relay", "flow_expired", "Flows that were forgotten after a time without a datagram")
FLOW_DISPLACED = declare("relay", "flow_displaced", "Unproven flows that made room for later ones")
FAILED_PORT = declare("relay", "failed_port", "Flows that ended because their port could not be had")
DROPPED_NO_NODE = declare("relay", "dropped_no_node", "Checks whose fragment names no node that is known")
DROPPED_NO_FLOW = declare("relay", "dropped_no_flow", "Datagrams of senders that have no proven flow")
DROPPED_UNPROVEN = declare(
    "relay", "dropped_unproven", "Datagrams of nodes to unproven clients, beyond the bytes that came from there"
)
DROPPED_FULL = declare("relay", "dropped_full", "Checks that found all flows taken by clients that are proven")

MAX_UNPROVEN = 1024
"""Flows that no node has confirmed."""
MAX_UNPROVEN_OF_HOST = 32
"""Of one client's IP address; clients behind one NAT share it."""
MAX_NODES_OF_CLIENT = 4
"""Flows of one client's address and port."""
MAX_TRANSACTIONS = 4
"""Checks of a flow whose answer is awaited."""
MAX_NODES = 10_000
"""Nodes that are known."""
UNPROVEN_TIMEOUT = 5.0
"""Seconds after its last check after which an unproven flow is forgotten."""
FLOW_TIMEOUT = 60.0
"""Seconds without a datagram of the client after which a flow is forgotten; RFC 7675 has a check each 5 s."""
SWEEP_EVERY = 1.0
"""Seconds between two looks for flows that are over; the flow file knows to this when a client was heard last."""
MAX_PORT = 65_535

_STUN_FIRST_BYTE_END = 4  # RFC 7983 §7
_REQUEST = 0
_SUCCESS = b"\x01\x01"  # of a Binding request (RFC 8489 §5)
_TRANSACTION = slice(8, 20)


class RelaySettings(NamedTuple):
    """What a relay forwards by."""

    addresses: tuple[Address, ...]
    """Where clients send to."""
    inner_host: str = "0.0.0.0"
    """The address from which nodes are spoken to; of its family are the nodes."""
    first_port: int = 20_000
    max_flows: int = 4096

    def check(self) -> None:
        """Raise `LocalError` for ports that are none."""
        if self.max_flows < 1 or self.first_port < 1 or self.first_port + self.max_flows - 1 > MAX_PORT:
            raise LocalError(f"{self.max_flows} ports from {self.first_port} on end beyond {MAX_PORT}")


class PortOpened(NamedTuple):
    """From `path.local` the relay speaks to `path.remote` from now on: it is to be bound before what is sent."""

    path: Path


class PortClosed(NamedTuple):
    """This port is not needed any more."""

    local: Address


RelayEvent: TypeAlias = PortOpened | PortClosed


class _Flow:
    __slots__ = (
        "allowance", "client", "heard", "inner", "is_proven", "outer", "slot", "stamped", "transactions", "ufrag"
    )  # fmt: skip

    def __init__(self, slot: int, client: _Client, outer: Path, inner: Path, now: Instant) -> None:
        self.slot = slot
        self.client = client
        self.outer = outer
        self.inner = inner
        self.heard = now
        self.stamped = now
        self.is_proven = False
        self.allowance = 0
        """Bytes that the node may still send before the flow is proven."""
        self.transactions: deque[bytes] = deque(maxlen=MAX_TRANSACTIONS)
        self.ufrag = ""
        """Of the latest check: the same fragment goes the same way without being read again."""


class _Client:
    """One address and port that datagrams came from, to one address of ours."""

    __slots__ = ("current", "flows")

    def __init__(self) -> None:
        self.flows: list[_Flow] = []
        self.current: _Flow | None = None


class Relay:
    """A machine: feed it what its ports receive, send what it drains, open and close ports as its events say."""

    terminal_events: ClassVar[TerminalEvents] = ()

    def __init__(self, settings: RelaySettings, file: FlowFile, now: Instant) -> None:
        settings.check()
        if file.slots != settings.max_flows:
            raise LocalError(f"the flow file has {file.slots} slots, not {settings.max_flows}")
        self.settings = settings
        self.counters = Counters()
        self.nodes: Mapping[str, Address] = {}
        self._file = file
        self._is_ipv6 = ":" in settings.inner_host
        self._outer = frozenset(settings.addresses)
        self._clients: dict[Path, _Client] = {}
        self._by_port: dict[Address, _Flow] = {}
        self._unproven: dict[_Flow, None] = {}  # ordered: the oldest first
        self._unproven_of: dict[str, dict[_Flow, None]] = {}
        self._transmits: list[Transmit] = []
        self._events: list[RelayEvent] = []
        self._sweep: Instant = now + SWEEP_EVERY
        self._free = self._restore(now)

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def flows(self) -> int:
        """How many flows are proven."""
        return len(self._by_port) - len(self._unproven)

    @property
    def unproven(self) -> int:
        """How many flows are not."""
        return len(self._unproven)

    def set_nodes(self, nodes: Mapping[str, Address]) -> None:
        """Know these nodes, by node part, and no others; flows that are up stay where they are.

        Nodes of another family than the inner address's are left out, and those beyond `MAX_NODES`.
        """
        fit = [(name, address) for name, address in nodes.items() if address.is_ipv6 == self._is_ipv6]
        self.nodes = dict(fit[:MAX_NODES])

    # -- the contract of machines --------------------------------------------------------------------------------

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Forward what came to our addresses, or to the ports of flows."""
        by_port, clients, transmits = self._by_port, self._clients, self._transmits
        up = down = 0
        for data, path in batch:
            flow = by_port.get(path.local)
            if flow is not None:
                if flow.client.current is flow or self._passes_down(flow, data):
                    transmits.append(Transmit(data, flow.outer))
                    down += 1
                continue
            client = clients.get(path)
            if data and data[0] == _REQUEST and (username := peek_username(data)) is not None:
                flow = self._find_by_check(client, data, username.partition(":")[0], path, now)
            else:
                flow = client.current if client is not None else None
                if flow is None:
                    self.counters.add(DROPPED_NO_FLOW)
            if flow is not None:
                flow.heard = now
                transmits.append(Transmit(data, flow.inner))
                up += 1
        if up:
            self.counters.add(FORWARDED_UP, up)
        if down:
            self.counters.add(FORWARDED_DOWN, down)

    def handle_timeout(self, now: Instant) -> None:
        """Forget the flows that are over, and write down when the others were heard."""
        if now < self._sweep:
            return
        self._sweep = now + SWEEP_EVERY
        for flow in list(self._by_port.values()):
            if now - flow.heard > (FLOW_TIMEOUT if flow.is_proven else UNPROVEN_TIMEOUT):
                self.counters.add(FLOW_EXPIRED)
                self._remove(flow)
            elif flow.is_proven and flow.heard != flow.stamped:
                flow.stamped = flow.heard
                self._file.stamp(flow.slot, flow.heard)

    def poll_timeout(self) -> Instant | None:
        """Return when to look for flows that are over; None while there is none."""
        return self._sweep if self._by_port else None

    def drain_transmits(self) -> Sequence[Transmit]:
        """Return what is to be sent, each from the local address of its path."""
        transmits, self._transmits = self._transmits, []
        return transmits

    def drain_events(self) -> Sequence[RelayEvent]:
        """Return which ports are to be opened and closed, before what was drained is sent."""
        events, self._events = self._events, []
        return events

    def handle_port_failed(self, local: Address) -> None:
        """The port of a flow cannot be had: the flow is over, and its client's next check makes another."""
        flow = self._by_port.get(local)
        if flow is not None:
            self.counters.add(FAILED_PORT)
            self._remove(flow)

    # -- from clients --------------------------------------------------------------------------------------------

    def _find_by_check(
        self, client: _Client | None, data: bytes, ufrag: str, path: Path, now: Instant
    ) -> _Flow | None:
        """Return the flow of a check, which may be a new one."""
        flow = client.current if client is not None else None
        if flow is None or flow.ufrag != ufrag:
            flow = self._find_by_node(client, ufrag, path, now)
            if flow is None:
                return None
            flow.ufrag = ufrag
        if not flow.is_proven:
            flow.allowance += len(data)
        if flow.client.current is not flow:
            flow.transactions.append(data[_TRANSACTION])
        return flow

    def _find_by_node(self, client: _Client | None, ufrag: str, path: Path, now: Instant) -> _Flow | None:
        try:
            node = self.nodes.get(Ufrag.parse(ufrag).node)
        except ParseError:
            node = None
        if node is None:
            if client is not None and client.current is not None:  # the nodes may not be known yet
                return client.current
            self.counters.add(DROPPED_NO_NODE)
            return None
        if client is not None:
            for flow in client.flows:
                if flow.inner.remote == node:
                    return flow
        return self._make(path, node, now)

    def _make(self, path: Path, node: Address, now: Instant) -> _Flow | None:
        if path.local not in self._outer:  # to a port of ours whose flow has just ended
            self.counters.add(DROPPED_NO_FLOW)
            return None
        self._make_room(path)
        if not self._free:
            self.counters.add(DROPPED_FULL)
            return None
        slot = self._free.popleft()
        flow = self._add(slot, path, node, now)
        self._unproven[flow] = None
        self._unproven_of.setdefault(path.remote.host, {})[flow] = None
        self.counters.add(FLOW_MADE)
        return flow

    def _make_room(self, path: Path) -> None:
        """Forget the oldest unproven flows where there would be too many."""
        client = self._clients.get(path)
        of_client = client.flows if client is not None else []
        of_host = self._unproven_of.get(path.remote.host, {})
        if len(of_client) >= MAX_NODES_OF_CLIENT:
            self._displace(min(of_client, key=lambda flow: (flow is flow.client.current, flow.heard)))
        if len(of_host) >= MAX_UNPROVEN_OF_HOST:
            self._displace(next(iter(of_host)))
        if self._unproven and (len(self._unproven) >= MAX_UNPROVEN or not self._free):
            self._displace(next(iter(self._unproven)))

    def _displace(self, flow: _Flow) -> None:
        self.counters.add(FLOW_DISPLACED)
        self._remove(flow)

    # -- from nodes ----------------------------------------------------------------------------------------------

    def _passes_down(self, flow: _Flow, data: bytes) -> bool:
        """Return True if what comes over a flow goes on, which is not its client's latest, or is not proven."""
        if data[:2] == _SUCCESS and data[_TRANSACTION] in flow.transactions:
            self._prove(flow)
            return True
        if flow.is_proven:
            return True
        if len(data) > flow.allowance:
            self.counters.add(DROPPED_UNPROVEN)
            return False
        flow.allowance -= len(data)
        return True

    def _prove(self, flow: _Flow) -> None:
        """The node has verified a check: what its client sends goes there from now on."""
        flow.client.current = flow
        flow.transactions.clear()
        if flow.is_proven:
            return
        self._leave_unproven(flow)
        flow.is_proven = True
        flow.stamped = flow.heard
        self._file.write(StoredFlow(flow.slot, flow.outer.remote, flow.outer.local, flow.inner.remote, flow.heard))
        self.counters.add(FLOW_PROVEN)

    # -- the flows -----------------------------------------------------------------------------------------------

    def _restore(self, now: Instant) -> deque[int]:
        """Take the flows of the file that may still be up, and return the slots that are free."""
        free = set(range(self.settings.max_flows))
        for stored in sorted(self._file.read(), key=lambda each: each.heard):
            is_ours = stored.relay in self._outer and stored.node.is_ipv6 == self._is_ipv6
            if not is_ours or not now - FLOW_TIMEOUT <= stored.heard <= now:
                self._file.clear(stored.slot)
                continue
            free.discard(stored.slot)
            flow = self._add(stored.slot, Path(stored.relay, stored.client), stored.node, stored.heard)
            flow.is_proven = True
            flow.client.current = flow  # the one that was heard last
            self.counters.add(FLOW_RESTORED)
        return deque(sorted(free))

    def _add(self, slot: int, outer: Path, node: Address, now: Instant) -> _Flow:
        client = self._clients.setdefault(outer, _Client())
        inner = Path(Address(self.settings.inner_host, self.settings.first_port + slot), node)
        flow = _Flow(slot, client, outer, inner, now)
        client.flows.append(flow)
        self._by_port[inner.local] = flow
        self._events.append(PortOpened(inner))
        return flow

    def _remove(self, flow: _Flow) -> None:
        if flow.is_proven:
            self._file.clear(flow.slot)
        else:
            self._leave_unproven(flow)
        del self._by_port[flow.inner.local]
        self._free.append(flow.slot)  # at the end: what is on its way to this port finds no other flow
        client = flow.client
        client.flows.remove(flow)
        if client.current is flow:
            proven = [each for each in client.flows if each.is_proven]
            client.current = max(proven, key=lambda each: each.heard, default=None)
        if not client.flows:
            del self._clients[flow.outer]
        self._events.append(PortClosed(flow.inner.local))

    def _leave_unproven(self, flow: _Flow) -> None:
        del self._unproven[flow]
        host = flow.outer.remote.host
        of_host = self._unproven_of[host]
        del of_host[flow]
        if not of_host:
            del self._unproven_of[host]


__all__ = ["PortClosed", "PortOpened", "Relay", "RelayEvent", "RelaySettings"]
