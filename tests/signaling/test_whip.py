"""WHIP and WHEP, request by request, and an ICE restart in the middle of a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urljoin

import aiohttp
import numpy as np
import pytest

from interop.lab import Ask
from stack.agents import echo
from stack.aio import HostConfig, control_of
from stack.sdp import SessionDescription, TrickleFragment
from stack.signaling.server import ServeConfig, Serving, serving
from stack.signaling.service import SignalingConfig
from tests.listening import until

SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
CANDIDATE = "a=mid:0\r\na=candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host\r\n"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def placed(server: Serving, http: aiohttp.ClientSession, offer: str) -> tuple[str, str, str]:
    async with http.post(server.url + "/whip", data=offer, headers=SDP) as response:
        assert response.status == 201
        assert FRAGMENT["Content-Type"] in response.headers["Accept-Patch"].split(", ")
        return (
            urljoin(str(response.url), response.headers["Location"]),
            response.headers["ETag"],
            await response.text(),
        )


async def patch(
    http: aiohttp.ClientSession, url: str, body: str, **headers: str
) -> tuple[int, str, Mapping[str, str]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.patch(url, data=body, headers={**FRAGMENT, **named}) as response:
        return response.status, await response.text(), response.headers.copy()


async def test_candidates_that_come_later(server: Serving, http: aiohttp.ClientSession, offer: str) -> None:
    url, tag, _ = await placed(server, http, offer)
    assert tag.startswith('"')
    assert (await patch(http, url, CANDIDATE, If_Match=tag))[0] == 204
    assert (await patch(http, url, "", If_Match=tag))[0] == 204
    assert (await patch(http, url, CANDIDATE, ETag=tag))[0] == 204  # what eyevinn's client says
    assert (await patch(http, url, f"{CANDIDATE}candidate:\r\na=candidate:\r\na=\r\n\0", If_Match=tag))[0] == 204
    assert (await patch(http, url, CANDIDATE))[0] == 428
    assert (await patch(http, url, CANDIDATE, If_Match='"another"'))[0] == 412
    assert (await patch(http, url, "v=0\r\n", If_Match=tag))[0] == 400
    async with http.patch(url, data="", headers={"Content-Type": "text/plain", "If-Match": tag}) as response:
        assert response.status == 415
    (call,) = server.host.calls.values()
    counters = (await call.stats()).counters
    assert sum(count for name, count in counters.items() if "remote_candidate_unused" in name) >= 2
    async with http.delete(url) as response:
        assert response.status == 200
    await call.wait_ended()
    for _ in range(20):
        await asyncio.sleep(0)
    assert (await patch(http, url, CANDIDATE, If_Match=tag))[0] == 404


async def test_a_restart_gives_new_credentials_and_a_new_tag(
    server: Serving, http: aiohttp.ClientSession, offer: str
) -> None:
    url, tag, answer = await placed(server, http, offer)
    ours = SessionDescription.parse(answer)
    status, _, _ = await patch(http, url, CANDIDATE, If_Match="*")
    assert status == 400  # no credentials; the call goes on
    assert len(server.host.calls) == 1
    request = "a=ice-ufrag:abcdef\r\na=ice-pwd:" + "p" * 24 + "\r\n" + CANDIDATE
    status, text, headers = await patch(http, url, request, If_Match="*")
    assert status == 200
    fresh = TrickleFragment.parse(text)
    assert fresh.ice_ufrag not in answer
    assert fresh.candidates == ours.media[0].candidates
    assert headers["ETag"] != tag
    assert (await patch(http, url, CANDIDATE, If_Match=tag))[0] == 412
    assert (await patch(http, url, CANDIDATE, If_Match=headers["ETag"]))[0] == 204


async def test_what_a_dialect_keeps_of_a_call_ends_with_it(
    server: Serving, http: aiohttp.ClientSession, offer: str
) -> None:
    await placed(server, http, offer)
    (call,) = server.host.calls.values()
    states: dict[str, str] = {}
    for state in ("first", "second"):
        server.signaling.keep(call.id, states, "name", state)
    server.signaling.keep(call.id, states, "of another", "mine")
    states["of another"] = "another's"
    assert states["name"] == "second"
    call.hang_up()
    await until(lambda: "name" not in states)
    assert states == {"of another": "another's"}
    server.signaling.keep(call.id, states, "late", "state")
    assert "late" not in states


@pytest.mark.real_clock
async def test_checks_with_the_new_credentials_reach_the_same_call(server: Serving) -> None:
    """A whole call whose client restarts: the sound goes on."""
    from stack.ice import IceCredentials
    from stack.signaling.client import dial

    tone = (8000 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)).astype(np.int16)
    async with asyncio.timeout(30), dial(server.url + "/whip") as line:
        call = line.call
        await call.wait_connected()
        (theirs,) = server.host.calls.values()
        mine = IceCredentials("newufrag", "n" * 24)
        fresh = await server.host.restart_ice(theirs, mine)

        def restart(conversation, now):
            conversation.session.restart_ice(mine, fresh, now)

        await control_of(call).execute(Ask(restart))
        call.speaker.write(np.tile(tone, 4), 16_000)
        heard = 0
        async for frame in call.microphone:
            heard += len(frame.samples)
            if heard > 3 * 16_000:
                break
        counters = (await theirs.stats()).counters
    assert heard > 3 * 16_000
    assert not any("integrity" in name and "drop" in name and count > 5 for name, count in counters.items())


async def test_options_say_what_is_taken(http: aiohttp.ClientSession, offer: str) -> None:
    config = SignalingConfig(ice_servers=("stun:stun.example",), origins=("*",))
    async with serving(echo, ServeConfig(port=0, media=HostConfig(udp_port=0), signaling=config)) as server:
        async with http.options(server.url + "/whip") as response:
            assert response.status == 204
            assert response.headers["Accept-Post"] == "application/sdp"
            assert "PATCH" in response.headers["Access-Control-Allow-Methods"]
        async with http.post(server.url + "/whip", data=offer, headers=SDP) as response:
            assert response.headers["Link"] == '<stun:stun.example>; rel="ice-server"'


async def test_clients_are_sent_elsewhere(http: aiohttp.ClientSession, offer: str) -> None:
    config = SignalingConfig(redirect="https://other.example/")
    async with serving(echo, ServeConfig(port=0, media=HostConfig(udp_port=0), signaling=config)) as server:
        request = http.post(server.url + "/whep", data=offer, headers=SDP, allow_redirects=False)
        async with request as response:
            assert response.status == 307
            assert response.headers["Location"] == "https://other.example/whep"
        assert server.host.calls == {}


async def test_a_setup_that_cannot_be_is_422(server: Serving, http: aiohttp.ClientSession, offer: str) -> None:
    held = offer.replace("a=setup:actpass", "a=setup:holdconn")
    async with http.post(server.url + "/whip", data=held, headers=SDP) as response:
        assert response.status == 422
    assert server.host.calls == {}


async def test_whep_answers_a_listener_with_what_is_only_sent(
    server: Serving, http: aiohttp.ClientSession, offer: str
) -> None:
    listening = offer.replace("a=sendrecv", "a=recvonly")
    async with http.post(server.url + "/whep", data=listening, headers=SDP) as response:
        assert response.status == 201
        assert response.headers["Location"].startswith("whep/")
        assert "a=sendonly" in await response.text()
