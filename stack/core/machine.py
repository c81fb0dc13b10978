"""The contract of every machine: datagrams, commands and time go in; datagrams and events come out.

No machine does I/O, reads a clock or draws a random number. The caller pumps after every input and every
command: drain the transmits, drain the events, ask for the next timeout. Docs: `docs/architecture.md`.

Datagrams come in batches, as the edge reads them: those that arrived together. What a machine does may depend on
which came together (it may answer them with one packet), what it hands up may not:

- What arrived before the end is handed up before the end, in the same batch too; after a terminal event, one of
  `terminal_events`, comes nothing more.
- A machine takes the datagrams of a batch one after the other from the iterable that it was given. So a
  feeder that survives an exception (a bug on our side) hands over what is left, and one datagram has cost itself.

There are two kinds. A `Machine` lives next to the network and knows the paths that datagrams take (ICE, the
session, the endpoint). A `Tunnel` lives above a path that ICE chose (DTLS, SCTP): it sees bytes only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, TypeVar

Instant: TypeAlias = float
"""A point on a monotonic clock of the caller's choice, in seconds. Only differences mean anything."""

EventT_co = TypeVar("EventT_co", covariant=True)


TerminalEvents: TypeAlias = tuple[type[Any], ...]
"""Types of event that are the last of a machine."""


class TransportProtocol(Enum):
    """What carries a datagram."""

    UDP = "udp"
    TCP = "tcp"

    __hash__ = object.__hash__  # every look-up by path hashes a member: `Enum` would run Python code for it


class Address(NamedTuple):
    """An IP address in its canonical text form (IPv6 without brackets or scope) and a port."""

    host: str
    port: int

    @property
    def is_ipv6(self) -> bool:
        """True for an IPv6 address."""
        return ":" in self.host

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"


class Path(NamedTuple):
    """Where a datagram came from or goes to: the exact local address matters as much as the remote one."""

    local: Address
    remote: Address
    protocol: TransportProtocol = TransportProtocol.UDP

    def __str__(self) -> str:
        return f"{self.local}<->{self.remote}/{self.protocol.value}"


class Transmit(NamedTuple):
    """A datagram to be sent, and the path that it takes."""

    data: bytes
    path: Path


class Clocked(Protocol[EventT_co]):
    """What machines and tunnels have in common: time and events."""

    terminal_events: ClassVar[TerminalEvents]
    """The types of event after which the machine reports nothing more, unless a command begins anew."""

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due at `now`. Being called early, late or twice is harmless."""
        ...

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called next; None: never. O(1), no side effect."""
        ...

    def drain_events(self) -> Sequence[EventT_co]:
        """Everything that happened since the last call, in order."""
        ...


class Machine(Clocked[EventT_co], Protocol[EventT_co]):
    """A protocol with time that knows network paths."""

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Take datagrams that arrived together, in order. Never raises for anything that a peer can send."""
        ...

    def drain_transmits(self) -> Sequence[Transmit]:
        """Every datagram to be sent since the last call, in order."""
        ...


class Tunnel(Clocked[EventT_co], Protocol[EventT_co]):
    """A protocol with time that runs inside another one and sees bytes only."""

    def handle_datagrams(self, batch: Iterable[bytes], now: Instant) -> None:
        """Take datagrams that arrived together, in order. Never raises for anything that a peer can send."""
        ...

    def drain_transmits(self) -> Sequence[bytes]:
        """Every datagram to be sent since the last call, in order."""
        ...


class Entropy(Protocol):
    """A source of random bytes: `os.urandom` at the edge, a seeded generator in tests."""

    def __call__(self, size: int, /) -> bytes:
        """Return `size` random bytes."""
        ...
