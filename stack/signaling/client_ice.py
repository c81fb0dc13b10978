"""The program's side of a client's ICE: names of servers and of candidates, and trickle to the server that was
called.

Nothing here is waited for by the call. A name that cannot be resolved is one server less; a server that does not
take trickled candidates finds ours by their checks.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from stack.aio import HostedCall, ThreadMedia
from stack.aio.client_media import AllServersAsked, AskServer
from stack.aio.mdns import resolve_mdns
from stack.aio.resolving import RESOLVE_TIMEOUT, resolve
from stack.core.errors import ParseError
from stack.ice import Candidate
from stack.ice.mdns import is_mdns_name
from stack.ice.servers import IceServer, LocatedServer
from stack.voice.commands import AddRemoteCandidates

log = logging.getLogger("stack.signaling")

NAT64_NAME = "ipv4only.arpa"
"""RFC 7050: a NAT64 answers for it with addresses in its prefix."""

Trickle = Callable[[Sequence[str], bool], Awaitable[None]]
"""Sends candidates, and whether they are the last, to the server that was called."""


class ClientGathering:
    """Feeds the media side's gatherer, and trickles what it finds."""

    def __init__(self, servers: Sequence[IceServer]) -> None:
        self._servers = servers
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[tuple[Sequence[Candidate], bool]] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    def on_found(self, candidates: Sequence[Candidate], complete: bool) -> None:
        """Called on the media loop."""
        try:
            self._loop.call_soon_threadsafe(self._news.put_nowait, (candidates, complete))
        except RuntimeError:
            log.debug("candidates were found after the program's loop had closed")

    def ask(self, media: ThreadMedia) -> None:
        """Have every server asked as soon as its name is resolved."""
        self._run(lambda: self._ask_all(media))

    def trickle(self, send: Trickle) -> None:
        """Send what is found, from the first candidate on."""
        self._run(lambda: self._trickle(send))

    def resolve_remote(self, texts: Sequence[str], hosted: HostedCall, local_host: str) -> None:
        """Resolve those candidates of the server that have a name, and hand them to the call.

        From a host with IPv6 alone, IPv4 ones are reached through the NAT64 of its network, if it has one.
        """
        for text in texts:
            try:
                candidate = Candidate.parse(text)
            except ParseError:
                continue
            if not candidate.is_address:
                self._run(partial(self._resolve_candidate, candidate, hosted, local_host))
            elif ":" in local_host and ":" not in candidate.host:
                self._run(partial(self._synthesise_candidate, candidate, hosted))

    async def close(self) -> None:
        """Stop all of it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        async def survive() -> None:
            try:
                await work()
            except Exception:
                log.exception("a call goes on without a part of its ICE")

        task = self._loop.create_task(survive())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask_all(self, media: ThreadMedia) -> None:
        async def ask(server: IceServer) -> None:
            for address in await resolve(server.host, server.port):
                media.submit(AskServer(LocatedServer(server, address)))

        await asyncio.gather(*(ask(server) for server in self._servers))
        media.submit(AllServersAsked())

    async def _trickle(self, send: Trickle) -> None:
        complete = False
        while not complete:
            found, complete = await self._news.get()
            lines = [candidate.serialize() for candidate in found]
            while not self._news.empty():
                more, complete = self._news.get_nowait()
                lines += [candidate.serialize() for candidate in more]
            await send(lines, complete)

    async def _synthesise_candidate(self, candidate: Candidate, hosted: HostedCall) -> None:
        prefix = await find_nat64_prefix()
        if prefix:
            hosted.submit(AddRemoteCandidates((candidate.through_nat64(prefix).serialize(),)))

    async def _resolve_candidate(self, candidate: Candidate, hosted: HostedCall, local_host: str) -> None:
        if is_mdns_name(candidate.host):
            found = await resolve_mdns(candidate.host, local_host)
        else:  # RFC 8839 §5.1: a name that DNS knows
            found = [address.host for address in await resolve(candidate.host, candidate.port)]
        if found:
            # RFC 8445 §5.3 and mdns-ice-candidates §3.2.1: one address for one name
            hosted.submit(AddRemoteCandidates((replace(candidate, host=found[0]).serialize(),)))


async def find_nat64_prefix() -> str:
    """Return the prefix of this network's NAT64 (RFC 7050 §3), as `64:ff9b::`; empty if there is none."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            found = await loop.getaddrinfo(NAT64_NAME, None, family=socket.AF_INET6, type=socket.SOCK_DGRAM)
    except (OSError, TimeoutError):
        return ""
    packed = socket.inet_pton(socket.AF_INET6, str(found[0][4][0]))
    return socket.inet_ntop(socket.AF_INET6, packed[:12] + bytes(4))
