"""The server as an ASGI application: alone under uvicorn, and as a part of Starlette and FastAPI."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import quote, urljoin

import aiohttp
import pytest

from stack.agents import echo
from stack.aio import Call, HostConfig
from stack.asgi import VoiceApp
from stack.core.errors import LocalError
from stack.signaling import SignalingConfig
from stack.signaling.client import dial
from stack.signaling.service import MAX_BODY
from tests.embedding.serving import uvicorn_runs
from tests.signaling.conftest import offer  # noqa: F401

fastapi = pytest.importorskip("fastapi", reason="fastapi is not installed")
applications = pytest.importorskip("starlette.applications", reason="starlette is not installed")
requests = pytest.importorskip("starlette.requests")
routing = pytest.importorskip("starlette.routing")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

MEDIA = HostConfig(host="127.0.0.1", udp_port=0)
SDP = {"Content-Type": "application/sdp"}


def alone(voice: VoiceApp) -> tuple[Any, str]:
    return voice, ""


def in_starlette(voice: VoiceApp) -> tuple[Any, str]:
    return applications.Starlette(routes=[routing.Mount("/voice", voice)], lifespan=voice.lifespan), "/voice"


def in_fastapi_without_a_lifespan(voice: VoiceApp) -> tuple[Any, str]:
    app = fastapi.FastAPI()
    app.mount("/voice", voice)
    return app, "/voice"


def in_a_mount_of_a_mount(voice: VoiceApp) -> tuple[Any, str]:
    inner, app = fastapi.FastAPI(), fastapi.FastAPI(lifespan=voice.lifespan)
    inner.mount("/voice", voice)
    app.mount("/api", inner)
    return app, "/api/voice"


def as_a_router(voice: VoiceApp) -> tuple[Any, str]:
    app = fastapi.FastAPI(lifespan=voice.lifespan)
    app.include_router(voice.router(), prefix="/voice")
    return app, "/voice"


PLACES = [alone, in_starlette, in_fastapi_without_a_lifespan, in_a_mount_of_a_mount, as_a_router]


@pytest.fixture(params=PLACES)
async def placed(request: pytest.FixtureRequest) -> AsyncIterator[tuple[VoiceApp, str]]:
    """The application, and its URL without a slash at the end."""
    voice = VoiceApp(echo, config=MEDIA, signaling=SignalingConfig(origins=("https://a.example",)))
    app, prefix = request.param(voice)
    async with uvicorn_runs(app) as url:
        yield voice, url + prefix
    await voice.stop()


@pytest.mark.real_clock
@pytest.mark.parametrize("endpoint", ["", "/", "/whip", "/v1/realtime/calls"])
async def test_our_client_calls_wherever_it_is(placed: tuple[VoiceApp, str], endpoint: str) -> None:
    voice, url = placed
    async with asyncio.timeout(30), dial(url + endpoint) as client:
        await client.call.wait_connected()
        assert len(voice.host.calls) == 1


async def test_what_it_answers_has_its_prefix(placed: tuple[VoiceApp, str], offer: str) -> None:  # noqa: F811
    _, url = placed
    async with aiohttp.ClientSession() as http:
        async with http.get(url or "/") as response:  # without the slash: the page is below it
            assert str(response.url).rstrip("/") == url
            assert response.url.path.endswith("/")
            assert response.content_type == "text/html"
        async with http.get(url + "/static/app.js") as response:
            assert response.content_type == "text/javascript"
        async with http.head(url + "/healthz") as response:
            assert (response.status, await response.read()) == (200, b"")
        async with http.get(url + "/nothing") as response:
            assert (response.status, await response.json()) == (404, {"error": "Not Found"})
        async with http.delete(url + "/readyz") as response:
            assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD")
        async with http.post(url + "/api/offer", data=b"x" * (MAX_BODY + 1)) as response:
            assert response.status == 413
        async with http.post(url + "/whip", data=offer, headers=SDP) as response:
            assert response.status == 201
            resource = urljoin(str(response.url), response.headers["Location"])
        async with http.delete(resource) as response:
            assert response.status == 200
        preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
        async with http.options(url + "/api/offer", headers=preflight) as response:
            assert response.status == 204
            assert "POST" in response.headers.get("Access-Control-Allow-Methods", "") or "Vary" in response.headers


async def test_a_websocket_joins_a_call(placed: tuple[VoiceApp, str], offer: str) -> None:  # noqa: F811
    _, url = placed
    async with aiohttp.ClientSession() as http:
        form = aiohttp.FormData(default_to_multipart=True)
        form.add_field("sdp", offer, content_type="application/sdp")
        form.add_field("session", json.dumps({"type": "realtime", "instructions": "be brief"}))
        async with http.post(url + "/v1/realtime/calls", data=form) as response:
            assert response.status == 201
            name = response.headers["Location"].rpartition("/")[2]
        address = f"{url}/v1/realtime?call_id={name}"
        async with http.get(address) as response:
            assert response.status == 426
        async with http.ws_connect(address, protocols=("realtime",)) as sideband:
            greeting = await sideband.receive_json()
            assert (greeting["type"], greeting["session"]["instructions"]) == ("session.created", "be brief")
            assert sideband.protocol == "realtime"
            await sideband.send_str("nonsense")
            assert (await sideband.receive_json())["type"] == "error"
            async with http.post(f"{url}/v1/realtime/calls/{name}/hangup") as response:
                assert response.status == 200
            async with asyncio.timeout(10):
                assert (await sideband.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(f"{url}/v1/realtime?call_id=rtc_none")
        assert refused.value.status == 404


@pytest.mark.real_clock
async def test_a_call_is_hung_up_when_a_server_ends_whose_parent_runs_no_lifespan() -> None:
    voice = VoiceApp(echo, config=MEDIA)
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    connected = asyncio.Event()

    def serve_once(url: asyncio.Future[str], done: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        async def run() -> None:
            app, prefix = in_fastapi_without_a_lifespan(voice)
            stopped = asyncio.Event()
            loop.call_soon_threadsafe(stop.set_result, (asyncio.get_running_loop(), stopped))
            async with uvicorn_runs(app) as where:
                loop.call_soon_threadsafe(url.set_result, where + prefix)
                await stopped.wait()

        asyncio.run(run())

    async def call(url: str) -> None:
        async with dial(url + "/") as client:
            await client.call.wait_connected()
            connected.set()
            ended.set_result((await client.call.wait_ended()).reason.value)

    loop = asyncio.get_running_loop()
    url: asyncio.Future[str] = loop.create_future()
    stop: asyncio.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = loop.create_future()
    async with asyncio.timeout(40):
        server = asyncio.create_task(asyncio.to_thread(serve_once, url, connected, loop))
        calling = asyncio.create_task(call(await url))
        await connected.wait()
        its_loop, stopped = await stop
        its_loop.call_soon_threadsafe(stopped.set)
        await server
        assert await ended == "the peer closed"
        await calling


async def user_of(
    connection: requests.HTTPConnection, authorization: Annotated[str, fastapi.Header()] = ""
) -> None:
    """The parent's own way to tell its users."""
    if authorization != "Bearer parent":
        raise fastapi.HTTPException(401, "who are you?")
    connection.state.user_name = "Ada"


