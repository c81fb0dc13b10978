"""OpenAI Realtime over HTTP, a data channel and a WebSocket: our own caller stands where a browser would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import numpy as np
import pytest

from stack import Call
from stack.aio import HostConfig
from stack.signaling.client import DialConfig, dial
from stack.signaling.server import ServeConfig, Serving, serving
from stack.signaling.service import SignalingConfig
from stack.voice.events import ContextAdded, SessionUpdated
from tests.listening import listen

pytestmark = pytest.mark.real_clock

openai_realtime = pytest.importorskip("openai.types.realtime", reason="openai is not installed")
pydantic = pytest.importorskip("pydantic")
SERVER_EVENT = pydantic.TypeAdapter(openai_realtime.RealtimeServerEvent)
FORM = "multipart/form-data"
SDP = {"Content-Type": "application/sdp"}
RATE = 16_000
TONE = (8000 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.int16)


class Events:
    """The client's end of `oai-events`."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.heard: list[dict] = []

    async def open(self) -> None:
        self._channel = await self._call.open_channel("oai-events")

    async def say(self, kind: str, **fields) -> None:
        await self._channel.send(json.dumps({"type": kind, **fields}))

    async def wait(self, kind: str) -> dict:
        while True:
            event = json.loads(await anext(self._channel))
            SERVER_EVENT.validate_python(event, strict=True)
            self.heard.append(event)
            if event["type"] == kind:
                return event


@asynccontextmanager
async def line(
    program: Callable[[Call], Awaitable[None]], **signaling
) -> AsyncIterator[tuple[Serving, Call, Events]]:
    config = ServeConfig(port=0, media=HostConfig(udp_port=0), signaling=SignalingConfig(**signaling))
    async with (
        asyncio.timeout(40),
        serving(program, config) as server,
        dial(server.url + "/v1/realtime/calls", DialConfig()) as placed,
    ):
        await placed.call.wait_connected()
        events = Events(placed.call)
        await events.open()
        yield server, placed.call, events


async def speaker(call: Call) -> None:
    """Answers each turn with two seconds of a tone."""
    async for _ in call.utterances():
        async with call.reply() as voice:
            voice.write_text("one two")
            await voice.write(np.tile(TONE, 2), RATE)


async def test_a_session_is_created_updated_and_answers_text() -> None:
    async with line(speaker) as (_, call, events):
        await events.wait("session.created")
        await events.say("session.update", session={"type": "realtime", "instructions": "be brief"})
        assert (await events.wait("session.updated"))["session"]["instructions"] == "be brief"
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
        await events.say("conversation.item.create", item=item)
        await events.say("response.create")
        started = await events.wait("output_audio_buffer.started")
        frame = await anext(call.microphone)
        assert frame.sample_rate == RATE
        done = await events.wait("response.done")
        assert done["response"]["id"] == started["response_id"]
        assert done["response"]["status"] == "completed"
        await events.wait("output_audio_buffer.stopped")


async def test_the_program_learns_what_the_client_sets_and_adds() -> None:
    heard: list[object] = []

    async def program(call: Call) -> None:
        heard.append(call.session["audio"]["output"]["voice"])
        async for event in call.events:
            if isinstance(event, SessionUpdated | ContextAdded):
                heard.append(event)
                heard.append(call.session["instructions"])

    async with line(program) as (_, _, events):
        await events.wait("session.created")
        await events.say("session.update", session={"instructions": "flat"})
        assert (await events.wait("error"))["error"]["param"] == "session.type"
        await events.say("session.update", session={"type": "realtime", "instructions": "be brief"})
        await events.wait("session.updated")
        item = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "it rains"}]}
        await events.say("conversation.item.create", item=item)
        await events.wait("conversation.item.done")
    voice, updated, instructions, added, _ = heard
    assert (voice, instructions) == ("alloy", "be brief")
    assert isinstance(updated, SessionUpdated)
    assert updated.session["instructions"] == "be brief"
    assert added == ContextAdded("system", "it rains")


async def test_a_response_out_of_band_is_refused_and_nothing_is_said() -> None:
    async with line(speaker) as (_, _, events):
        await events.say(
            "response.create", event_id="aside", response={"conversation": "none", "instructions": "x"}
        )
        refused = await events.wait("error")
        assert (refused["error"]["event_id"], refused["error"]["param"]) == ("aside", "response.conversation")
        await events.say("response.create", response={"instructions": "aloud"})
        await events.wait("response.done")
    assert [event["type"] for event in events.heard].count("output_audio_buffer.started") == 1


