"""A tap between the two ends of one call: every datagram passes it, is numbered and kept, and may meet a network.

    client  <->  (near socket)  tap  (far socket)  <->  server

The client finds the near socket as the only candidate of its answer, the server finds the far socket as the only
candidate of its offer. Neither socket is connected, so the tap sees where a datagram really comes from: what a
server sends from an address that is not the candidate is kept as such and goes no further, as behind a NAT that
filters by address and port (RFC 4787 §5), and as RFC 8445 §7.2.5.2.1 asks of the client.

Unlike `interop.impair`, which relays for many clients and keeps nothing, it knows both ends of a single call.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Self

from interop.evidence import Endpoint, Evidence, Fate, Packet, Side
from interop.network_model import Link, NetworkModel
from interop.redirect import candidate_address, is_port, rewrite_candidates

Drop = Callable[[Packet], bool]
"""Whether the network loses this datagram."""
BUFFER_SIZE = 1 << 20
TICK = 0.05
"""Seconds between two looks at whether this process gets on."""
STANDSTILL = 0.04
"""Seconds by which a look is late when it did not."""
WORTH_SAYING = 0.2
"""Seconds of a standstill that the report shows."""
READ_BATCH = 64


FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def machine_address(ip: int = 4) -> str:
    """The address from which this machine would reach others over this version of IP.

    Loopback where there is no route; over IPv6 an address of any interface before that.
    """
    targets = {4: ("192.0.2.1",), 6: ("2001:db8::1", *_other_ipv6_networks())}[ip]
    for target in targets:
        with socket.socket(FAMILIES[ip], socket.SOCK_DGRAM) as probe, suppress(OSError):
            probe.connect((target, 9))  # sends nothing: it asks the routing table
            host: str = probe.getsockname()[0]
            return host
    return {4: "127.0.0.1", 6: "::1"}[ip]


def _other_ipv6_networks() -> Iterator[str]:
    """A neighbour on each network of an interface with a global or unique local address (Linux tells)."""
    with suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text("ascii").splitlines():
            digits, _, _, scope, *_ = line.split()
            if scope == "00":
                yield str(IPv6Address(int(digits, 16) ^ 1))


def udp_candidate(description: str, ip: int = 4) -> Endpoint:
    """Return the first UDP candidate over this version of IP; raises `ValueError` if there is none."""
    candidate_address(description)
    for line in description.splitlines():
        fields = line.split()
        if line.startswith("a=candidate:") and len(fields) >= 8 and fields[2].lower() == "udp":
            with suppress(ValueError):
                address = ip_address(fields[4])
                if address.version == ip and is_port(fields[5]):
                    return str(address), int(fields[5])
    raise ValueError(f"the description has no candidate over IPv{ip}, and the tap has no other")


class Tap:
    """The tap of one call; an async context manager. `host` is the address on which both ends find it."""

    def __init__(self, evidence: Evidence, host: str, network: NetworkModel | None = None, seed: int = 1) -> None:
        self.evidence = evidence
        self.drop: Drop | None = None
        """Set, it is asked about each datagram."""
        self._host = host
        self.ip = 6 if ":" in host else 4
        self._seed = seed
        self._client: Endpoint | None = None
        self._server: Endpoint | None = None
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._near = self._socket()
        self._far = self._socket()
        self._is_cut = False
        self._ticking: asyncio.TimerHandle | None = None
        self.change(network or NetworkModel())

    def _socket(self) -> socket.socket:
        made = socket.socket(FAMILIES[self.ip], socket.SOCK_DGRAM)
        made.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            made.setsockopt(socket.SOL_SOCKET, option, BUFFER_SIZE)
        made.bind((self._host, 0))
        return made

    async def __aenter__(self) -> Self:
        self._loop.add_reader(self._near, self._read, self._near, "client")
        self._loop.add_reader(self._far, self._read, self._far, "server")
        self._tick(self._loop.time())
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in (self._near, self._far):
            self._loop.remove_reader(each)
            each.close()
        self._is_cut = True
        if self._ticking is not None:
            self._ticking.cancel()
        longest = self.evidence.longest_standstill
        if longest > WORTH_SAYING:
            times = len(self.evidence.standstills)
            self.evidence.facts["the harness itself stood still"] = f"{times} times, for {longest:.2f} s at most"

    def _tick(self, former: float) -> None:
        """Note it when the process stood still since the former tick."""
        now = self._loop.time()
        if now - former > TICK + STANDSTILL:
            self.evidence.standstills.append((former - self._began, now - self._began))
        self._ticking = self._loop.call_later(TICK, self._tick, now)

    def begin(self) -> None:
        """Count the time from now on: both ends stand ready."""
        self._began = self._loop.time()
        self.evidence.standstills.clear()

    def now(self) -> float:
        """Seconds since the call began."""
        return self._loop.time() - self._began

    def step(self, name: str) -> None:
        """Note that something happened now, for the first time."""
        self.evidence.steps.setdefault(name, self.now())

    def rewrite_offer(self, offer: str) -> str:
        """Return the offer whose only candidate is the tap's."""
        try:
            candidate_address(offer)
        except ValueError:
            return offer  # without candidates: the server learns the address from the first check
        with suppress(ValueError):  # a name of mDNS, say: its first check tells the address
            self._client = udp_candidate(offer, self.ip)
        return rewrite_candidates(offer, self._far.getsockname()[:2])

    def rewrite_answer(self, answer: str) -> str:
        """Return the answer whose only candidate is the tap's; `ValueError` if the tap can reach none."""
        self._server = udp_candidate(answer, self.ip)
        return rewrite_candidates(answer, self._near.getsockname()[:2])

    def hide_itself(self, said: str) -> str:
        """What an end says, without the tap's addresses: they mean nothing to its reader."""
        for own in (self._near, self._far):
            host, port = own.getsockname()[:2]
            for written in (f"{host}:{port}", f"[{host}]:{port}", f"{host} {port}", f"('{host}', {port})"):
                said = said.replace(written, "the harness")
        return said

    def change(self, network: NetworkModel) -> None:
        """Make the network another one from now on."""
        self._links = {side: Link(network, f"{self._seed}/{side}") for side in ("client", "server")}

    def cut(self, is_cut: bool) -> None:
        """Let nothing through; or everything again."""
        self._is_cut = is_cut

    def rebind(self) -> None:
        """Give the client another address towards the server, as a NAT does that forgot its mapping."""
        self._loop.remove_reader(self._far)
        self._far.close()
        self._far = self._socket()
        self._loop.add_reader(self._far, self._read, self._far, "server")
        self.evidence.rebound_at = self.now()

    def forge(self, data: bytes, receiver: Side) -> None:
        """Send a datagram to a side from the tap's own address, as an attacker does who can spoof the far end."""
        sender: Side = "client" if receiver == "server" else "server"
        packet = self._keep(sender, self._near.getsockname()[:2], data, Fate.FORGED)
        self._deliver(packet)

    def _read(self, reading: socket.socket, side: Side) -> None:
        for _ in range(READ_BATCH):
            try:
                data, source = reading.recvfrom(65_536)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error for something sent earlier
                continue
            if side == "client":
                self._client = source[:2]
            foreign = side == "server" and source[:2] != self._server
            packet = self._keep(side, source[:2], data, Fate.FOREIGN if foreign else Fate.PASSED)
            if not foreign:
                self._pass_on(packet)

    def _keep(self, side: Side, source: Endpoint, data: bytes, fate: Fate) -> Packet:
        receiver = (self._server if side == "client" else self._client) or ("0.0.0.0", 0)
        packet = Packet(len(self.evidence.packets) + 1, self.now(), side, source, receiver, data, fate)
        self.evidence.packets.append(packet)
        return packet

    def _pass_on(self, packet: Packet) -> None:
        now = self._loop.time()
        lost = self._is_cut or (self.drop is not None and self.drop(packet))
        arrivals = () if lost else self._links[packet.side].transit(len(packet.data), now)
        if not arrivals:
            self.evidence.packets[packet.number - 1] = replace(packet, fate=Fate.LOST)
        for at in arrivals:
            if at <= now:
                self._deliver(packet)
            else:
                self._loop.call_at(at, partial(self._deliver, packet))

    def _deliver(self, packet: Packet) -> None:
        sending, target = (self._far, self._server) if packet.side == "client" else (self._near, self._client)
        if target is not None and sending.fileno() >= 0:
            try:
                sending.sendto(packet.data, target)
            except OSError:
                self.evidence.notes.append(f"{self.now():.3f} s: the far side of #{packet.number} is closed")
