"""Two endpoints and the network between them: loss, duplicates and reordering from a seed, in virtual time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

from stack.dtls import Certificate, DtlsConfig, DtlsEndpoint, DtlsEvent, DtlsRole
from tests.sim.arrivals import Arrivals, Ending

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def entropy(seed: int) -> Callable[[int], bytes]:
    return Random(seed).randbytes


CLIENT_CERTIFICATE = Certificate.generate(entropy(1), EPOCH)
SERVER_CERTIFICATE = Certificate.generate(entropy(2), EPOCH)


def config(role: DtlsRole, **changes: Any) -> DtlsConfig:
    """A configuration in which each side knows the other's fingerprint."""
    own, peer = CLIENT_CERTIFICATE, SERVER_CERTIFICATE
    if role is DtlsRole.SERVER:
        own, peer = peer, own
    settings: dict[str, Any] = {"certificate": own, "peer_fingerprints": (peer.fingerprint(),)} | changes
    return DtlsConfig(**settings)


class Pair:
    """A client, a server and a link whose faults are drawn from `seed`."""

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
        filter: Callable[[DtlsRole, bytes, int], bytes | None] | None = None,
    ) -> None:
        self.client = DtlsEndpoint(DtlsRole.CLIENT, config(DtlsRole.CLIENT, **(client or {})), entropy(seed + 100))
        self.server = DtlsEndpoint(DtlsRole.SERVER, config(DtlsRole.SERVER, **(server or {})), entropy(seed + 200))
        self.now = 0.0
        self.events: dict[DtlsRole, list[DtlsEvent]] = {DtlsRole.CLIENT: [], DtlsRole.SERVER: []}
        self.sent: dict[DtlsRole, list[bytes]] = {DtlsRole.CLIENT: [], DtlsRole.SERVER: []}
        self._random = Random(seed)
        self._arrivals = Arrivals(seed)
        self._endings = {
            DtlsRole.CLIENT: Ending("client", self.client),
            DtlsRole.SERVER: Ending("server", self.server),
        }
        self._loss, self._duplicate, self._jitter, self._delay = loss, duplicate, jitter, delay
        self._filter = filter
        self._wire: list[tuple[float, int, DtlsRole, bytes]] = []
        self._count = 0

    def endpoint(self, role: DtlsRole) -> DtlsEndpoint:
        return self.client if role is DtlsRole.CLIENT else self.server

    def pump(self) -> None:
        for role in DtlsRole:
            endpoint = self.endpoint(role)
            events = endpoint.drain_events()
            for event in events:
                self._endings[role].check(event)
            self.events[role] += events
            for data in endpoint.drain_transmits():
                self.sent[role].append(data)
                passed = self._filter(role, data, len(self.sent[role])) if self._filter else data
                if passed is None or self._random.random() < self._loss:
                    continue
                for _ in range(2 if self._random.random() < self._duplicate else 1):
                    self._count += 1
                    at = self.now + self._delay + self._random.random() * self._jitter
                    peer = DtlsRole.SERVER if role is DtlsRole.CLIENT else DtlsRole.CLIENT
                    heapq.heappush(self._wire, (self._arrivals.reading(peer, at), self._count, peer, passed))

    def run(self, until: float = 300.0) -> None:
        """Let everything happen that happens before `until`; ends when nothing is left to happen."""
        self.pump()
        while True:
            deadlines = [at for at in (self.client.poll_timeout(), self.server.poll_timeout()) if at is not None]
            next_arrival = self._wire[0][0] if self._wire else None
            at = min([*deadlines, *([next_arrival] if next_arrival is not None else [])], default=None)
            if at is None or at > until:
                self.now = until if at is not None else self.now
                return
            self.now = max(self.now, at)
            if next_arrival is not None and next_arrival <= at:
                arrived = self._arrivals.pop(self._wire, lambda entry: entry[2])
                self.endpoint(arrived[0][2]).handle_datagrams([entry[3] for entry in arrived], self.now)
            else:
                self.client.handle_timeout(self.now)
                self.server.handle_timeout(self.now)
            self.pump()

    def mend(self) -> None:
        """From now on the link is good."""
        self._loss, self._filter = 0.0, None

    def handshake(self, until: float = 300.0) -> None:
        self.server.start(self.now)
        self.client.start(self.now)
        self.run(until)
