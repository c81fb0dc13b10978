"""The page in calls whose media fall silent while HTTP goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from interop import servers
from interop.browsers import Browser, launch
from interop.impair import ImpairedRelay
from interop.network_model import NetworkModel
from interop.redirect import rewrite_candidates
from interop.web_page import on_loopback

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browsers")]

NOTHING = NetworkModel(loss=1.0)


@asynccontextmanager
async def media_through(relay: ImpairedRelay, server: str) -> AsyncIterator[str]:
    """All of the server over HTTP; the media that its answers speak of go through the relay."""

    async def forward(request: web.Request) -> web.Response:
        kept = {name: request.headers[name] for name in ("Content-Type",) if name in request.headers}
        data = await request.read() or None
        target = server + request.path_qs
        async with (
            aiohttp.ClientSession() as http,
            http.request(request.method, target, data=data, headers=kept) as response,
        ):
            body = await response.read()
        if request.method == "POST" and response.status == 200:
            answer = json.loads(body)
            body = json.dumps({**answer, "sdp": rewrite_candidates(answer["sdp"], relay.address)}).encode()
        headers = {"Content-Type": response.headers.get("Content-Type", "text/plain")}
        return web.Response(body=body, status=response.status, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    async with on_loopback(app) as url:
        yield url


@asynccontextmanager
async def in_a_call(browser_name: str, *options: str) -> AsyncIterator[tuple[ImpairedRelay, Browser]]:
    """Context: a page in a call whose media go through a relay, and its HTTP does not."""
    port = servers.free_port(socket.SOCK_DGRAM)
    async with (
        servers.ours(extra_args=["--udp-port", str(port), *options]) as server,
        ImpairedRelay(NetworkModel(), NetworkModel(), ("127.0.0.1", port)) as relay,
        media_through(relay, server) as url,
        launch(browser_name) as browser,
    ):
        await browser.goto(url)
        await browser.click("#call")
        await browser.wait_for("voiceStack.stats?.packetsReceived > 20")
        yield relay, browser


async def test_media_that_die_end_the_call_though_http_goes_on(browser_name: str, loopback: bool) -> None:
    """The page restarts ICE meanwhile, and each restart makes new pairs of candidates: none is an arrival."""
    async with in_a_call(browser_name) as (relay, browser):
        relay.change(NOTHING, NOTHING)
        await browser.wait_for("voiceStack.state === 'failed' && voiceStack.problem", timeout=14)
        assert await browser.evaluate("voiceStack.problem.code") == "lost"
        assert browser.errors == []


async def test_media_that_pause_go_on_in_the_same_call(browser_name: str, loopback: bool) -> None:
    async with in_a_call(browser_name) as (relay, browser):
        relay.change(NOTHING, NOTHING)
        began = await browser.evaluate("performance.now()")
        await browser.wait_for(f"performance.now() - {began} > 3000")
        relay.change(NetworkModel(), NetworkModel())
        heard = await browser.evaluate("voiceStack.stats.packetsReceived")
        began = await browser.evaluate("performance.now()")
        # As long as it would take the page to give up a call that is still silent.
        await browser.wait_for(f"performance.now() - {began} > 9000 || voiceStack.state === 'failed'", timeout=20)
        assert await browser.evaluate("voiceStack.problem") is None
        assert await browser.evaluate("voiceStack.stats.packetsReceived") > heard + 50


async def test_a_call_by_a_ticket_restarts_ice(browser_name: str, loopback: bool) -> None:
    """It was made without HTTP, and is named on its channel: so a further offer finds it.

    The page makes another call meanwhile; which of the two it goes on with is seen once media come again.
    """
    if browser_name == "firefox":
        pytest.skip("Firefox calls over HTTP on a machine that has loopback alone (docs/tickets.md)")
    async with in_a_call(browser_name, "--instant-connect") as (relay, browser):
        await browser.click("#call")
        await browser.wait_for("voiceStack.state === 'ended'")
        await browser.click("#call")
        await browser.wait_for("voiceStack.way === 'ticket' && voiceStack.stats?.packetsReceived > 20")
        await browser.evaluate("void (window.first = voiceStack.connection)")
        fragment = "/a=ice-ufrag:(.*)/.exec(first.remoteDescription.sdp)[1]"
        ticket = await browser.evaluate(fragment)
        relay.change(NOTHING, NOTHING)
        await browser.wait_for(f"{fragment} !== {json.dumps(ticket)}", timeout=10)
        relay.change(NetworkModel(), NetworkModel())
        before = await browser.evaluate("voiceStack.stats?.packetsReceived ?? 0")
        more = f"(voiceStack.stats?.packetsReceived ?? 0) > (voiceStack.connection === first ? {before} : 0) + 100"
        await browser.wait_for(more, timeout=15)
        assert await browser.evaluate("voiceStack.problem") is None