@pytest.mark.real_clock
async def test_a_dependency_of_the_parent_protects_it(offer: str) -> None:  # noqa: F811
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def program(call: Call) -> None:
        told.set_result(call.context.state)

    voice = VoiceApp(program, config=MEDIA)
    app = fastapi.FastAPI(lifespan=voice.lifespan)
    app.include_router(voice.router(), prefix="/voice", dependencies=[fastapi.Depends(user_of)])
    allowed = {"Authorization": "Bearer parent"}
    async with uvicorn_runs(app) as url, aiohttp.ClientSession() as http:
        for path in ("/voice/", "/voice/healthz", "/voice/static/app.js"):
            async with http.get(url + path) as response:
                assert response.status == 401
        async with http.post(url + "/voice/whip", data=offer, headers=SDP) as response:
            assert response.status == 401
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(f"{url}/voice/v1/realtime?call_id=rtc_none")
        assert voice.host.calls == {}
        async with http.get(url + "/voice/", headers=allowed) as response:
            assert response.status == 200
        async with http.post(url + "/voice/whip", data=offer, headers={**SDP, **allowed}) as response:
            assert response.status == 201
        (call,) = voice.host.calls.values()
        assert call.context.state["user_name"] == "Ada"
        assert "authorization" not in call.context.headers


