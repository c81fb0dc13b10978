"""Two DTLS endpoints that know each other's fingerprints, and the network between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stack.core.machine import Path
from stack.dtls import DtlsEndpoint, DtlsEvent, DtlsRole
from tests.sim.certificates import config
from tests.sim.entropy import entropy
from tests.sim.network import Host
from tests.sim.pair import LEFT, RIGHT, TunnelMachine, TunnelPair, unordered

Filter = Callable[[DtlsRole, bytes, int], bytes | None]
"""Is shown a datagram, who sends it and its number from 1; returns what travels on, None if nothing does."""


class DtlsPair(TunnelPair[DtlsEndpoint]):
    """A client (`left`), a server (`right`) and a network whose faults are drawn from `seed`."""

    def __init__(
        self,
        client: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        *,
        seed: int = 0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        jitter: float = 0.0,
        delay: float = 0.02,
        filter: Filter | None = None,
    ) -> None:
        self.client = DtlsEndpoint(DtlsRole.CLIENT, config(DtlsRole.CLIENT, **(client or {})), entropy(seed + 100))
        self.server = DtlsEndpoint(DtlsRole.SERVER, config(DtlsRole.SERVER, **(server or {})), entropy(seed + 200))
        super().__init__(self.client, self.server, unordered(delay, jitter, loss, duplicate), seed=seed)
        self.filter = filter
        self.network.filter = self._pass

    def endpoint(self, role: DtlsRole) -> DtlsEndpoint:
        return self.client if role is DtlsRole.CLIENT else self.server

    def host(self, role: DtlsRole) -> Host[TunnelMachine[DtlsEndpoint]]:
        return self.left if role is DtlsRole.CLIENT else self.right

    @property
    def events(self) -> dict[DtlsRole, list[DtlsEvent]]:
        return {role: self.host(role).events for role in DtlsRole}

    @property
    def sent(self) -> dict[DtlsRole, list[bytes]]:
        return {role: [sent.data for sent in self.host(role).sent] for role in DtlsRole}

    def start(self) -> None:
        self.server.start(self.now)
        self.client.start(self.now)

    def run(self, seconds: float = 300.0, until: Callable[[], bool] | None = None) -> bool:
        return super().run(seconds, until)

    def handshake(self, seconds: float = 300.0) -> None:
        self.start()
        self.run(seconds)

    def inject(self, victim: DtlsRole, data: bytes) -> None:
        """Have a datagram that the other side never sent arrive next."""
        path = Path(LEFT, RIGHT) if victim is DtlsRole.CLIENT else Path(RIGHT, LEFT)
        self.network.after(0.0, lambda: self.host(victim).take(data, path))

    def mend(self) -> None:
        """From now on the network is good."""
        self.filter = None
        self.network.link(self.left, self.right, unordered(0.02))

    def _pass(self, sender: Host[Any], data: bytes, path: Path) -> bytes | None:
        if self.filter is None:
            return data
        return self.filter(DtlsRole.CLIENT if sender is self.left else DtlsRole.SERVER, data, len(sender.sent))
