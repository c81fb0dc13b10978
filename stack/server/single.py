"""One machine with a socket of its own, behind the same surface as the endpoint: what a client needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Generic, TypeVar

from stack.core.counters import Counters
from stack.core.faults import Fault, Faults
from stack.core.machine import Instant, Path, TerminalEvents, Transmit
from stack.server.endpoint import FAULT_HANDLE_TIMEOUT, FAULT_PAUSE, HostedMachine, feed
from stack.server.routes import PathChange

EventT = TypeVar("EventT")


class SingleEndpoint(Generic[EventT]):
    """Every datagram and every deadline belongs to the one machine; `name` stands in its events."""

    terminal_events: ClassVar[TerminalEvents] = ()

    def __init__(self, name: str, machine: HostedMachine[EventT]) -> None:
        self.name = name
        self.machine = machine
        self.counters = Counters()
        self._faults = Faults(self.counters)
        self._not_before: Instant | None = None  # after a wake-up that has raised

    def __len__(self) -> int:
        return 0 if self.machine.is_finished else 1

    def touch(self, name: str) -> None:
        """Nothing to remember: `pump` always looks at the one machine."""

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Hand over a batch of datagrams that arrived together."""
        feed(self.machine, list(batch), now, self._faults)

    def handle_timeout(self, now: Instant) -> None:
        """Wake the machine."""
        self._not_before = None
        try:
            self.machine.handle_timeout(now)
        except Exception as error:
            self._faults.note(FAULT_HANDLE_TIMEOUT, error, now)
            self._not_before = now + FAULT_PAUSE

    def poll_timeout(self) -> Instant | None:
        """Return when the machine wants to be woken; never once it is over."""
        deadline = None if self.machine.is_finished else self.machine.poll_timeout()
        if deadline is None or self._not_before is None:
            return deadline
        return max(deadline, self._not_before)

    def pump(self) -> None:
        """Nothing to collect: the drains ask the machine itself."""

    def drain_transmits(self) -> Sequence[Transmit]:
        """Return every datagram to be sent since the last call."""
        self.machine.drain_routes()
        return self.machine.drain_transmits()

    def drain_events(self) -> Sequence[tuple[str, EventT]]:
        """Return what happened since the last call, each event with the machine's name."""
        return [(self.name, event) for event in self.machine.drain_events()]

    def drain_path_changes(self) -> Sequence[PathChange]:
        """Nothing: every path is the one machine's."""
        return ()

    def drain_faults(self) -> Sequence[Fault]:
        """Return the exceptions that are to be logged."""
        return self._faults.drain()
