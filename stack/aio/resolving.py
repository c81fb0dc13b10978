"""The addresses of STUN and TURN servers, by the names that they were given by."""

from __future__ import annotations

import asyncio
import logging
import socket

from stack.core.machine import Address

log = logging.getLogger("stack.signaling")

RESOLVE_TIMEOUT = 5.0
"""Seconds for one name."""


async def resolve(host: str, port: int) -> list[Address]:
    """Return one address of each family that a name has; none, logged, if it has none."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, TimeoutError, UnicodeError) as error:
        log.warning("the ICE server %s is not asked: %s", host, error or "its name is not resolved")
        return []
    by_family = {info[0]: Address(str(info[4][0]).partition("%")[0], port) for info in reversed(found)}
    return list(by_family.values())
