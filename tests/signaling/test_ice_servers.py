"""What clients are told of STUN and TURN servers, and who is told it."""

from __future__ import annotations

import time

import aiohttp
import pytest

from stack.agents import echo
from stack.aio import HostConfig
from stack.core.errors import LocalError
from stack.ice.servers import make_ephemeral_credentials
from stack.signaling.server import ServeConfig, serving
from stack.signaling.service import SignalingConfig

TURN = ("turn:turn.example:3478?transport=udp", "turns:turn.example:443?transport=tcp")
SECRET = "north"


def config(**changes: object) -> ServeConfig:
    told = {"ice_servers": ("stun:stun.example",), "turn_urls": TURN, "turn_secret": SECRET, "turn_ttl": 600.0}
    signaling = SignalingConfig(**{**told, **changes})  # type: ignore[arg-type]
    return ServeConfig(port=0, media=HostConfig(udp_port=0), signaling=signaling)


def check_credentials(username: str, credential: str) -> None:
    expires_at, user = username.split(":")
    assert 500 < int(expires_at) - time.time() <= 600
    assert make_ephemeral_credentials(SECRET, int(expires_at), user).password == credential


async def test_a_page_gets_an_rtc_configuration() -> None:
    async with serving(echo, config()) as server, aiohttp.ClientSession() as http:
        seen = set()
        for _ in range(2):
            async with http.get(server.url + "/api/ice-servers") as response:
                assert response.headers["Cache-Control"] == "no-store"
                stun, turn = (await response.json())["iceServers"]
            assert stun == {"urls": ["stun:stun.example"]}
            assert turn["urls"] == list(TURN)
            check_credentials(turn["username"], turn["credential"])
            seen.add(turn["username"])
        assert len(seen) == 2  # a TURN server counts what each client has


async def test_without_servers_the_list_is_empty() -> None:
    nothing = config(ice_servers=(), turn_urls=(), turn_secret="")
    async with (
        serving(echo, nothing) as server,
        aiohttp.ClientSession() as http,
        http.get(server.url + "/api/ice-servers") as response,
    ):
        assert await response.json() == {"iceServers": []}


@pytest.mark.parametrize("path", ["/whip", "/whep", "/v1/realtime/calls"])
async def test_an_answer_links_to_them(path: str, offer: str) -> None:
    sdp = {"Content-Type": "application/sdp"}
    async with (
        serving(echo, config()) as server,
        aiohttp.ClientSession() as http,
        http.post(server.url + path, data=offer, headers=sdp) as response,
    ):
        assert response.status == 201
        links = response.headers.getall("Link")
    assert links[0] == '<stun:stun.example>; rel="ice-server"'
    for link, url in zip(links[1:], TURN, strict=True):
        target, relation, username, credential, kind = link.split("; ")
        assert target == f"<{url}>"
        assert relation == 'rel="ice-server"'
        assert kind == 'credential-type="password"'
        check_credentials(username.split('"')[1], credential.split('"')[1])


async def test_an_answer_in_json_names_them(offer: str) -> None:
    async with aiohttp.ClientSession() as http:
        async with (
            serving(echo, config()) as server,
            http.post(server.url + "/api/offer", json={"sdp": offer, "type": "offer"}) as response,
        ):
            assert response.status == 200
            stun, turn = (await response.json())["iceServers"]
            assert stun == {"urls": ["stun:stun.example"]}
            check_credentials(turn["username"], turn["credential"])
        nothing = config(ice_servers=(), turn_urls=(), turn_secret="")
        async with (
            serving(echo, nothing) as server,
            http.post(server.url + "/api/offer", json={"sdp": offer, "type": "offer"}) as response,
        ):
            assert "iceServers" not in await response.json()


async def test_who_may_not_call_is_told_no_credentials() -> None:
    closed = config(tokens=("letmein",))
    bearer = {"Authorization": "Bearer letmein"}
    async with serving(echo, closed) as server, aiohttp.ClientSession() as http:
        async with http.get(server.url + "/api/ice-servers") as response:
            assert response.status == 401
        async with http.get(server.url + "/api/ice-servers", headers=bearer) as response:
            assert response.status == 200
        async with http.options(server.url + "/whip") as response:
            assert response.headers.getall("Link") == ['<stun:stun.example>; rel="ice-server"']
        async with http.options(server.url + "/whip", headers=bearer) as response:
            assert len(response.headers.getall("Link")) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"turn_urls": ("turn:turn.example",)},
        {"turn_urls": ("stun:stun.example",), "turn_secret": "x"},
        {"turn_urls": ("turn turn",), "turn_secret": "x"},
    ],
)
def test_turn_servers_want_a_secret_and_their_own_kind_of_url(wrong: dict[str, object]) -> None:
    with pytest.raises(LocalError):
        SignalingConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["turn:turn.example", "turns:turn.example:443?transport=tcp"])
def test_a_turn_server_without_credentials_is_refused(url: str) -> None:
    with pytest.raises(LocalError, match="--turn-url with --turn-secret"):
        SignalingConfig(ice_servers=("stun:stun.example", url))


def test_the_secret_is_shown_nowhere() -> None:
    assert SECRET not in repr(SignalingConfig(turn_urls=TURN, turn_secret=SECRET))
