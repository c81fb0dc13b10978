"""The Internet as agents of ICE meet it: realms of addresses, with NATs and firewalls between them, in virtual
time.

A `Realm` is a network in which every address reaches every other: a home, a company, the public Internet. A
`Middlebox` joins an inner realm to an outer one, and translates (RFC 4787's terms): *mapping* says when a NAT uses
one outside port for several destinations, *filtering* who may answer to it, apart from each other; *hairpinning*
whether an inner host reaches another by its outside address. Several stand one behind the other (carrier-grade
NAT). A `Nat64` translates IPv6 to IPv4 (RFC 6146). What is permitted outwards is a predicate of the box: a
firewall.

    net = Internet()
    home = net.realm("home", behind=Nat(Kind.ENDPOINT, Kind.ADDRESS, outside="203.0.113.7"))

TCP is datagrams here that a box lets in from where they were sent to alone, as it would a connection. The port 9
of a path that begins at an active candidate stands for a port of the connection, which others see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeAlias

from interop.network_model import NetworkModel
from stack.core.machine import Address, Path, TransportProtocol
from stack.ice.candidate import ACTIVE_PORT
from tests.sim.network import Host, MachineT, Network

UDP, TCP = TransportProtocol.UDP, TransportProtocol.TCP

Permit: TypeAlias = Callable[[TransportProtocol, Address], bool]
"""Says whether something may be sent to an address outside."""

MAX_HOPS = 16
NAT64_PREFIX = "64:ff9b::"
"""The well-known one (RFC 6052 §2.1)."""


class Kind(Enum):
    """What a mapping, or a filter, depends on (RFC 4787 §4.1, §5)."""

    ENDPOINT = "endpoint-independent"
    ADDRESS = "address-dependent"
    PORT = "address-and-port-dependent"

    def key(self, remote: Address) -> Address | str | None:
        """Return the part of a remote address that counts."""
        return {Kind.ENDPOINT: None, Kind.ADDRESS: remote.host, Kind.PORT: remote}[self]


def everything(protocol: TransportProtocol, remote: Address) -> bool:
    """Permit all."""
    return True


def no_udp(protocol: TransportProtocol, remote: Address) -> bool:
    """Permit TCP alone."""
    return protocol is TCP


def tls_only(protocol: TransportProtocol, remote: Address) -> bool:
    """Permit TCP to port 443 alone, as some hotels do."""
    return protocol is TCP and remote.port == 443


class Middlebox:
    """Lets out what is permitted, and in what answers; it translates nothing: a firewall."""

    def __init__(self, permits: Permit = everything, *, hairpin: bool = False) -> None:
        self.permits = permits
        self.hairpin = hairpin
        self._flows: set[tuple[TransportProtocol, Address, Address]] = set()

    def owns(self, address: Address) -> bool:
        """Return True for an address that the outer realm has to bring here."""
        return False

    def outbound(self, source: Address, target: Address, protocol: TransportProtocol) -> _Hop:
        """Return source and target outside; None if nothing goes out."""
        if not self.permits(protocol, target):
            return None
        self._flows.add((protocol, source, target))
        return source, target

    def inbound(self, source: Address, target: Address, protocol: TransportProtocol) -> _Hop:
        """Return source and target inside; None if nothing comes in."""
        return (source, target) if (protocol, target, source) in self._flows else None


_Hop: TypeAlias = tuple[Address, Address] | None


@dataclass(slots=True)
class _Mapping:
    inside: Address
    outside: Address
    contacted: set[Address] = field(default_factory=set)


class Nat(Middlebox):
    """A NAT with one outside host; `Nat(PORT, PORT)` is what was called symmetric."""

    def __init__(
        self,
        mapping: Kind,
        filtering: Kind,
        *,
        outside: str,
        permits: Permit = everything,
        hairpin: bool = False,
    ) -> None:
        super().__init__(permits, hairpin=hairpin)
        self.mapping = mapping
        self.filtering = filtering
        self.outside = outside
        self._next_port = 20_000
        self._mappings: dict[tuple[TransportProtocol, Address, Address | str | None], _Mapping] = {}
        self._by_outside: dict[tuple[TransportProtocol, Address], _Mapping] = {}

    def owns(self, address: Address) -> bool:
        """Return True for the outside host."""
        return address.host == self.outside

    def rebind(self) -> None:
        """Forget every mapping, as after a restart: ports and all."""
        self._mappings.clear()
        self._by_outside.clear()

    def outbound(self, source: Address, target: Address, protocol: TransportProtocol) -> _Hop:
        """Translate the source."""
        if not self.permits(protocol, target):
            return None
        kind = self.mapping if protocol is UDP else Kind.PORT
        key = protocol, source, kind.key(target)
        mapping = self._mappings.get(key)
        if mapping is None:
            mapping = _Mapping(source, Address(self.outside, self._next_port))
            self._next_port += 1
            self._mappings[key] = self._by_outside[protocol, mapping.outside] = mapping
        mapping.contacted.add(target)
        return mapping.outside, target

    def inbound(self, source: Address, target: Address, protocol: TransportProtocol) -> _Hop:
        """Translate the target, if the filter lets the source in."""
        mapping = self._by_outside.get((protocol, target))
        if mapping is None:
            return None
        kind = self.filtering if protocol is UDP else Kind.PORT
        if kind.key(source) not in {kind.key(contacted) for contacted in mapping.contacted}:
            return None
        return source, mapping.inside


class Nat64(Nat):
    """Lets IPv6 hosts reach IPv4 ones (RFC 6146): their addresses stand in `NAT64_PREFIX`."""

    def outbound(self, source: Address, target: Address, protocol: TransportProtocol) -> _Hop:
        """Translate both."""
        if not target.host.startswith(NAT64_PREFIX):
            return None
        packed = int(IPv6Address(target.host)) & 0xFFFFFFFF
        return super().outbound(source, Address(str(IPv4Address(packed)), target.port), protocol)

    def inbound(self, source: Address, target: Address, protocol: TransportProtocol) -> _Hop:
        """Translate both."""
        hop = super().inbound(source, target, protocol)
        return None if hop is None else (through_nat64(source), hop[1])


def through_nat64(address: Address) -> Address:
    """Return the IPv6 address of an IPv4 one behind a NAT64; DNS64 answers with it (RFC 6147)."""
    return Address(str(IPv6Address(int(IPv6Address(NAT64_PREFIX)) | int(IPv4Address(address.host)))), address.port)


class Realm:
    """A network of addresses, behind a middlebox or public."""

    def __init__(self, name: str, outer: Realm | None, box: Middlebox | None) -> None:
        self.name = name
        self.outer = outer
        self.box = box
        self.up = True
        self.inner: list[Realm] = []
        self.addresses: set[Address] = set()


class Internet(Network):
    """A `Network` with realms; `public` is the outermost. Addresses of different realms do not overlap."""

    def __init__(self, seed: int | str = 0, model: NetworkModel | None = None) -> None:
        super().__init__(seed, model)
        self.public = Realm("public", None, None)
        self._realms: dict[Address, Realm] = {}
        self._ports: dict[tuple[str, Address], Address] = {}
        self._active: dict[Address, Address] = {}

    def realm(self, name: str, *, behind: Middlebox, outer: Realm | None = None) -> Realm:
        """Add a realm behind a middlebox of the public one, or of another."""
        realm = Realm(name, outer or self.public, behind)
        (outer or self.public).inner.append(realm)
        return realm

    def settle(self, realm: Realm, *addresses: Address) -> None:
        """Say that addresses, which a host has or will have, belong to a realm."""
        for address in addresses:
            if address in self._realms:
                self._realms[address].addresses.discard(address)
            self._realms[address] = realm
            realm.addresses.add(address)

    def attach_in(self, realm: Realm, name: str, machine: MachineT, *addresses: Address) -> Host[MachineT]:
        """Put a machine into a realm, with an address for active TCP candidates on each of its hosts."""
        active = [Address(host, ACTIVE_PORT) for host in dict.fromkeys(address.host for address in addresses)]
        self.settle(realm, *addresses, *active)
        return self.attach(name, machine, *addresses, *active)

    def route(self, path: Path) -> tuple[Host[Any], Path] | None:
        """Follow a datagram from realm to realm."""
        realm, source, target, protocol = self._realms[path.local], path.local, path.remote, path.protocol
        if protocol is TCP and source.port == ACTIVE_PORT:
            source = self._connection(path)
        for _ in range(MAX_HOPS):
            if not realm.up:
                return None
            logical = self._active.get(target, target) if protocol is TCP else target
            receiver = self.owner(logical)
            if logical in realm.addresses and receiver is not None:
                return receiver, Path(logical, source, protocol)
            inner = next((i for i in realm.inner if self._leads_to(i, target)), None)
            if inner is not None and inner.box is not None:
                hop, realm = inner.box.inbound(source, target, protocol), inner
            elif realm.box is not None and realm.outer is not None:
                if realm.box.owns(target) and not realm.box.hairpin:
                    return None
                hop, realm = realm.box.outbound(source, target, protocol), realm.outer
            else:
                return None
            if hop is None:
                return None
            source, target = hop
        return None

    def _leads_to(self, inner: Realm, target: Address) -> bool:
        if inner.box is not None and inner.box.owns(target):
            return True
        logical = self._active.get(target, target)
        return not isinstance(inner.box, Nat) and logical in inner.addresses  # a firewall translates nothing

    def _connection(self, path: Path) -> Address:
        """Return the port of a connection, which the kernel would choose."""
        key = path.local.host, path.remote
        if key not in self._ports:
            self._ports[key] = Address(path.local.host, 50_000 + len(self._ports))
            self._active[self._ports[key]] = path.local
        return self._ports[key]