async def test_our_own_tokens_work_too() -> None:
    voice = VoiceApp(echo, config=MEDIA, signaling=SignalingConfig(tokens=("secret",)))
    async with (
        uvicorn_runs(voice) as url,
        aiohttp.ClientSession() as http,
        http.post(url + "/api/offer", json={}) as response,
    ):
        assert response.status == 401


async def test_a_port_that_is_taken_is_said_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        voice = VoiceApp(echo, config=HostConfig(host="127.0.0.1", udp_port=taken.getsockname()[1]))
        with pytest.raises(LocalError, match="in use"):
            await voice.start()
        app, prefix = in_fastapi_without_a_lifespan(voice)
        async with (
            uvicorn_runs(app) as url,
            aiohttp.ClientSession() as http,
            http.get(f"{url}{prefix}/") as response,
        ):
            assert response.status == 503
        assert "cannot start" in caplog.text


def scope_of(kind: str = "http", **more: Any) -> dict[str, Any]:
    return {"type": kind, "method": "GET", "path": "/", "query_string": b"", "headers": [], **more}


async def sent_by(voice: VoiceApp, scope: dict[str, Any], *messages: dict[str, Any]) -> list[Any]:
    sent: list[Any] = []
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(waiting)

    async def send(message: Any) -> None:
        sent.append(message)

    await voice(scope, receive, send)
    return sent


@pytest.mark.parametrize(
    ("path", "root_path", "status"),
    [
        ("/voice/healthz", "/voice", 200),
        ("/healthz", "/voice", 200),  # a server that cuts the prefix off
        ("/voice", "/voice", 307),
        ("/voicemail/healthz", "/voice", 404),
    ],
)
async def test_root_path_is_cut_off(path: str, root_path: str, status: int) -> None:
    voice = VoiceApp(echo, config=MEDIA)
    async with voice.lifespan():
        start, _ = await sent_by(voice, scope_of(path=path, root_path=root_path))
        assert start["status"] == status


async def test_the_place_itself_leads_to_the_page_whatever_its_name() -> None:
    voice = VoiceApp(echo, config=MEDIA)
    async with voice.lifespan():
        scope = scope_of(path="/апи/го:лос", root_path="/апи/го:лос", query_string=b"token=a%26b")
        start, _ = await sent_by(voice, scope)
        place = dict(start["headers"])[b"location"].decode("ascii")
    assert urljoin("http://a.example/%D0/x", place) == f"http://a.example/%D0/{quote('го:лос')}/?token=a%26b"


async def test_servers_that_know_no_denial_of_a_websocket_have_it_closed() -> None:
    voice = VoiceApp(echo, config=MEDIA)
    async with voice.lifespan():
        scope = scope_of("websocket", path="/v1/realtime", query_string=b"call_id=rtc_none", subprotocols=[])
        assert await sent_by(voice, scope, {"type": "websocket.connect"}) == [{"type": "websocket.close"}]


async def test_the_lifespan_of_a_server_starts_and_stops_the_host() -> None:
    voice = VoiceApp(echo, config=MEDIA)
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = await sent_by(voice, {"type": "lifespan"}, *events)
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(LocalError, match="not started"):
        _ = voice.host


def test_without_fastapi_a_router_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(LocalError, match="pip install fastapi"):
        VoiceApp(echo).router()
