"""Which requests are authorised, how often, and how the others are refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

import aiohttp
import pytest

from stack.agents import echo
from stack.aio import HostConfig
from stack.aio.media import CountCalls
from stack.core.errors import LocalError
from stack.signaling.security import (
    MAX_CLIENTS,
    MAX_SECRETS,
    Keys,
    RateLimits,
    Scope,
    allows,
    is_same_origin,
    read_token,
)
from stack.signaling.server import ServeConfig, Serving, serving
from stack.signaling.service import SignalingConfig

SECRET = "a-secret-that-must-not-be-seen"


def config(**signaling: object) -> ServeConfig:
    return ServeConfig(port=0, media=HostConfig(udp_port=0), signaling=SignalingConfig(**signaling))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def counting() -> Callable[[int], bytes]:
    state = [0]

    def random(size: int) -> bytes:
        state[0] += 1
        return state[0].to_bytes(size, "big")

    return random


def test_a_token_may_do_all_or_what_it_says() -> None:
    assert read_token("abc") == ("abc", frozenset(Scope))
    assert read_token("call,metrics=abc") == ("abc", frozenset({Scope.CALL, Scope.METRICS}))
    assert read_token("bW=Fy==") == ("bW=Fy==", frozenset(Scope))  # "=" may stand in a token
    for nothing in ("", "call=", "call,metrics="):
        with pytest.raises(LocalError):
            read_token(nothing)


def test_keys_know_tokens_and_secrets_until_they_expire() -> None:
    clock = Clock()
    keys = Keys(["call,secrets=abc"], clock, counting())
    assert keys.identify(None) is None
    assert keys.identify("Bearer abd") is None
    assert keys.identify("Basic abc") is None
    found = keys.identify("bearer abc")
    assert found is not None
    assert found.scopes == {Scope.CALL, Scope.SECRETS}
    assert "abc" not in repr(found)
    value, expires_at = keys.make_secret(60, {"voice": "x"})
    assert value.startswith("ek_")
    assert expires_at == 1060
    ephemeral = keys.identify(f"Bearer {value}")
    assert ephemeral is not None
    assert ephemeral.scopes == {Scope.CALL}
    assert ephemeral.session == {"voice": "x"}
    clock.now = 1060.0
    assert keys.identify(f"Bearer {value}") is None


@pytest.mark.parametrize("token", ["пароль", "caf\xe9", "\udcff\udcfe", "sesame\udcc3"])
def test_what_can_be_no_token_is_an_unknown_one(token: str) -> None:
    """Bytes of a header that are no UTF-8 come as surrogates from aiohttp, as Latin-1 from an ASGI server."""
    assert Keys(["sesame"], Clock(), counting()).identify(f"Bearer {token}") is None
    open_to_all = Keys([], Clock(), counting()).identify(f"Bearer {token}")
    assert open_to_all is not None
    assert open_to_all == Keys([], Clock(), counting()).identify(None)


async def test_a_token_of_other_bytes_is_refused_without_a_trace(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(echo, config(tokens=("sesame",))) as server:
        port = int(server.url.rpartition(":")[2])
        for path in ("/api/ice-servers", "/metrics"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n".encode()
            writer.write(head + b"Authorization: Bearer \xff\xfe\xd0\r\n\r\n")
            answer = await reader.read()
            writer.close()
            assert answer.startswith(b"HTTP/1.1 401 "), path
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_ephemeral_secrets_are_bounded() -> None:
    keys = Keys(["abc"], Clock(), counting())
    first, _ = keys.make_secret(60, {})
    for _ in range(MAX_SECRETS):
        last, _ = keys.make_secret(60, {})
    assert keys.identify(f"Bearer {first}") is None
    assert keys.identify(f"Bearer {last}") is not None


def test_rates_are_kept_for_each_and_for_all() -> None:
    clock = Clock()
    limits = RateLimits(total=5, per_client=1, clock=clock)
    assert [limits.take("a") for _ in range(4)] == [0.0] * 4
    assert limits.take("a") == pytest.approx(1.0)
    assert limits.take("b") == 0.0
    clock.now += 1.0
    assert limits.take("a") == 0.0
    for index in range(2 * 5):
        limits.take(f"client {index}")
    assert limits.take("another") > 0.0


def test_clients_that_are_remembered_are_bounded() -> None:
    limits = RateLimits(total=1e9, per_client=0.1, clock=Clock())
    assert limits.take("a") == 0.0
    assert limits.take("a") > 0.0
    for index in range(MAX_CLIENTS):
        limits.take(str(index))
    assert limits.take("a") == 0.0  # forgotten


def test_origins() -> None:
    assert allows(["*"], "https://anywhere.example")
    assert allows(["https://a.example"], None)
    assert allows(["https://a.example"], "https://a.example")
    assert not allows(["https://a.example"], "https://a.example.evil.example")


async def post(server: Serving, path: str, **request) -> tuple[int, str, dict[str, str]]:
    async with aiohttp.ClientSession() as session, session.post(server.url + path, **request) as response:
        return response.status, await response.text(), dict(response.headers)


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {SECRET}"}])
@pytest.mark.parametrize("path", ["/api/offer", "/whip", "/whep"])
async def test_a_request_without_a_token_is_refused(
    path: str, header: dict[str, str], offer: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    kind = {"Content-Type": "application/sdp"} if path != "/api/offer" else {}
    body = {"json": {"sdp": offer}} if path == "/api/offer" else {"data": offer}
    async with serving(echo, config(tokens=(SECRET,))) as server:
        status, text, headers = await post(server, path, headers={**kind, **header}, **body)
        assert status == 401
        assert "bearer token" in text
        assert headers["WWW-Authenticate"] == "Bearer"
        assert server.host.calls == {}
        assert SECRET not in text
    assert SECRET not in caplog.text


async def test_a_token_lets_in_and_the_program_never_sees_it(offer: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bearer = {"Authorization": f"Bearer {SECRET}", "Cookie": f"a={SECRET}"}
    async with serving(echo, config(tokens=(f"call={SECRET}", "metrics=other"))) as server:
        status, _, headers = await post(
            server, "/whip", data=offer, headers={"Content-Type": "application/sdp", **bearer}
        )
        assert status == 201
        (call,) = server.host.calls.values()
        assert SECRET not in repr(call.context)
        assert call.context.headers["content-type"] == "application/sdp"
        async with aiohttp.ClientSession() as session:
            async with session.delete(server.url + "/" + headers["Location"]) as response:
                assert response.status == 401
            other = {"Authorization": "Bearer other"}
            async with session.delete(server.url + "/" + headers["Location"], headers=other) as response:
                assert response.status == 404
            async with session.get(server.url + "/metrics", headers=bearer) as response:
                assert response.status == 403
            async with session.get(server.url + "/metrics", headers=other) as response:
                assert response.status == 200
                assert "voice_calls_total 1.0" in await response.text()
            async with session.delete(server.url + "/" + headers["Location"], headers=bearer) as response:
                assert response.status == 200
        await call.wait_ended()
    assert SECRET not in caplog.text


async def test_pages_from_elsewhere_need_to_be_on_the_list(offer: str) -> None:
    async with serving(echo, config(origins=("https://mine.example",))) as server:
        body = {"json": {"sdp": offer}}
        status, text, headers = await post(
            server, "/api/offer", headers={"Origin": "https://evil.example"}, **body
        )
        assert (status, "origin" in text) == (403, True)
        assert "Access-Control-Allow-Origin" not in headers
        assert server.host.calls == {}
        status, _, headers = await post(server, "/api/offer", headers={"Origin": "https://mine.example"}, **body)
        assert status == 200
        assert headers["Access-Control-Allow-Origin"] == "https://mine.example"
        assert headers["Vary"] == "Origin"
        status, _, _ = await post(server, "/api/offer", headers={"Origin": server.url}, **body)
        assert status == 200


async def test_without_a_list_only_our_own_page_may_call(offers: Iterator[str]) -> None:
    async with serving(echo, config()) as server:
        for origin, expected in (
            (server.url, 200),
            ("https://anywhere.example", 403),
            ("null", 403),
            (server.url.replace(str(server.http_port), "1"), 403),
        ):
            body = {"json": {"sdp": next(offers)}}
            status, text, _ = await post(server, "/api/offer", headers={"Origin": origin}, **body)
            assert status == expected
            assert expected == 200 or "--origin" in text
        assert (await post(server, "/api/offer", json={"sdp": next(offers)}))[0] == 200  # no page at all


def test_an_origin_is_ours_by_scheme_name_and_port() -> None:
    assert is_same_origin("https://a.example", "https", "A.example:443")
    assert is_same_origin("https://a.example", "http", "a.example"), "a proxy that is not announced ends TLS"
    assert is_same_origin("http://a.example:8080", "http", "a.example:8080")
    assert is_same_origin("http://[::1]:8080", "http", "[::1]:8080")
    assert not is_same_origin("http://a.example", "https", "a.example")
    assert not is_same_origin("https://a.example:8443", "https", "a.example")
    assert not is_same_origin("https://a.example", "https", "b.example")
    assert not is_same_origin("null", "http", "null.example")


async def test_a_flood_is_answered_with_429(offers: Iterator[str]) -> None:
    async with serving(echo, config(offers_per_client=0.5)) as server:
        answers = [await post(server, "/api/offer", json={"sdp": next(offers)}) for _ in range(4)]
        assert [status for status, _, _ in answers] == [200, 200, 429, 429]
        assert int(answers[-1][2]["Retry-After"]) >= 1
        assert len(server.host.calls) == 2


async def test_calls_are_limited_for_each_and_in_all(offers: Iterator[str]) -> None:
    async with serving(echo, config(calls_per_client=1)) as server:
        assert (await post(server, "/api/offer", json={"sdp": next(offers)}))[0] == 200
        status, _, headers = await post(server, "/api/offer", json={"sdp": next(offers)})
        assert (status, headers["Retry-After"]) == (429, "30")
        (call,) = server.host.calls.values()
        call.hang_up()
        await call.wait_ended()
        for _ in range(20):
            await asyncio.sleep(0)
        assert (await post(server, "/api/offer", json={"sdp": next(offers)}))[0] == 200
    full = ServeConfig(port=0, media=HostConfig(udp_port=0, max_calls=1))
    async with serving(echo, full) as server:
        assert (await post(server, "/api/offer", json={"sdp": next(offers)}))[0] == 200
        status, text, headers = await post(server, "/api/offer", json={"sdp": next(offers)})
        assert (status, headers["Retry-After"]) == (503, "5")
        assert "busy" in text
        async with aiohttp.ClientSession() as session, session.get(server.url + "/readyz") as response:
            assert (response.status, await response.json()) == (503, {"status": "full"})


async def test_headers_that_are_too_long_are_refused(offer: str) -> None:
    async with serving(echo, config()) as server:
        status, _, _ = await post(server, "/api/offer", json={"sdp": offer}, headers={"X-Long": "x" * 10_000})
        assert status == 400
        assert server.host.calls == {}


async def test_draining_takes_no_new_calls_and_lets_the_others_end(offers: Iterator[str]) -> None:
    async with serving(echo, config()) as server:
        assert (await post(server, "/api/offer", json={"sdp": next(offers)}))[0] == 200
        draining = asyncio.create_task(server.drain(20))
        await asyncio.sleep(0)
        status, text, headers = await post(server, "/api/offer", json={"sdp": next(offers)})
        assert (status, headers["Retry-After"]) == (503, "10")
        assert "shutting down" in text
        async with aiohttp.ClientSession() as session:
            async with session.get(server.url + "/readyz") as response:
                assert response.status == 503
            async with session.get(server.url + "/healthz") as response:
                assert response.status == 200
        assert not draining.done()
        for call in server.host.calls.values():
            call.hang_up()
        assert await draining
    async with serving(echo, config()) as server:
        assert (await post(server, "/api/offer", json={"sdp": next(offers)}))[0] == 200
        assert not await server.drain(0.0)


@pytest.mark.parametrize("path", ["/api/offer", "/whip", "/whip/any", "/v1/realtime/calls", "/nowhere"])
@pytest.mark.parametrize("origins", [("*",), ("https://mine.example",)])
async def test_a_preflight_may_ask_for_any_header(path: str, origins: tuple[str, ...]) -> None:
    asked = "authorization,content-type,openai-beta,traceparent,x-stainless-os, X-Anything"
    async with serving(echo, config(origins=origins)) as server, aiohttp.ClientSession() as http:
        headers = {
            "Origin": "https://mine.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": asked,
        }
        async with http.options(server.url + path, headers=headers) as response:
            assert response.status == 204
            allowed = response.headers["Access-Control-Allow-Headers"]
            assert [name.strip() for name in allowed.split(",")] == [name.strip() for name in asked.split(",")]
            assert "Access-Control-Request-Headers" in response.headers["Vary"]
            assert "POST" in response.headers["Access-Control-Allow-Methods"]
        headers["Access-Control-Request-Headers"] = 'x-good, <script>, "quoted", x good'
        async with http.options(server.url + path, headers=headers) as response:
            assert response.headers["Access-Control-Allow-Headers"] == "x-good"
        async with http.options(
            server.url + path, headers={**headers, "Origin": "https://evil.example"}
        ) as response:
            if origins != ("*",):
                assert response.status == 403
                assert "Access-Control-Allow-Headers" not in response.headers


async def test_offers_that_are_given_up_while_they_are_answered_leave_no_call(offers: Iterator[str]) -> None:
    async with serving(echo, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server:
        host = server.host
        for turns in range(8):
            accepting = asyncio.ensure_future(host.accept(next(offers)))
            for _ in range(turns // 2):
                await asyncio.sleep(0)
            accepting.cancel()
            await asyncio.wait([accepting])
            if not accepting.cancelled():
                accepting.result().call.hang_up()
        # What was begun and what was taken back is done in this order on the media side.
        link = await host._media.choose()
        assert await link.execute(CountCalls()) == 0
