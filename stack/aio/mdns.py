"""Asking for the address behind an mDNS name: a one-shot query, answered to the port that asks (RFC 6762 §5.1)."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from stack.core.errors import LocalError, ParseError
from stack.ice.mdns import parse_answer, serialize_question

GROUP = ("224.0.0.251", 5353)
PATIENCE = 2.0
"""Seconds until a name counts as unknown: its owner answers at once, or is not on this network."""
ASK_AGAIN = 0.5
"""Seconds after which the question is repeated, as multicast is lost easily."""
MAX_ANSWER = 9000
"""Bytes (RFC 6762 §17)."""


async def resolve_mdns(name: str, local_host: str, group: tuple[str, int] = GROUP) -> list[str]:
    """Return the addresses of a name, asked for on the interface of `local_host`; none if it is unknown there."""
    try:
        question = serialize_question(name)
    except LocalError:
        return []
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        try:
            asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)  # RFC 6762 §11
            asking.bind((local_host, 0))
            asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(local_host))
        except OSError:  # an IPv6 host, or one that is gone
            return []
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                return await _ask(loop, asking, question, name, group)
    return []


async def _ask(
    loop: asyncio.AbstractEventLoop, asking: socket.socket, question: bytes, name: str, group: tuple[str, int]
) -> list[str]:
    while True:
        with suppress(OSError):
            asking.sendto(question, group)
        with suppress(TimeoutError):
            async with asyncio.timeout(ASK_AGAIN):
                while True:
                    data = await loop.sock_recv(asking, MAX_ANSWER)
                    with suppress(ParseError):
                        addresses = parse_answer(data, name)
                        if addresses:
                            return addresses
