"""A WHIP server in front of any peer: `python -m interop.peers.whip aiortc --port 8201`.

For trials of `--target`: what the harness then knows of aiortc or Pion is a URL. Each POST starts an end of the
peer, which answers, sends a tone, and is ended by DELETE or with the server (RFC 9725 §4.2).
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import secrets
from contextlib import AsyncExitStack

from aiohttp import web

from interop.peers.base import EndError, Peer, UnsupportedError, Wishes
from interop.peers.registry import PEERS

MAX_CALLS = 64


class WhipServer:
    """Calls of one peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._calls: dict[str, AsyncExitStack] = {}

    def app(self) -> web.Application:
        """The HTTP side."""
        app = web.Application()
        app.router.add_get("/", self.alive)
        app.router.add_post("/whip", self.post)
        app.router.add_delete("/whip/{call}", self.delete)
        app.on_shutdown.append(self.close)
        return app

    async def alive(self, _request: web.Request) -> web.Response:
        """Say that the server has started."""
        return web.Response(text=f"{self._peer.name} {self._peer.version()}\n")

    async def post(self, request: web.Request) -> web.Response:
        """Take a call."""
        if len(self._calls) >= MAX_CALLS:
            return web.Response(status=503, headers={"Retry-After": "10"})
        stack = AsyncExitStack()
        try:
            end = await stack.enter_async_context(self._peer.start("server", Wishes()))
            answer = await end.accept(await request.text(), Wishes())
        except (EndError, UnsupportedError) as error:
            await stack.aclose()
            return web.Response(text=str(error), status=406)
        call = secrets.token_hex(8)
        self._calls[call] = stack
        location = {"Location": f"/whip/{call}"}
        return web.Response(text=answer, status=201, content_type="application/sdp", headers=location)

    async def delete(self, request: web.Request) -> web.Response:
        """End a call."""
        stack = self._calls.pop(request.match_info["call"], None)
        if stack is None:
            return web.Response(status=404)
        await stack.aclose()
        return web.Response()

    async def close(self, _app: web.Application) -> None:
        """End all."""
        for stack in self._calls.values():
            await stack.aclose()
        self._calls.clear()


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m interop.peers.whip", description="WHIP in front of a peer.")
    parser.add_argument("peer", choices=[name for name, peer in PEERS.items() if "server" in peer.sides])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8201)
    options = parser.parse_args()
    peer = PEERS[options.peer]
    absent = peer.why_absent()
    if absent is not None:
        parser.error(absent)
    asyncio.set_event_loop(asyncio.new_event_loop())
    try:
        web.run_app(WhipServer(peer).app(), host=options.host, port=options.port, print=None)
    except OSError as error:
        why = "the address is in use" if error.errno == errno.EADDRINUSE else error.strerror or error
        parser.error(f"cannot listen on {options.host} port {options.port}: {why}")


if __name__ == "__main__":
    main()
