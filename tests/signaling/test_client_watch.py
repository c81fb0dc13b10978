"""A client that hears nothing asks its server: what it makes of each answer, and of a worker that has died."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from stack.agents import echo
from stack.aio import HostConfig
from stack.aio.steering import Steering
from stack.aio.workers import default_workers
from stack.session import Ended, EndReason
from stack.signaling import client_http, client_watch, dial
from stack.signaling.client import DialConfig, DialError
from stack.signaling.client_watch import ServerSays, end_with_server, read_reason
from stack.signaling.server import ServeConfig, serving
from tests.listening import until
from tests.signaling.workers import STEERINGS

pytestmark = pytest.mark.real_clock


class Quiet:
    """Stands where a hosted call would: `heard` packets have come."""

    def __init__(self) -> None:
        self.heard = 7
        self.ends: list[Ended] = []
        self.call = self

    @property
    def ended(self) -> bool:
        return bool(self.ends)

    async def wait_connected(self) -> None: ...

    async def stats(self) -> Any:
        transport = SimpleNamespace(packets_received=self.heard)
        return SimpleNamespace(session=SimpleNamespace(transport=transport))

    def end(self, ended: Ended) -> None:
        self.ends.append(ended)


class Server:
    """Gives answers, the last of them for ever."""

    def __init__(self, *answers: EndReason | ServerSays) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self) -> EndReason | ServerSays:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_watch, "WATCH_PERIOD", 0.005)
    monkeypatch.setattr(client_watch, "ASK_AFTER", 0.02)
    monkeypatch.setattr(client_watch, "ASK_EVERY", 0.02)


@pytest.mark.parametrize("reason", [EndReason.WORKER_FAILED, EndReason.PEER_CLOSED])
async def test_a_call_that_is_over_at_the_server_ends(reason: EndReason) -> None:
    hosted: Any = Quiet()
    server = Server(ServerSays.UP, ServerSays.UNREACHABLE, reason)
    await asyncio.wait_for(end_with_server(hosted, server), 10)
    assert [each.reason for each in hosted.ends] == [reason]
    assert server.asked == 3


async def test_a_server_that_does_not_know_the_question_is_asked_once() -> None:
    hosted: Any = Quiet()
    server = Server(ServerSays.NO_ANSWER)
    await asyncio.wait_for(end_with_server(hosted, server), 10)
    assert server.asked == 1
    assert not hosted.ended


async def test_a_client_that_hears_something_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_watch, "ASK_AFTER", 5.0)
    hosted: Any = Quiet()
    server = Server(EndReason.WORKER_FAILED)
    watching = asyncio.create_task(end_with_server(hosted, server))
    for _ in range(20):
        hosted.heard += 1
        await asyncio.sleep(0.005)
    assert server.asked == 0
    watching.cancel()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("worker_failed", EndReason.WORKER_FAILED),
        ("hung_up", EndReason.PEER_CLOSED),
        (None, EndReason.PEER_CLOSED),
        (["x"], EndReason.PEER_CLOSED),
    ],
)
def test_what_a_server_gives_as_the_reason(name: object, reason: EndReason) -> None:
    assert read_reason(name) is reason


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, '{"state": "up"}', ServerSays.UP),
        (200, '{"state": "ended", "reason": "worker_failed"}', EndReason.WORKER_FAILED),
        (200, '{"state": "ended"}', EndReason.PEER_CLOSED),
        (200, "<html>", ServerSays.NO_ANSWER),
        (200, "[1]", ServerSays.NO_ANSWER),
        (404, "", ServerSays.NO_ANSWER),
        (405, "", ServerSays.NO_ANSWER),
        (503, "", ServerSays.UNREACHABLE),
    ],
)
async def test_what_servers_answer(status: int, body: str, said: object, unused_tcp_port: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.query["pc_id"] == "a b"
        return web.Response(status=status, text=body)

    app = web.Application()
    app.router.add_get("/api/offer", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    access: Any = SimpleNamespace(token=None, insecure=False)
    target = f"http://127.0.0.1:{unused_tcp_port}/api/offer"
    ask = client_http._ask_as_json(target, "a b", access)
    assert ask is not None
    assert await ask() is said
    await runner.cleanup()
    assert await ask() is ServerSays.UNREACHABLE
    assert client_http._ask_as_json(target, None, access) is None


@pytest.mark.skipif(not default_workers(), reason="media workers need Linux or macOS")
async def test_our_client_ends_with_a_reason_when_the_worker_has_died() -> None:
    whole = ServeConfig(port=0, media=HostConfig(udp_port=0, workers=1))
    async with asyncio.timeout(60), serving(echo, whole) as server, dial(server.url) as placed:
        await placed.call.wait_connected()
        media: Any = server.host._media
        await until(lambda: media.links[0]._alerts)  # what its client is told then
        media.links[0]._alerts.clear()
        os.kill(media.links[0].pid, signal.SIGKILL)
        assert (await placed.call.wait_ended()).reason is EndReason.WORKER_FAILED


@pytest.mark.skipif(not default_workers(), reason="media workers need Linux or macOS")
@pytest.mark.parametrize("steering", STEERINGS)
async def test_our_client_is_told_at_once_that_the_worker_has_died(
    steering: Steering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_watch, "ASK_AFTER", 1000.0)
    whole = ServeConfig(port=0, media=HostConfig(udp_port=0, workers=2, steering=steering))
    async with (
        asyncio.timeout(60),
        serving(echo, whole) as server,
        dial(server.url) as one,
        dial(server.url) as two,
    ):
        media: Any = server.host._media
        for placed in (one, two):
            await placed.call.wait_connected()
        await until(lambda: all(link._alerts for link in media.links))
        for link in media.links:
            os.kill(link.pid, signal.SIGKILL)
        for placed in (one, two):
            assert (await placed.call.wait_ended()).reason is EndReason.WORKER_FAILED
        async with dial(server.url) as again:
            await again.call.wait_connected()
            await until(lambda: any(link._alerts for link in media.links))
            again.call.hang_up()
            await until(lambda: not any(link._alerts for link in media.links))


async def test_an_answer_is_waited_for_as_long_as_is_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/whip"
        with pytest.raises(DialError, match=r"did not answer within 0\.05 s"):
            async with dial(url, DialConfig(answer_timeout=0.05)):
                pass
