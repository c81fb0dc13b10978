"""A machine with relayed addresses: the wrapper that gives any machine the candidates of a `Gatherer`.

It lies between the sockets and the machine. What TURN servers relay comes out as datagrams whose path begins at
the relayed address, and what the machine sends from such an address is wrapped for the server; all else passes
through. So neither the agent's pairs, nor DTLS, nor `Session` learn that there is a relay.

    sockets ─ RelayingMachine ─ machine (a conversation, a session, an agent)
                 └ Gatherer ─ TurnClient, one for each base and server

Candidates are handed to the machine as they are found, and to the owner (`drain_candidates`), who signals them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from stack.core.machine import Instant, Machine, Path, TerminalEvents, Transmit
from stack.core.timers import earliest
from stack.ice.candidate import Candidate
from stack.ice.gathering import Gatherer
from stack.ice.servers import LocatedServer

EventT_co = TypeVar("EventT_co", covariant=True)
EventT = TypeVar("EventT")


class TakesCandidates(Machine[EventT_co], Protocol[EventT_co]):
    """A machine with an ICE agent in it, or an agent itself."""

    def add_local_candidate(self, candidate: Candidate, now: Instant) -> None:
        """Take one more candidate of ours."""
        ...


class RelayingMachine(Generic[EventT]):
    """A `Machine[EventT]` around another one."""

    def __init__(self, machine: TakesCandidates[EventT], gatherer: Gatherer) -> None:
        self.machine = machine
        self.gatherer = gatherer
        self._found: list[Candidate] = []
        self._fresh: list[Candidate] = []

    @property
    def terminal_events(self) -> TerminalEvents:
        """Those of the machine inside."""
        return self.machine.terminal_events

    @property
    def candidates(self) -> Sequence[Candidate]:
        """Every candidate found so far."""
        return tuple(self._found)

    def replace(self, machine: TakesCandidates[EventT], now: Instant) -> None:
        """Put another machine inside; it is given what was found so far."""
        self.machine = machine
        for candidate in self._found:
            machine.add_local_candidate(candidate, now)

    def add_server(self, located: LocatedServer, now: Instant) -> None:
        """See `Gatherer.add_server`."""
        self.gatherer.add_server(located, now)

    def finish(self, now: Instant) -> None:
        """See `Gatherer.finish`."""
        self.gatherer.finish(now)

    def drain_candidates(self) -> Sequence[Candidate]:
        """Return what was found since the last call, to be signalled to the peer."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Take datagrams that arrived together."""
        self.machine.handle_datagrams(self._unwrapped(batch, now), now)
        self._pass_candidates(now)

    def _unwrapped(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> Iterator[tuple[bytes, Path]]:
        for data, path in batch:
            yield from self.gatherer.unwrap(data, path, now)

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        self.gatherer.handle_timeout(now)
        self._pass_candidates(now)
        self.machine.handle_timeout(now)

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called."""
        return earliest(self.machine.poll_timeout(), self.gatherer.poll_timeout())

    def drain_transmits(self) -> Sequence[Transmit]:
        """Return every datagram to be sent, wrapped where it is relayed."""
        wrapped = [self.gatherer.wrap(transmit) for transmit in self.machine.drain_transmits()]
        return [*self.gatherer.drain_transmits(), *(transmit for transmit in wrapped if transmit is not None)]

    def drain_events(self) -> Sequence[EventT]:
        """Return what the machine reports."""
        return self.machine.drain_events()

    def _pass_candidates(self, now: Instant) -> None:
        for candidate in self.gatherer.drain_candidates():
            self._found.append(candidate)
            self._fresh.append(candidate)
            self.machine.add_local_candidate(candidate, now)
