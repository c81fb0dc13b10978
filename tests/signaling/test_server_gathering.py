"""A server that has candidates from STUN and TURN servers of its own: Debian's coturn, on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from stack.agents import echo
from stack.aio import HostConfig, IceMode
from stack.aio.steering import Steering
from stack.audio import write_wav
from stack.core.errors import LocalError
from stack.ice.servers import IceServer
from stack.sdp import SessionDescription
from stack.signaling.caller import CallerConfig, place_call
from stack.signaling.server import ServeConfig, Serving, serving
from tests.coturn import Coturn, coturn, needs_coturn, uri
from tests.listening import until
from tests.signaling.workers import run_with

USER, PASSWORD = "user", "not-a-secret"
LONG_TERM = ("--lt-cred-mech", "--user", f"{USER}:{PASSWORD}")


def config(*servers: IceServer, ice: IceMode = IceMode.AUTO) -> ServeConfig:
    media = HostConfig(udp_port=0, host="127.0.0.1", tcp_port=None, ice=ice, ice_servers=servers)
    return ServeConfig(port=0, media=media)


def of(turn: Coturn, transport: str = "udp") -> IceServer:
    return IceServer.parse(uri(turn, transport), USER, PASSWORD)


async def answer_of(server: Serving, offer: str) -> SessionDescription:
    async with (
        aiohttp.ClientSession() as http,
        http.post(server.url + "/api/offer", json={"sdp": offer, "type": "offer"}) as response,
    ):
        assert response.status == 200
        return SessionDescription.parse((await response.json())["sdp"])


def kinds(description: SessionDescription) -> list[str]:
    return [text.split(" ")[7] for text in description.media[0].candidates]


@asynccontextmanager
async def only_the_relay(server: Serving) -> AsyncIterator[str]:
    """Context: the address of a proxy that lets each side know of no way but through the server's relay.

    The client's candidates keep their host, which the relay has to let in, and lose their port.
    """

    async def forward(request: web.Request) -> web.Response:
        body = await request.json()
        lines = body["sdp"].split("\r\n")
        body["sdp"] = "\r\n".join(
            _without_port(line) if line.startswith("a=candidate:") else line for line in lines
        )
        async with (
            aiohttp.ClientSession() as http,
            http.post(server.url + "/api/offer", json=body) as response,
        ):
            answer = await response.json()
            kept = [line for line in answer["sdp"].split("\r\n") if "candidate:" not in line or " relay " in line]
            return web.Response(
                status=response.status,
                text=json.dumps({**answer, "sdp": "\r\n".join(kept)}),
                content_type="application/json",
            )

    app = web.Application()
    app.router.add_post("/api/offer", forward)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        listening = site._server
        assert isinstance(listening, asyncio.Server)
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        await runner.cleanup()


def _without_port(line: str) -> str:
    words = line.split(" ")
    words[5] = "9"
    return " ".join(words)


@needs_coturn
@pytest.mark.real_clock
@pytest.mark.peer
@pytest.mark.parametrize(
    ("workers", "steering", "transport"),
    [(0, None, "udp"), (0, None, "tcp"), *((2, steering, "udp") for steering in Steering)],
    ids=["thread-udp", "thread-tcp", *(f"2-{steering.value}-udp" for steering in Steering)],
)
async def test_clients_call_through_the_servers_relay(
    tmp_path: Path, workers: int, steering: Steering | None, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_with(workers, monkeypatch, steering)
    write_wav(tmp_path / "tone.wav", (8000 * np.sin(np.arange(12_000) / 3)).astype(np.int16), 16_000)
    async with (
        coturn(tmp_path, *LONG_TERM) as turn,
        serving(echo, config(of(turn, transport))) as server,
        only_the_relay(server) as url,
    ):
        await until(lambda: turn.log.read_text().count("ALLOCATE processed, success") == max(workers, 1))
        reports = await asyncio.gather(
            *(place_call(CallerConfig(url, play=str(tmp_path / "tone.wav"))) for _ in range(3))
        )
        log = turn.log.read_text()
        counters = await server.host.all_counters()
    for report in reports:
        assert report["ice"]["pair"]["remote_type"] == "relay"
        assert report["received"]["packets"] > 20
        assert report["received"]["lost"] == 0
    # one allocation of each worker, whatever the number of calls
    assert log.count("ALLOCATE processed, success") == max(workers, 1)
    assert "worker.failed_connect" not in counters


@needs_coturn
@pytest.mark.real_clock
@pytest.mark.peer
async def test_an_answer_tells_what_holds_and_waits_for_nothing(tmp_path: Path, offers: Iterator[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        dead = IceServer("127.0.0.1", silent.getsockname()[1], turn=True, username=USER, password=PASSWORD)
        async with coturn(tmp_path, *LONG_TERM) as turn, serving(echo, config(dead, of(turn))) as server:
            async with asyncio.timeout(2):
                first = await answer_of(server, next(offers))
            assert not first.has("ice-lite")  # a NAT may still be found
            assert kinds(first)[0] == "host"
            await until(lambda: bool(server.host._media.gathered.candidates))  # type: ignore[union-attr]
            assert kinds(await answer_of(server, next(offers))) == ["host", "relay"]
        # it was given back
        assert "REFRESH processed, success" in turn.log.read_text()


@needs_coturn
@pytest.mark.real_clock
@pytest.mark.peer
async def test_without_a_nat_auto_stays_lite(tmp_path: Path, offers: Iterator[str]) -> None:
    async with coturn(tmp_path, *LONG_TERM) as turn:
        stun = IceServer("127.0.0.1", turn.port)
        async with serving(echo, config(stun)) as server:

            async def lite() -> bool:
                return (await answer_of(server, next(offers))).has("ice-lite")

            async with asyncio.timeout(5):
                while not await lite():
                    await asyncio.sleep(0.02)
            assert kinds(await answer_of(server, next(offers))) == ["host"]


@needs_coturn
@pytest.mark.real_clock
@pytest.mark.peer
async def test_a_worker_that_is_replaced_gathers_again(
    tmp_path: Path, offers: Iterator[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_with(1, monkeypatch)
    async with coturn(tmp_path, *LONG_TERM) as turn, serving(echo, config(of(turn))) as server:
        await until(lambda: turn.log.read_text().count("ALLOCATE processed, success") == 1)
        os.kill(server.host._media.links[0].pid, signal.SIGKILL)  # type: ignore[union-attr,arg-type]
        await until(lambda: turn.log.read_text().count("ALLOCATE processed, success") == 2)
        await until(lambda: bool(server.host._media.links[0].gathered.candidates))  # type: ignore[union-attr]
        assert kinds(await answer_of(server, next(offers))) == ["host", "relay"]


def test_a_lite_agent_takes_no_turn_server() -> None:
    turn = IceServer("turn.example", 3478, turn=True, username=USER, password=PASSWORD)
    with pytest.raises(LocalError, match="lite"):
        HostConfig(ice=IceMode.LITE, ice_servers=(turn,))
    HostConfig(ice=IceMode.LITE, ice_servers=(IceServer("stun.example", 3478),))  # told to clients alone
    assert PASSWORD not in repr(HostConfig(ice_servers=(turn,)))
