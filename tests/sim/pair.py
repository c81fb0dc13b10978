"""Two ends and the network between them: the shape of most protocol tests.

A `Tunnel` knows no addresses, so it is put into a machine that has one path. `MachinePair` is for protocols that
know theirs. The pairs of single protocols are built on these: `tests.sim.dtls`, `sctp`, `rtp`, `calls`; agents of
ICE have any number of addresses and share a network (`tests.sim.ice`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from interop.network_model import Jitter, NetworkModel, RateLimit
from stack.core.machine import Address, Instant, Machine, Path, Transmit, Tunnel
from tests.sim.network import Host, MachineT, Network

TunnelT = TypeVar("TunnelT", bound=Tunnel[Any])
OtherT = TypeVar("OtherT", bound=Machine[Any])

LEFT = Address("192.0.2.1", 1000)
RIGHT = Address("192.0.2.2", 2000)

ENDLESS_QUEUE = 1 << 30
"""Bytes before a bottleneck that never drops anything."""


def unordered(
    delay: float = 0.01,
    jitter: float = 0.0,
    loss: float = 0.0,
    duplicate: float = 0.0,
    bytes_per_second: float | None = None,
) -> NetworkModel:
    """Return a network on which each datagram has a delay of its own, between `delay` and `delay + jitter`."""
    return NetworkModel(
        loss=loss,
        delay=delay,
        jitter=Jitter(jitter) if jitter else None,
        jitter_reorders=True,
        duplicate=duplicate,
        rate=RateLimit(8 * bytes_per_second, ENDLESS_QUEUE) if bytes_per_second else None,
    )


class TunnelMachine(Generic[TunnelT]):
    """A tunnel as a machine whose datagrams all take one path."""

    def __init__(self, tunnel: TunnelT, path: Path) -> None:
        self.tunnel = tunnel
        self.terminal_events = tunnel.terminal_events
        self._path = path

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Hand datagrams on, wherever they came from."""
        self.tunnel.handle_datagrams((data for data, _ in batch), now)

    def handle_timeout(self, now: Instant) -> None:
        """Hand the time on."""
        self.tunnel.handle_timeout(now)

    def poll_timeout(self) -> Instant | None:
        """Return when the tunnel wants to be woken."""
        return self.tunnel.poll_timeout()

    def drain_transmits(self) -> Sequence[Transmit]:
        """Return what the tunnel wants to send, along the path."""
        return [Transmit(data, self._path) for data in self.tunnel.drain_transmits()]

    def drain_events(self) -> Sequence[Any]:
        """Return what the tunnel reports."""
        return self.tunnel.drain_events()


class MachinePair(Generic[MachineT, OtherT]):
    """Two machines, `left` and `right`, on a network of their own."""

    def __init__(
        self,
        left: MachineT,
        right: OtherT,
        model: NetworkModel | None = None,
        back: NetworkModel | None = None,
        *,
        seed: int | str = 0,
        lateness: float = 0.0,
        keep_sent: bool = True,
    ) -> None:
        self.network = Network(seed, lateness=lateness, keep_sent=keep_sent)
        self.left: Host[MachineT] = self.network.attach("left", left, LEFT)
        self.right: Host[OtherT] = self.network.attach("right", right, RIGHT)
        if model is not None:
            self.network.link(self.left, self.right, model, back)

    @property
    def now(self) -> Instant:
        """The present instant."""
        return self.network.now

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; see `Network.run`."""
        return self.network.run(seconds, until)

    def pump(self) -> None:
        """Take what the machines have to say after a command that a test gave them directly."""
        self.left.pump()
        self.right.pump()


class TunnelPair(MachinePair[TunnelMachine[TunnelT], TunnelMachine[TunnelT]]):
    """Two tunnels, `left` and `right`, on a network of their own: commands go to the tunnels themselves."""

    def __init__(
        self,
        left: TunnelT,
        right: TunnelT,
        model: NetworkModel | None = None,
        back: NetworkModel | None = None,
        *,
        seed: int | str = 0,
        lateness: float = 0.0,
    ) -> None:
        machines = TunnelMachine(left, Path(LEFT, RIGHT)), TunnelMachine(right, Path(RIGHT, LEFT))
        super().__init__(*machines, model, back, seed=seed, lateness=lateness)

    def command(self, host: Host[TunnelMachine[TunnelT]], action: Callable[[TunnelT, Instant], None]) -> None:
        """Let `action` command the tunnel of a host at the present instant, then pump it."""
        host.command(lambda machine, now: action(machine.tunnel, now))
