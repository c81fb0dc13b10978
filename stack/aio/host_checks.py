"""What a host's configuration may say of addresses and times, checked when it is made and when it listens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from stack.core.errors import LocalError
from stack.core.machine import Address


def read_public_ip(text: str) -> IPv4Address | IPv6Address:
    """Return an address that a peer can send to; raises `LocalError` for anything else."""
    try:
        address = ip_address(text)
    except ValueError:
        raise LocalError(f"{text!r} is not an IP address, as 203.0.113.7") from None
    scoped = isinstance(address, IPv6Address) and address.scope_id is not None
    if address.is_unspecified or address.is_multicast or scoped:
        raise LocalError(f"{text!r} is not an address of one host that clients can send to, as 203.0.113.7")
    return address


def check_public_ips(public_ips: Sequence[str]) -> None:
    """Raise `LocalError` for one that cannot be a host's, or that stands there twice."""
    known: set[IPv4Address | IPv6Address] = set()
    for text in public_ips:
        address = read_public_ip(text)
        if address in known:
            raise LocalError(f"the public address {text} is there twice")
        known.add(address)


def check_families(public_ips: Sequence[str], addresses: Sequence[Address]) -> None:
    """Raise `LocalError` for a public address of a family that media does not listen on."""
    bound = {address.is_ipv6 for address in addresses}
    for text in public_ips:
        if (":" in text) not in bound:
            family = "IPv6" if ":" in text else "IPv4"
            raise LocalError(f"the public address {text} leads nowhere: media listens on no {family} address")


def check_texts(name: str, texts: object) -> None:
    """Raise `LocalError` for what is no sequence of texts: one text alone is a sequence, too, of its letters."""
    if isinstance(texts, str):
        raise LocalError(f'{name} is a tuple of texts, and of one, too, with its comma: ("…",)')
    if not isinstance(texts, Iterable) or not all(isinstance(text, str) for text in texts):
        raise LocalError(f"{name} is a tuple of texts")


def check_port(name: str, port: object) -> None:
    """Raise `LocalError` for what is no number of a port; 0 is any that is free."""
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        raise LocalError(f"{name} is a number from 0 (any) to 65535, not {port!r}")


def check_seconds(name: str, seconds: float) -> None:
    """Raise `LocalError` for what is no time."""
    if not (math.isfinite(seconds) and seconds >= 0):
        raise LocalError(f"{name} is seconds, 0 or more, not {seconds}")


def check_resume_timeout(seconds: float) -> None:
    """Raise `LocalError` for what is no time."""
    if not (math.isfinite(seconds) and seconds >= 0):
        raise LocalError(f"a call cannot be kept for {seconds} s (resume_timeout)")