async def test_a_manual_turn_is_committed_and_an_empty_one_refused() -> None:
    heard: list[int] = []

    async def program(call: Call) -> None:
        async for utterance in call.utterances():
            heard.append(len(utterance.samples))
            async with call.reply() as voice:
                await voice.write(TONE[:1600], RATE)

    async with line(program) as (_, call, events):
        manual = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
        await events.say("session.update", session=manual)
        await events.wait("session.updated")
        call.speaker.write(TONE, RATE)
        await call.speaker.drained()
        await events.say("input_audio_buffer.commit")
        await events.wait("input_audio_buffer.committed")
        assert heard == []  # no client has asked for a response
        await events.say("response.create")
        assert (await events.wait("response.done"))["response"]["status"] == "completed"
    (length,) = heard
    assert length > 0.6 * RATE


async def test_the_client_interrupts_and_learns_what_was_heard() -> None:
    async with line(speaker) as (_, call, events):
        await events.say("response.create", response={"instructions": "talk"})
        await events.wait("output_audio_buffer.started")
        await listen(call, 0.5)
        await events.say("response.cancel")
        await events.say("output_audio_buffer.clear")
        truncated = await events.wait("conversation.item.truncated")
        assert 100 < truncated["audio_end_ms"] < 1500
        order = [event["type"] for event in events.heard]
        assert order.index("output_audio_buffer.cleared") < order.index("response.done")
        await events.say("conversation.item.retrieve", item_id=truncated["item_id"])
        assert (await events.wait("conversation.item.retrieved"))["item"]["status"] == "incomplete"


async def test_functions_of_the_client_are_typed_tools_of_the_program() -> None:
    answers: list[str] = []

    async def program(call: Call) -> None:
        async for _ in call.utterances():
            (tool,) = call.tools
            assert tool.parameters == {"type": "object"}
            answers.append(await call.call_tool("weather", {"city": "Bonn"}))
            async with call.reply() as voice:
                await voice.write(TONE[:1600], RATE)

    async with line(program) as (_, _, events):
        tool = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
        await events.say("session.update", session={"type": "realtime", "tools": [tool]})
        await events.wait("session.updated")
        await events.say("response.create", response={"instructions": "go"})
        asked = await events.wait("response.function_call_arguments.done")
        assert json.loads(asked["arguments"]) == {"city": "Bonn"}
        await events.wait("response.done")
        output = {"type": "function_call_output", "call_id": asked["call_id"], "output": "rain"}
        await events.say("conversation.item.create", item=output)
        await events.say("response.create")
        done = await events.wait("response.done")
        assert done["response"]["output"][0]["type"] == "message"
    assert answers == ["rain"]


async def test_an_echo_works_unchanged() -> None:
    from stack.agents import echo

    async with line(echo) as (_, call, events):
        await events.wait("session.created")
        call.speaker.write(TONE, RATE)
        sound = []
        async for frame in call.microphone:
            sound.append(frame.samples)
            if sum(map(len, sound)) > RATE // 2:
                break
        assert np.abs(np.concatenate(sound)).max() > 4000
        await events.say("response.create", event_id="e")
        assert (await events.wait("response.done"))["response"]["output"] == []


async def test_a_sideband_hears_and_steers_the_same_session() -> None:
    async with line(speaker) as (server, _, events), aiohttp.ClientSession() as http:
        await events.wait("session.created")
        (call_id,) = server.host.calls
        async with http.ws_connect(f"{server.url}/v1/realtime?call_id=rtc_{call_id}") as socket:
            assert (await socket.receive_json())["type"] == "session.created"
            await socket.send_json(
                {
                    "type": "session.update",
                    "session": {"type": "realtime", "instructions": "from aside"},
                }
            )
            assert (await socket.receive_json())["type"] == "session.updated"
            assert (await events.wait("session.updated"))["session"]["instructions"] == "from aside"
            await socket.send_str("nonsense")
            assert (await socket.receive_json())["type"] == "error"
            async with http.post(f"{server.url}/v1/realtime/calls/rtc_{call_id}/hangup") as response:
                assert response.status == 200
            assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        for url, status in ((f"?call_id=rtc_{'0' * 12}", 404), ("?model=x", 400)):
            async with http.get(f"{server.url}/v1/realtime{url}") as response:
                assert response.status == status


async def post(server: Serving, path: str, **request) -> tuple[int, str, dict[str, str]]:
    async with aiohttp.ClientSession() as session, session.post(server.url + path, **request) as response:
        return response.status, await response.text(), dict(response.headers)


def form(offer: str | None, session: str | None = None) -> aiohttp.FormData:
    data = aiohttp.FormData(default_to_multipart=True)
    if offer is not None:
        data.add_field("sdp", offer, content_type="application/sdp")
    if session is not None:
        data.add_field("session", session, content_type="application/json")
    return data


