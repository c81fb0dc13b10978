"""A server's way to its STUN and TURN servers: what `stack.server.gathering` needs in sockets and connections.

STUN servers are asked from the port of the media itself. For an allocation over UDP there is a socket of its own,
bound to the address from which this machine reaches the server: several workers share the port, and a TURN server
tells its clients apart by the 5-tuple. Over TCP and TLS there is a connection (`tcp_client.py`), made again when
the gatherer asks again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence

from stack.aio.driver import Driver
from stack.aio.tcp_client import ClientConnections
from stack.aio.udp import UdpSocket
from stack.core.counters import Counters
from stack.core.errors import LocalError
from stack.core.machine import Address, Entropy, Path, Transmit, TransportProtocol
from stack.core.ufrag import WORKER_DIGITS
from stack.ice import Candidate
from stack.ice.allocation import RETRY_AFTER
from stack.ice.candidate import ACTIVE_PORT
from stack.ice.gathering import GatheringOutcome
from stack.ice.servers import LocatedServer
from stack.server import Gathered, GatheringEndpoint
from stack.voice.events import ConversationEvent

log = logging.getLogger("stack.calls")


def steered_entropy(worker: int) -> Entropy:
    """Return a source of bytes whose transactions begin with a worker's digit, as all of ours do."""
    digit = WORKER_DIGITS[worker].encode()

    def entropy(size: int) -> bytes:
        return digit + os.urandom(size - 1)

    return entropy


class OutsideSockets:
    """The sockets and connections to STUN and TURN servers of one media loop; all belongs to that loop."""

    def __init__(
        self,
        driver: Driver[ConversationEvent],
        endpoint: GatheringEndpoint[ConversationEvent],
        on_gathered: Callable[[Gathered], None],
        on_candidates: Callable[[Sequence[Candidate]], None],
    ) -> None:
        """Tell `on_gathered` what holds now whenever it is another, and `on_candidates` what calls can use."""
        self._driver = driver
        self._endpoint = endpoint
        self._on_gathered = on_gathered
        self._on_candidates = on_candidates
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[Address, UdpSocket] = {}
        self._retries: dict[LocatedServer, asyncio.TimerHandle] = {}
        self._told: Gathered | None = None
        self._seen: Sequence[GatheringOutcome] = ()
        self._outcomes: dict[tuple[LocatedServer, Address], str] = {}
        self._streams = ClientConnections(driver.take_together, self._lose, endpoint.gatherer.server_at)

    def add_server(self, located: LocatedServer) -> None:
        """Ask a server; one to which there is no way is asked again in a while."""
        server, address = located.server, located.address
        bases: list[Address] = []
        if server.turn:
            try:
                host = _local_host(address)
                if server.protocol is TransportProtocol.UDP:
                    bases.append(self._open(host))
                else:
                    bases.append(Address(host, ACTIVE_PORT))
            except (OSError, LocalError) as error:
                log.warning("%s is not asked yet: there is no way to %s (%s)", server, address, error)
                self._retries[located] = self._loop.call_later(RETRY_AFTER, self._retry, located)
                return
        self._endpoint.add_server(located, self._driver.now(), bases)
        self._driver.pump()

    def finish(self) -> None:
        """Every server has been named."""
        self._endpoint.finish(self._driver.now())
        self._driver.pump()

    def send(self, transmits: Sequence[Transmit]) -> Sequence[Transmit]:
        """Send what goes to TURN servers, and return the rest."""
        rest: list[Transmit] = []
        for transmit in transmits:
            data, path = transmit
            udp = self._sockets.get(path.local)
            if udp is not None:
                udp.send(data, path.remote)
            elif path.protocol is TransportProtocol.TCP and path.local.port == ACTIVE_PORT:
                self._streams.send(data, path)
            else:
                rest.append(transmit)
        return rest

    def tell(self) -> None:
        """Say what is new."""
        fresh = self._endpoint.drain_candidates()
        if fresh:
            self._on_candidates(fresh)
        outcomes = self._endpoint.gatherer.outcomes
        if outcomes is not self._seen:  # each is a list of its own
            self._seen = outcomes
            self._log(outcomes)
        gathered = self._endpoint.gathered
        if gathered is not self._told and gathered != self._told:
            self._told = gathered
            self._on_gathered(gathered)

    def _log(self, outcomes: Sequence[GatheringOutcome]) -> None:
        for outcome in outcomes:
            place = outcome.server, outcome.base
            if self._outcomes.get(place) != outcome.text:
                self._outcomes[place] = outcome.text
                log.info("%s, asked from %s: %s", outcome.server.server, outcome.base, outcome.text)

    def all_counters(self) -> Counters:
        """Return what was counted here and by the gatherer."""
        total = self._endpoint.gatherer.all_counters()
        total.merge(self._streams.counters)
        for udp in self._sockets.values():
            total.merge(udp.counters)
        return total

    def close(self) -> None:
        """Give allocations back, and close everything."""
        for handle in self._retries.values():
            handle.cancel()
        self._endpoint.close(self._driver.now())
        self.send(self._endpoint.drain_transmits())
        for udp in self._sockets.values():
            self._loop.remove_reader(udp.fileno())
            udp.close()
        self._streams.close()

    def _open(self, host: str) -> Address:
        udp = UdpSocket(host, 0)
        self._sockets[udp.address] = udp
        self._loop.add_reader(udp.fileno(), lambda: self._driver.take_together(udp.receive()))
        return udp.address

    def _retry(self, located: LocatedServer) -> None:
        del self._retries[located]
        self.add_server(located)

    def _lose(self, path: Path, why: str) -> None:
        self._endpoint.note_connection_lost(path, self._driver.now(), why)
        self._driver.pump()


def _local_host(remote: Address) -> str:
    """Return the address of ours from which the kernel sends there; raises `OSError` if there is no way."""
    family = socket.AF_INET6 if remote.is_ipv6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(remote)
        return str(probe.getsockname()[0]).partition("%")[0]
