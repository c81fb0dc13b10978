"""An endpoint behind NATs: it gathers for all its calls, as RFC 8445 §5.1.1 has it.

A server's port and its allocations last longer than any call, so one standing `Gatherer` keeps them for all: NATs'
mappings open, allocations refreshed, servers that were dead asked again. What holds now is `gathered`, which the
next answer says; nothing waits for it. What TURN servers relay becomes a datagram whose path begins at the relayed
address, as in `stack.ice.relaying`, so the sessions do not know the difference.

Allocations need sockets of their own (`add_server`), as processes may share the port: a TURN server tells its
clients apart by the 5-tuple. What it sends arrives there and is no affair of the port's steering.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from stack.core.counters import Counters
from stack.core.machine import Address, Entropy, Instant, Path, Transmit, TransportProtocol
from stack.core.timers import earliest
from stack.core.values import Value
from stack.ice.candidate import Candidate, CandidateType
from stack.ice.gathering import Gatherer, TransportPolicy
from stack.ice.servers import LocatedServer
from stack.server.endpoint import Endpoint
from stack.server.routes import PathChange

EventT = TypeVar("EventT")

_RESPONSE = b"\x01"  # success or error (RFC 8489 §5), of a method below 128


class Gathered(Value, frozen=True):
    """What a server has gathered for its calls, as far as it holds now."""

    candidates: tuple[str, ...] = ()
    """As they stand in SDP."""
    is_complete: bool = True
    """False while a server that is asked for the first time has neither answered nor failed."""


class GatheringEndpoint(Endpoint[EventT]):
    """An `Endpoint` with a standing `Gatherer` below its sessions."""

    def __init__(
        self,
        bases: Sequence[Address],
        entropy: Entropy,
        max_sessions: int = 10_000,
        *,
        reports_paths: bool = False,
        keeps_strays: bool = False,
        policy: TransportPolicy = TransportPolicy.ALL,
    ) -> None:
        """`bases`: the addresses of the port; `entropy`'s twelve bytes are a transaction that is steered back."""
        super().__init__(max_sessions=max_sessions, reports_paths=reports_paths, keeps_strays=keeps_strays)
        self.gatherer = Gatherer(bases, entropy, policy, standing=True)
        self.gathered = Gathered(is_complete=False)
        self._bases = frozenset(bases)
        self._fresh: list[Candidate] = []

    def add_server(
        self, located: LocatedServer, now: Instant, relay_bases: Sequence[Address] | None = None
    ) -> None:
        """Ask a server; see `Gatherer.add_server`."""
        self.gatherer.add_server(located, now, relay_bases)
        self._note_gathered()

    def finish(self, now: Instant) -> None:
        """Say that every server has been named."""
        self.gatherer.finish(now)
        self._note_gathered()

    def note_connection_lost(self, path: Path, now: Instant, why: str) -> None:
        """The connection to a TURN server over TCP has failed."""
        self.gatherer.note_connection_lost(path, now, why)
        self._note_gathered()

    def close(self, now: Instant) -> None:
        """Give the allocations back; what is to be sent for that is drained as ever."""
        self.gatherer.close(now)

    def drain_candidates(self) -> Sequence[Candidate]:
        """Return the relayed candidates found since the last call: what calls that are up can use."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Take a batch: what is the gatherer's is taken out of it, and what was relayed unwrapped."""
        super().handle_datagrams(self._unwrapped(batch, now), now)

    def _unwrapped(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> Iterator[tuple[bytes, Path]]:
        for datagram in batch:
            data, path = datagram
            if path.local in self._bases and data[:1] != _RESPONSE:
                yield datagram
                continue
            found = self.gatherer.unwrap(data, path, now)
            if not found:
                self._note_gathered()
            yield from found

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due, of the gatherer and of the sessions."""
        self.gatherer.handle_timeout(now)
        self._note_gathered()
        super().handle_timeout(now)

    def poll_timeout(self) -> Instant | None:
        """Return the earliest deadline of both."""
        return earliest(super().poll_timeout(), self.gatherer.poll_timeout())

    def drain_transmits(self) -> Sequence[Transmit]:
        """Return every datagram to be sent, wrapped where it is relayed."""
        sent: list[Transmit] = []
        for transmit in super().drain_transmits():
            path = transmit.path
            if path.local in self._bases or path.protocol is TransportProtocol.TCP:
                sent.append(transmit)
            else:
                wrapped = self.gatherer.wrap(transmit)
                if wrapped is not None:
                    sent.append(wrapped)
        return [*self.gatherer.drain_transmits(), *sent]

    def drain_path_changes(self) -> Sequence[PathChange]:
        """Return which paths were bound and forgotten; of relayed ones the sockets learn nothing."""
        changes = super().drain_path_changes()
        return [
            change
            for change in changes
            if change.path.local in self._bases or change.path.protocol is TransportProtocol.TCP
        ]

    def all_counters(self) -> Counters:
        """Return what the endpoint and the gatherer have counted."""
        total = self.gatherer.all_counters()
        total.merge(self.counters)
        return total

    def _note_gathered(self) -> None:
        fresh = [each for each in self.gatherer.drain_candidates() if each.type is CandidateType.RELAYED]
        self._fresh += fresh
        gathered = Gathered(
            tuple(candidate.serialize() for candidate in self.gatherer.standing), self.gatherer.is_complete
        )
        if self.gathered.is_complete and not gathered.is_complete:
            gathered = Gathered(gathered.candidates)  # a server is asked again, or anew: complete it was once
        self.gathered = gathered
