"""Below a path prefix: a proxy in front cuts it off, and does not say that there was one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urljoin

import aiohttp
import pytest
from aiohttp import web

from interop.web_page import on_loopback
from stack.signaling.app import create_app
from stack.signaling.client import DialError, dial
from stack.signaling.server import Serving

PREFIX = "/voice"
SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
CANDIDATE = "a=mid:0\r\na=candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host\r\n"


@asynccontextmanager
async def run(app: web.Application) -> AsyncIterator[str]:
    async with on_loopback(app, PREFIX) as url:
        yield url


@asynccontextmanager
async def cutting_proxy(server: Serving) -> AsyncIterator[str]:
    """A reverse proxy that serves `/voice/…` from `/…`, headers untouched."""

    async def forward(request: web.Request) -> web.Response:
        target = server.url + request.raw_path.removeprefix(PREFIX)
        body = await request.read()
        async with http.request(request.method, target, data=body, headers=request.headers) as answer:
            data = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in ("content-length", "server")}
            return web.Response(status=answer.status, body=data, headers=kept)

    app = web.Application()
    app.router.add_route("*", PREFIX + "/{rest:.*}", forward)
    async with aiohttp.ClientSession(auto_decompress=False) as http, run(app) as url:
        yield url


@asynccontextmanager
async def mounted(server: Serving) -> AsyncIterator[str]:
    """Our application as a part of another one, which sees the whole path."""
    app = web.Application()
    app.add_subapp(PREFIX, create_app(server.host))
    async with run(app) as url:
        yield url


@pytest.fixture(params=[cutting_proxy, mounted])
async def below(request: pytest.FixtureRequest, server: Serving) -> AsyncIterator[str]:
    async with request.param(server) as url:
        yield url


@pytest.mark.parametrize("endpoint", ["whip", "whep"])
async def test_a_resource_is_found_patched_and_deleted(
    below: str, server: Serving, offer: str, endpoint: str
) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{below}/{endpoint}", data=offer, headers=SDP) as response:
            assert response.status == 201
            resource, tag = urljoin(str(response.url), response.headers["Location"]), response.headers["ETag"]
        assert resource.startswith(f"{below}/{endpoint}/")
        (call,) = server.host.calls.values()
        async with http.patch(resource, data=CANDIDATE, headers={**FRAGMENT, "If-Match": tag}) as response:
            assert response.status == 204
        async with http.delete(resource) as response:
            assert response.status == 200
    async with asyncio.timeout(10):
        await call.wait_ended()


async def test_a_realtime_call_is_hung_up(below: str, server: Serving, offer: str) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{below}/v1/realtime/calls?model=m", data=offer, headers=SDP) as response:
            assert response.status == 201
            location = response.headers["Location"]
        (call,) = server.host.calls.values()
        assert location.split("/")[-1] == f"rtc_{call.id}"  # what OpenAI's clients make of it
        async with http.post(urljoin(str(response.url), location) + "/hangup") as response:
            assert response.status == 200
        async with http.post(f"{below}/v1/realtime/calls", data="v=0", headers=SDP) as response:
            assert set((await response.json())["error"]) == {"message", "type", "code", "param"}
    async with asyncio.timeout(10):
        await call.wait_ended()


async def test_the_page_and_its_files_are_there(below: str) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(below + "/") as response:
            page = await response.text()
            assert response.status == 200
        assert 'src="/' not in page
        assert 'href="/' not in page
        async with http.get(urljoin(below + "/", "static/app.js")) as response:
            assert response.status == 200


async def test_the_place_itself_leads_to_the_page_below_it(server: Serving) -> None:
    async with mounted(server) as url, aiohttp.ClientSession() as http:
        async with http.get(f"{url}?token=a%26b") as response:
            assert response.status == 200
            assert str(response.url) == f"{url}/?token=a%26b"
            assert response.content_type == "text/html"
        async with http.get(f"{url}mail") as response:
            assert response.status == 404


async def test_where_neither_takes_offers_the_one_that_was_named_is_told() -> None:
    async with run(web.Application()) as url:
        with pytest.raises(DialError, match=f"{url} refused the call: 404"):
            async with dial(url):
                pass


@pytest.mark.parametrize("endpoint", ["", "/", "/whip", "/api/offer", "/v1/realtime/calls"])
@pytest.mark.real_clock
async def test_our_own_client_calls(below: str, endpoint: str) -> None:
    async with asyncio.timeout(30), dial(below + endpoint) as placed:
        await placed.call.wait_connected()
