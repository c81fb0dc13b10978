"""HTTP and ICE-TCP on one TCP port, so that one open port is enough (443, say, where a network allows nothing
else).

`stack.aio.tcp_listener` accepts the connections and tells them apart; those that are not of ICE come here
untouched, and go to aiohttp as if it had accepted them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl

from aiohttp import web

from stack.aio import Host
from stack.aio.tcp_listener import listen_all
from stack.core.counters import declare
from stack.core.errors import LocalError

FAILED_HTTP_CONNECTION = declare(
    "tcp", "failed_http_connection", "HTTP connections on the shared port that broke in their TLS handshake"
)

log = logging.getLogger("stack.serve")


def share_port(host: Host, runner: web.AppRunner, http_host: str, port: int, tls: ssl.SSLContext | None) -> int:
    """Listen for HTTP and ICE-TCP, and return the port; raises `LocalError` if that cannot be."""
    server, loop, tasks = runner.server, asyncio.get_running_loop(), set[asyncio.Task[None]]()
    assert server is not None, "the runner is set up"

    async def take(sock: socket.socket) -> None:
        try:
            await loop.connect_accepted_socket(server, sock, ssl=tls)
        except (OSError, ssl.SSLError):  # as where HTTP has a port of its own, this is the client's affair
            host.counters.add(FAILED_HTTP_CONNECTION)
            sock.close()

    def on_other(sock: socket.socket) -> None:
        task = loop.create_task(take(sock), name="HTTP connection")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listeners = listen_all(_addresses_to_listen_on(http_host), port)
    host.listen_tcp(listeners, on_other)
    return int(listeners[0].getsockname()[1])


def _addresses_to_listen_on(host: str) -> list[str]:
    """Return the addresses that a name or a wildcard means, IPv4 first."""
    try:
        found = socket.getaddrinfo(
            None if host == "*" else host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise LocalError(f"cannot listen on {host}: {error.strerror}") from error
    return sorted(dict.fromkeys(str(info[4][0]).partition("%")[0] for info in found), key=lambda each: ":" in each)