async def test_an_offer_may_come_with_its_session(server: Serving, offer: str) -> None:
    session = {"type": "realtime", "model": "m", "audio": {"output": {"voice": "ash"}}}
    status, answer, headers = await post(server, "/v1/realtime/calls", data=form(offer, json.dumps(session)))
    assert status == 201
    assert answer.startswith("v=0\r\n")
    assert "a=msid" in answer or " msid:" in answer
    call = server.host.calls[headers["Location"].rpartition("/rtc_")[2]]
    assert call.context.session["audio"]["output"]["voice"] == "ash"


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        (lambda offer: {"data": "v=0", "headers": SDP}, 400, "SDP"),
        (lambda offer: {"data": offer, "headers": {"Content-Type": "text/plain"}}, 415, "application/sdp"),
        (lambda offer: {"data": form(None, "{}")}, 400, "no part named sdp"),
        (lambda offer: {"data": form(offer, "{")}, 400, "not JSON"),
        (lambda offer: {"data": form(offer, '{"type": "transcription"}')}, 400, "realtime"),
        (lambda offer: {"data": form(offer, '{"voice": "ash"}')}, 400, "Unknown parameter: 'session.voice'"),
        (lambda offer: {"data": b"nothing", "headers": {"Content-Type": FORM + "; boundary=x"}}, 400, ""),
        (lambda offer: {"data": b"nothing", "headers": {"Content-Type": FORM}}, 400, ""),
        (lambda offer: {"data": b"x" * 300_000, "headers": SDP}, 413, "larger"),
        (lambda offer: {"data": form("x" * 300_000)}, 413, "larger"),
    ],
)  # fmt: skip
async def test_what_is_no_call_is_refused_as_openai_does(
    server: Serving, offer: str, request_, status: int, message: str
) -> None:
    got, text, _ = await post(server, "/v1/realtime/calls", **request_(offer))
    assert got == status, text
    error = json.loads(text)["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert message in error["message"]
    assert server.host.calls == {}


async def test_client_secrets_are_made_used_and_refused(offer: str) -> None:
    config = ServeConfig(port=0, media=HostConfig(udp_port=0), signaling=SignalingConfig(tokens=("sk-master",)))
    async with serving(speaker, config) as server:
        master = {"Authorization": "Bearer sk-master"}
        status, text, _ = await post(server, "/v1/realtime/client_secrets", json={})
        assert (status, json.loads(text)["error"]["type"]) == (401, "authentication_error")
        body = {
            "expires_after": {"anchor": "created_at", "seconds": 60},
            "session": {"instructions": "secret plan"},
        }
        status, text, _ = await post(server, "/v1/realtime/client_secrets", json=body, headers=master)
        assert status == 200
        made = json.loads(text)
        assert made["value"].startswith("ek_")
        assert made["session"]["instructions"] == "secret plan"
        bearer = {"Authorization": f"Bearer {made['value']}"}
        status, _, headers = await post(server, "/v1/realtime/calls", data=offer, headers={**SDP, **bearer})
        assert status == 201
        (call,) = server.host.calls.values()
        assert call.context.session["instructions"] == "secret plan"
        status, _, _ = await post(server, "/v1/realtime/client_secrets", json={}, headers=bearer)
        assert status == 403
        status, _, _ = await post(server, f"/v1/realtime/{headers['Location']}/hangup", headers=bearer)
        assert status == 200
        for seconds in (9, 7201, "60", True):
            body = {"expires_after": {"seconds": seconds}}
            status, text, _ = await post(server, "/v1/realtime/client_secrets", json=body, headers=master)
            assert (status, json.loads(text)["error"]["param"]) == (400, "expires_after.seconds")
        status, text, _ = await post(
            server, "/v1/realtime/client_secrets", json={"session": {"voice": "ash"}}, headers=master
        )
        assert (status, json.loads(text)["error"]["code"]) == (400, "unknown_parameter")


async def test_where_the_program_passes_events_through_the_session_is_its_models_affair(offer: str) -> None:
    config = ServeConfig(port=0, media=HostConfig(udp_port=0), program_passes_events=True)
    async with serving(speaker, config) as server:
        session = {"type": "realtime", "novelty": 5, "audio": {"output": {"voice": "ash"}}}
        status, _, _ = await post(server, "/v1/realtime/calls", data=form(offer, json.dumps(session)))
        assert status == 201
        (call,) = server.host.calls.values()
        assert call.session["novelty"] == 5
        status, text, _ = await post(server, "/v1/realtime/client_secrets", json={"session": session})
        assert (status, json.loads(text)["session"]["novelty"]) == (200, 5)
