"""The dialects: which requests they take, and how they refuse the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from stack.signaling.server import Serving
from stack.signaling.service import MAX_BODY

OFFER = (Path(__file__).parent.parent / "vectors/offers/chromium156-audio_dc.sdp").read_text()


async def post(server: Serving, path: str, **request) -> tuple[int, str, dict[str, str]]:
    async with aiohttp.ClientSession() as session, session.post(server.url + path, **request) as response:
        return response.status, await response.text(), dict(response.headers)


async def test_an_offer_as_json_gets_an_answer_as_json(server: Serving) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.url + "/api/offer", json={"sdp": OFFER, "type": "offer"}) as response,
    ):
        assert response.status == 200
        answer = await response.json()
    assert answer["type"] == "answer"
    assert answer["pc_id"] in server.host.calls
    for address in server.host.addresses:
        assert f" {address.host} {address.port} typ host" in answer["sdp"]
    assert "a=ice-lite" in answer["sdp"]
    assert answer["pc_id"] not in answer["sdp"], "a call's id is not what is seen on the wire"


async def test_an_offer_as_sdp_gets_an_answer_and_a_location(server: Serving) -> None:
    headers = {"Content-Type": "application/sdp"}
    status, answer, sent = await post(server, "/whip", data=OFFER, headers=headers)
    assert status == 201
    assert answer.startswith("v=0\r\n")
    assert sent["Access-Control-Allow-Origin"] == "*"
    location = "/" + sent["Location"]
    call = server.host.calls[location.rpartition("/")[2]]
    async with aiohttp.ClientSession() as session, session.delete(server.url + location) as response:
        assert response.status == 200
    await call.wait_ended()
    async with aiohttp.ClientSession() as session, session.delete(server.url + location) as response:
        assert response.status == 404


@pytest.mark.parametrize(
    ("path", "request_", "status", "message"),
    [
        ("/api/offer", {"data": "{"}, 400, "not JSON"),
        ("/api/offer", {"data": "[" * 100_000}, 400, "not JSON"),
        ("/api/offer", {"json": [1]}, 400, "not a JSON object"),
        ("/api/offer", {"json": {"type": "offer"}}, 400, "must be"),
        ("/api/offer", {"json": {"sdp": 5, "type": "offer"}}, 400, "must be"),
        ("/api/offer", {"json": {"sdp": OFFER, "type": "answer"}}, 400, "must be"),
        ("/api/offer", {"json": {"sdp": "nonsense", "type": "offer"}}, 400, "not valid SDP"),
        ("/api/offer", {"json": {"sdp": OFFER.replace("a=fingerprint", "a=fingerprnt")}}, 406, "fingerprint"),
        ("/api/offer", {"data": b"\xff\xfe"}, 400, "UTF-8"),
        ("/api/offer", {"data": b"x" * (MAX_BODY + 1)}, 413, "larger than"),
        ("/whip", {"data": OFFER, "headers": {"Content-Type": "text/plain"}}, 415, "application/sdp"),
        ("/whip", {"data": "v=0", "headers": {"Content-Type": "application/sdp"}}, 400, "SDP"),
    ],
)
async def test_what_is_no_offer_is_refused_in_plain_words(
    server: Serving, path: str, request_: dict, status: int, message: str
) -> None:
    got, text, headers = await post(server, path, **request_)
    assert got == status
    assert message in text
    assert "Traceback" not in text
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert server.host.calls == {}


@pytest.mark.parametrize("path", ["/whip", "/whep", "/api/offer", "/v1/realtime/calls"])
@pytest.mark.parametrize(
    ("offer", "words"),
    [
        (
            OFFER.replace("opus/48000/2", "opus/48000").replace("PCM", "PCX").replace(" 0 8 ", " "),
            "theirs: CN/8000",
        ),
        (OFFER.replace("sha-256 ", "sha-1 ").replace(":65:A2:4D", ""), "no fingerprint"),
    ],
)
async def test_an_offer_that_cannot_become_a_call_is_refused_in_every_dialect(
    server: Serving, path: str, offer: str, words: str
) -> None:
    sdp = {"data": offer, "headers": {"Content-Type": "application/sdp"}}
    status, text, _ = await post(server, path, **({"json": {"sdp": offer}} if path == "/api/offer" else sdp))
    assert status == 406
    assert words in text
    assert server.host.calls == {}


async def test_odd_lines_of_an_offer_are_counted_in_its_call(server: Serving) -> None:
    odd = "a=ssrc:99999999999 cname:x\r\na=max-message-size:huge\r\na=\r\n\0"
    status, _, _ = await post(server, "/whip", data=OFFER + odd, headers={"Content-Type": "application/sdp"})
    assert status == 201
    (call,) = server.host.calls.values()
    counters = (await call.stats()).counters
    ignored = {name.rpartition("sdp.ignored_")[2]: n for name, n in counters.items() if "sdp.ignored_" in name}
    assert ignored == {"attribute": 1, "max_message_size": 1, "nul": 1, "ssrc": 1}


async def test_a_preflight_is_answered(server: Serving) -> None:
    async with aiohttp.ClientSession() as session, session.options(server.url + "/api/offer") as response:
        assert response.status == 204
        assert "content-type" in response.headers["Access-Control-Allow-Headers"]


async def test_the_page_and_its_files_are_there(server: Serving) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(server.url + "/") as response:
            assert response.status == 200
            assert response.content_type == "text/html"
        async with session.get(server.url + "/healthz") as response:
            assert (await response.json())["status"] == "ok"
        async with session.get(server.url + "/static/../__init__.py") as response:
            assert response.status == 404


async def test_a_call_that_nobody_picks_up_is_forgotten_when_the_server_stops(server: Serving) -> None:
    await post(server, "/api/offer", json={"sdp": OFFER, "type": "offer"})
    (call,) = server.host.calls.values()
    call.hang_up()
    await call.wait_ended()
    for _ in range(100):
        if not server.host.calls:
            break
        await asyncio.sleep(0)
    assert server.host.calls == {}


async def test_only_the_files_of_the_page_are_public(server: Serving) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(server.url + "/static/app.js") as response:
            assert response.status == 200
            assert response.content_type == "text/javascript"
            assert response.headers["Cache-Control"] == "no-cache"
        async with session.get(server.url + "/static/__init__.py") as response:
            assert response.status == 404
        async with session.get(server.url + "/readyz") as response:
            assert (response.status, await response.json()) == (200, {"status": "ready"})
