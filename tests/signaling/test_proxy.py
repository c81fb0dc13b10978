"""Behind proxies: whose request it is, under which scheme, and below which path."""

from __future__ import annotations

from collections.abc import Iterator

import aiohttp
import pytest

from stack import Call
from stack.agents import echo
from stack.aio import HostConfig
from stack.core.errors import LocalError
from stack.signaling.client import dial
from stack.signaling.proxy import MAX_HOPS, TrustedProxies
from stack.signaling.server import ServeConfig, Serving, serving
from stack.signaling.service import SignalingConfig


def config(path_prefix: str = "", **signaling: object) -> ServeConfig:
    return ServeConfig(
        port=0, media=HostConfig(udp_port=0), signaling=SignalingConfig(**signaling), path_prefix=path_prefix
    )


async def offer_to(server: Serving, offer: str, **headers: str) -> int:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as http,
        http.post(server.url + "/api/offer", json={"sdp": offer}, headers=headers) as response,
    ):
        return response.status


@pytest.mark.parametrize(
    ("peer", "fields", "client"),
    [
        ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["192.0.2.7, 10.9.9.9"], "192.0.2.7"),  # two of our own
        ("10.0.0.1", ["1.1.1.1, 192.0.2.7, 10.9.9.9"], "192.0.2.7"),  # the first is what the client has made up
        ("10.0.0.1", ["192.0.2.7", "10.9.9.9"], "192.0.2.7"),  # a field twice is one list (RFC 9110 §5.3)
        ("10.0.0.1", ["192.0.2.7:4711"], "192.0.2.7"),
        ("10.0.0.1", ["[2001:db8::1]:80"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["::ffff:192.0.2.7"], "192.0.2.7"),
        ("::1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, junk, 10.9.9.9"], "10.9.9.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),  # nothing but proxies
        ("192.0.2.9", ["192.0.2.7"], "192.0.2.9"),  # a stranger is not believed
        ("", ["192.0.2.7"], ""),
    ],
)
def test_the_client_is_the_nearest_that_is_no_proxy(peer: str, fields: list[str], client: str) -> None:
    assert TrustedProxies(["10.0.0.0/8", "::1"]).client(peer, fields) == client


def test_a_list_without_end_is_read_to_a_bound() -> None:
    proxies = TrustedProxies(["10.0.0.0/8"])
    assert proxies.client("10.0.0.1", ["192.0.2.1," + ",".join(["10.0.0.2"] * MAX_HOPS)]) == "10.0.0.2"


def test_the_scheme_is_what_a_trusted_proxy_says() -> None:
    proxies = TrustedProxies(["127.0.0.1"])
    assert proxies.scheme("127.0.0.1", "http", ["https"]) == "https"
    assert proxies.scheme("127.0.0.1", "http", ["http, HTTPS"]) == "https"
    assert proxies.scheme("127.0.0.1", "http", ["gopher"]) == "http"
    assert proxies.scheme("127.0.0.1", "http", []) == "http"
    assert proxies.scheme("192.0.2.1", "http", ["https"]) == "http"


@pytest.mark.parametrize("text", ["", "proxy.example", "10.0.0.0/33", "10.0.0.1:80"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(LocalError, match="a trusted proxy is an address or a network"):
        TrustedProxies([text])


async def test_many_clients_behind_a_proxy_are_many(offers: Iterator[str]) -> None:
    limits = {"calls_per_client": 2, "offers_per_client": 0.5, "offers_per_second": 1000.0}
    async with serving(echo, config(trusted_proxies=("127.0.0.1",), **limits)) as server:
        for number in range(101):
            assert await offer_to(server, next(offers), X_Forwarded_For=f"192.0.2.{number}") == 200
        contexts = [call.context.remote for call in server.host.calls.values()]
        assert contexts == [f"192.0.2.{number}" for number in range(101)]
        assert await offer_to(server, next(offers), X_Forwarded_For="192.0.2.0") == 200
        # each is one all the same, whatever it puts in front
        assert await offer_to(server, next(offers), X_Forwarded_For="1.2.3.4, 192.0.2.0") == 429
    async with serving(echo, config(**limits)) as server:
        answers = [await offer_to(server, next(offers), X_Forwarded_For=f"192.0.2.{n}") for n in range(3)]
        assert answers == [200, 200, 429], "who is not trusted is not believed"


async def test_a_page_of_https_is_our_own_behind_a_proxy_that_says_so(offers: Iterator[str]) -> None:
    async with serving(echo, config(trusted_proxies=("127.0.0.1",))) as server:
        site = {"Host": "voice.example", "X_Forwarded_Proto": "https"}
        assert await offer_to(server, next(offers), Origin="https://voice.example", **site) == 200
        assert await offer_to(server, next(offers), Origin="http://voice.example", **site) == 403
        assert await offer_to(server, next(offers), Origin="https://evil.example", **site) == 403


@pytest.mark.real_clock
async def test_everything_is_below_a_prefix() -> None:
    async with serving(echo, config(path_prefix="/voice/agent")) as server, aiohttp.ClientSession() as http:
        assert server.url.endswith("/voice/agent")
        for path in ("", "/", "/static/app.js", "/healthz", "/metrics"):
            async with http.get(server.url + path) as response:
                assert response.status == 200, path
        root = server.url.removesuffix("/voice/agent")
        async with http.get(root + "/", allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (302, "/voice/agent/")
        async with http.get(root + "/healthz") as response:
            assert response.status == 404
        for path in ("/", "/whip", "/v1/realtime/calls"):
            async with dial(server.url + path) as placed:
                await placed.call.wait_connected()


@pytest.mark.parametrize("prefix", ["voice", "/voice/", "//", "/vo ice", "/{x}"])
def test_a_prefix_that_is_none_is_refused(prefix: str) -> None:
    with pytest.raises(LocalError, match="is not a path such as /voice"):
        config(path_prefix=prefix)


async def test_the_program_sees_the_client_and_not_the_proxy(offers: Iterator[str]) -> None:
    async def program(call: Call) -> None:
        await call.wait_ended()

    async with serving(program, config(trusted_proxies=("127.0.0.0/8",))) as server:
        await offer_to(server, next(offers), X_Forwarded_For="192.0.2.7")
        (call,) = server.host.calls.values()
        assert call.context.remote == "192.0.2.7"
