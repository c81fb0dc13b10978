"""What a reverse proxy in front says of the client: its address, and whether it came by HTTPS.

`X-Forwarded-For` and `X-Forwarded-Proto`, as nginx, Caddy, HAProxy and load balancers write them: each proxy
appends the address that it sees, so the list is read from its end, and only as far as proxies go that the operator
trusts; what stands before the first stranger is what the stranger says of itself.

Left out: `Forwarded` (RFC 7239) and `X-Forwarded-Host`. A proxy that writes the two above lets through what a
client puts into others, so that reading more would be believing clients. The name of the site comes in `Host`,
which the proxy has to keep.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from stack.core.errors import LocalError

MAX_HOPS = 64
"""Addresses of `X-Forwarded-For` that are read, from its end."""

_Address: TypeAlias = IPv4Address | IPv6Address


class TrustedProxies:
    """The proxies that are believed; each is an address or a network such as `10.0.0.0/8`.

    Raises `LocalError` for a text that is neither.
    """

    def __init__(self, proxies: Iterable[str] = ()) -> None:
        self._networks = tuple(_network(text) for text in proxies)

    def trusts(self, peer: str) -> bool:
        """Whether this address is one of them."""
        address = _read_address(peer)
        return address is not None and self._knows(address)

    def client(self, peer: str, forwarded_for: Iterable[str]) -> str:
        """Return the address of the client of a request that comes from `peer` with these header fields."""
        address = _read_address(peer)
        if address is None or not self._knows(address):
            return peer
        hops = ",".join(forwarded_for).split(",")
        for text in reversed(hops[-MAX_HOPS:]):
            hop = _read_address(text)
            if hop is None:  # "unknown", "_hidden", or nothing: the last that is known has to do
                break
            address = hop
            if not self._knows(hop):
                break
        return str(address)

    def scheme(self, peer: str, scheme: str, forwarded_proto: Iterable[str]) -> str:
        """Return "http" or "https", as the client has asked; `scheme` is how the request has come here."""
        said = ",".join(forwarded_proto).split(",")[-1].strip().lower()
        return said if said in ("http", "https") and self.trusts(peer) else scheme

    def _knows(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise LocalError(
            f"a trusted proxy is an address or a network, as 127.0.0.1 or 10.0.0.0/8, not {text!r}"
        ) from error


def _read_address(text: str) -> _Address | None:
    """Return the address in `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
