"""The media side of a client: one call, which may have relayed addresses and connections over TCP.

Gathering begins with the first socket, before there is an offer, and nothing waits for it: candidates reach the
conversation as they are found, whenever it is made, and the program's side, which trickles them. How it all hangs
together is `stack.ice.relaying`'s; here are the sockets.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from stack.aio.driver import Driver
from stack.aio.media import CallEndpoint, Events, MediaCalls, MediaSetup
from stack.aio.tcp_client import ClientConnections
from stack.aio.udp import UdpSockets
from stack.core.machine import Address, Instant, Path, TerminalEvents, TransportProtocol
from stack.core.trace import Direction, PacketTrace
from stack.core.values import Value
from stack.ice import Candidate, IceAgent
from stack.ice.gathering import Gatherer, GatheringOutcome, TransportPolicy
from stack.ice.pair import PairState
from stack.ice.relaying import RelayingMachine, TakesCandidates
from stack.ice.servers import IceServer, LocatedServer
from stack.server import HostedMachine, SingleEndpoint
from stack.voice.conversation import Conversation
from stack.voice.events import ConversationEvent

Found = Callable[[Sequence[Candidate], bool], None]
"""Is told what was found since the last time, and whether that was the end of it."""


@dataclass(frozen=True, slots=True)
class PairReport:
    """A pair of candidates as a call's report shows it. The types are RFC 8839's: host, srflx, prflx, relay."""

    local: str
    local_type: str
    remote: str
    remote_type: str
    protocol: str
    state: str
    selected: bool
    relay: str
    """The TURN server behind a relayed local candidate; empty for others."""
    round_trip_time: float | None
    """Seconds."""


@dataclass(frozen=True, slots=True)
class IceReport:
    """The pairs that there are, best first, and what came of asking servers."""

    pairs: tuple[PairReport, ...]
    outcomes: tuple[GatheringOutcome, ...]


class _NoCall:
    """Stands where the conversation will be."""

    terminal_events: ClassVar[TerminalEvents] = ()
    is_finished = True

    def add_local_candidate(self, candidate: Candidate, now: Instant) -> None:
        """It will be given to the conversation."""

    def note_failed(self, local: Address, remote: Address | None, now: Instant) -> bool:
        """There is no path."""
        return False

    def handle_datagrams(self, batch: Any, now: Instant) -> None:
        """What comes before the call began is no use; what is a server's is taken out of it."""
        for _ in batch:
            pass

    def handle_timeout(self, now: Instant) -> None:
        """Nothing is due."""

    def poll_timeout(self) -> Instant | None:
        """Nothing will be."""
        return None

    def drain_transmits(self) -> Sequence[Any]:
        """Nothing is to be sent."""
        return ()

    def drain_events(self) -> Sequence[ConversationEvent]:
        """Nothing happens."""
        return ()

    def drain_routes(self) -> Sequence[Any]:
        """No path is proven."""
        return ()

    @property
    def sources(self) -> Sequence[int]:
        """Nothing has come."""
        return ()

    @property
    def is_known_by_records(self) -> bool:
        """Nothing has come."""
        return False


class _HostedRelaying(RelayingMachine[ConversationEvent]):
    """A relaying machine that an endpoint can host."""

    @property
    def inside(self) -> HostedMachine[ConversationEvent]:
        """The conversation, or what stands in its place."""
        return cast("HostedMachine[ConversationEvent]", self.machine)

    @property
    def calling(self) -> Conversation | _NoCall:
        """The same, with what a client tells it besides."""
        return cast("Conversation | _NoCall", self.machine)

    @property
    def is_finished(self) -> bool:
        """Of the conversation."""
        return self.inside.is_finished

    def drain_routes(self) -> Sequence[Path]:
        """Of the conversation."""
        return self.inside.drain_routes()

    @property
    def sources(self) -> Sequence[int]:
        """Of the conversation."""
        return self.inside.sources

    @property
    def is_known_by_records(self) -> bool:
        """Of the conversation."""
        return self.inside.is_known_by_records


class ClientEndpoint(SingleEndpoint[ConversationEvent]):
    """An endpoint whose one machine gathers before it has a conversation in it, and until it is closed."""

    uncounted = 0  # no packet makes a call here

    def __init__(self, gatherer: Gatherer, now: Callable[[], Instant]) -> None:
        self.relaying = _HostedRelaying(cast("TakesCandidates[ConversationEvent]", _NoCall()), gatherer)
        self._now = now
        super().__init__("", cast("HostedMachine[ConversationEvent]", self.relaying))

    def add(self, name: str, machine: HostedMachine[ConversationEvent], ufrag: str) -> None:
        """Begin with the conversation."""
        self.name = name
        self.relaying.replace(cast("TakesCandidates[ConversationEvent]", machine), self._now())

    def add_ufrag(self, name: str, ufrag: str) -> None:
        """Every datagram reaches the one machine anyway."""

    def poll_timeout(self) -> Instant | None:
        """Return the next deadline: gathering has some while there is no call, too."""
        if not self.relaying.is_finished:
            return super().poll_timeout()
        return self.relaying.gatherer.poll_timeout()


class ClientDriver(Driver[ConversationEvent]):
    """A driver that also has connections over TCP, and tells what has been gathered."""

    endpoint: ClientEndpoint

    def __init__(
        self,
        endpoint: ClientEndpoint,
        sockets: UdpSockets,
        on_events: Callable[[Events], None],
        trace: PacketTrace | None,
        *,
        on_found: Found,
        insecure: bool,
    ) -> None:
        super().__init__(endpoint, sockets, on_events, trace)
        self._on_found = on_found
        self._was_complete = False
        for udp in sockets:
            udp.failed = set()
        gatherer = endpoint.relaying.gatherer
        self.streams = ClientConnections(
            self._take_stream, self._lose_stream, gatherer.server_at, insecure=insecure
        )

    def pump(self) -> None:
        """Move everything, and tell what was found."""
        super().pump()
        relaying = self.endpoint.relaying
        found, complete = relaying.drain_candidates(), relaying.gatherer.is_complete
        if found or complete is not self._was_complete:
            self._was_complete = complete
            self._on_found(found, complete)

    def _send(self) -> None:
        transmits = self.endpoint.drain_transmits()
        udp = [transmit for transmit in transmits if transmit.path.protocol is TransportProtocol.UDP]
        self.sockets.send(udp)
        if len(udp) < len(transmits):
            for data, path in transmits:
                if path.protocol is TransportProtocol.TCP:
                    self.streams.send(data, path)
        if transmits:
            self._record(Direction.OUT, transmits)
        for each in self.sockets:
            if each.failed:
                failed = [Path(each.address, remote) for remote in each.failed]
                each.failed.clear()
                self._loop.call_soon(self._note_failed, failed)

    def _note_failed(self, paths: Sequence[Path]) -> None:
        """Nothing leaves on paths: the call may have another one."""
        relaying = self.endpoint.relaying
        acted = False
        for path in paths:
            ends: list[tuple[Address, Address | None]] = [(path.local, path.remote)]
            ends += [(relayed, None) for relayed in relaying.gatherer.relayed_through(path)]
            for local, remote in ends:
                acted = relaying.calling.note_failed(local, remote, self.now()) or acted
        if acted:
            self.pump()

    def _take_stream(self, batch: Sequence[tuple[bytes, Path]]) -> None:
        self._take(batch)
        self.pump()

    def _lose_stream(self, path: Path, why: str) -> None:
        self._note_failed([path])
        self.endpoint.relaying.gatherer.note_connection_lost(path, self.now(), why)
        self.pump()

    def close(self) -> None:
        """Give allocations back, and close sockets and connections."""
        self.endpoint.relaying.gatherer.close(self.now())
        self._send()
        super().close()
        self.streams.close()


class ClientCalls(MediaCalls):
    """The media side of one call of a client."""

    endpoint: CallEndpoint
    driver: ClientDriver

    @property
    def gathering(self) -> RelayingMachine[ConversationEvent]:
        """What gathers."""
        return self.driver.endpoint.relaying


@dataclass(frozen=True, slots=True)
class ClientSetup:
    """How a client's media side gathers; called with what `ThreadMedia` gives, it makes it, on the media loop."""

    policy: TransportPolicy
    on_found: Found
    insecure: bool = False

    def __call__(self, setup: MediaSetup, sockets: UdpSockets) -> ClientCalls:
        """Return the media side."""
        # the driver is made inside, with the loop's clock
        gatherer = Gatherer(sockets.addresses, os.urandom, self.policy)

        def make_driver(
            endpoint: CallEndpoint,
            sockets: UdpSockets,
            on_events: Callable[[Events], None],
            trace: PacketTrace | None,
        ) -> ClientDriver:
            mine = cast(ClientEndpoint, endpoint)
            return ClientDriver(mine, sockets, on_events, trace, on_found=self.on_found, insecure=self.insecure)

        clock: list[Callable[[], Instant]] = []
        endpoint = ClientEndpoint(gatherer, lambda: clock[0]())
        calls = ClientCalls(setup, sockets, endpoint, make_driver)
        clock.append(calls.driver.now)
        return calls


# -- what is asked -----------------------------------------------------------------------------------------


class AskServer(Value, frozen=True):
    """Gather from a server, whose address is known now."""

    located: LocatedServer

    def apply(self, media: MediaCalls) -> None:
        """Ask it."""
        calls = cast(ClientCalls, media)
        calls.gathering.add_server(self.located, calls.driver.now())
        calls.driver.pump()


class AllServersAsked(Value, frozen=True):
    """There will be no other server."""

    def apply(self, media: MediaCalls) -> None:
        """See `Gatherer.finish`."""
        calls = cast(ClientCalls, media)
        calls.gathering.finish(calls.driver.now())
        calls.driver.pump()


class ReportIce(Value, frozen=True):
    """Ask which pairs there are, and what gathering has found."""

    def apply(self, media: MediaCalls) -> IceReport:
        """Return the report."""
        calls = cast(ClientCalls, media)
        gatherer = calls.gathering.gatherer
        machine = calls.gathering.machine
        agent = machine.session.ice if isinstance(machine, Conversation) else None
        pairs = _pairs(agent, gatherer) if isinstance(agent, IceAgent) else ()
        return IceReport(tuple(pairs), tuple(gatherer.outcomes))


def _pairs(agent: IceAgent, gatherer: Gatherer) -> list[PairReport]:
    reports = []
    for pair in agent.pairs:
        relay = gatherer.server_of(pair.path.local)
        reports.append(
            PairReport(
                local=str(pair.path.local),
                local_type=(
                    agent.local_type(pair) if pair.state is PairState.SUCCEEDED else pair.local.type
                ).value,
                remote=str(pair.path.remote),
                remote_type=pair.remote.type.value,
                protocol=pair.path.protocol.value,
                state=pair.state.value,
                selected=pair is agent.selected_pair,
                relay=str(relay.server) if relay is not None else "",
                round_trip_time=pair.round_trip_time,
            )
        )
    return reports


__all__ = [
    "AllServersAsked",
    "AskServer",
    "ClientSetup",
    "Found",
    "IceReport",
    "IceServer",
    "PairReport",
    "ReportIce",
]
