"""Pipecat's SmallWebRTC over HTTP, and RTVI on the channel `chat`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import aiohttp
import numpy as np
import pytest

from stack import Call
from stack.aio import HostConfig
from stack.signaling.client import dial
from stack.signaling.pipecat import RtviSession, translate
from stack.signaling.server import ServeConfig, Serving, serving
from stack.voice import events as ev

CANDIDATE = {"candidate": "candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host", "sdp_mid": "0"}


async def request(server: Serving, method: str, body: object) -> tuple[int, dict]:
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, server.url + "/api/offer", json=body) as response,
    ):
        return response.status, await response.json()


def opening(offer: str, **fields: object) -> dict:
    return {"sdp": offer, "type": "offer", "pc_id": None, "restart_pc": False, **fields}


async def test_candidates_come_later_and_a_restart_keeps_the_name(
    server: Serving, offer: str, offers: Iterator[str]
) -> None:
    status, answer = await request(server, "POST", opening(offer))
    assert status == 200
    pc_id = answer["pc_id"]
    (first,) = server.host.calls.values()
    late = {"pc_id": pc_id, "candidates": [CANDIDATE, {"candidate": "", "sdp_mid": "0"}, {"candidate": "junk"}]}
    assert await request(server, "PATCH", late) == (200, {"status": "success"})
    counters = (await first.stats()).counters
    assert any("remote_candidate_malformed" in name for name in counters)
    status, again = await request(server, "POST", opening(next(offers), pc_id=pc_id))
    assert status == 503  # anything but 4xx makes the client come with a new connection
    status, again = await request(server, "POST", opening(offer, pc_id=pc_id, restart_pc=True))
    assert (status, again["pc_id"]) == (200, pc_id)
    await first.wait_ended()
    assert (await request(server, "PATCH", late))[0] == 200
    end = {"pc_id": pc_id, "candidates": [None, {"candidate": None}, {}, {"candidate": "candidate:"}]}
    assert (await request(server, "PATCH", end))[0] == 200
    assert f"a=ice-ufrag:{pc_id}" not in again["sdp"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"pc_id": "none", "candidates": []}, 404),
        ({"pc_id": 5, "candidates": []}, 400),
        ({"pc_id": "x"}, 400),
        ({"pc_id": "x", "candidates": [5]}, 400),
        ({"pc_id": "x", "candidates": [CANDIDATE] * 101}, 400),
    ],
)
async def test_what_is_no_patch_is_refused(server: Serving, body: dict, status: int) -> None:
    assert (await request(server, "PATCH", body))[0] == status


def test_events_become_rtvi() -> None:
    def kinds(event: ev.ConversationEvent) -> list[str]:
        messages = translate(event)
        assert all(message["label"] == "rtvi-ai" and message["id"] for message in messages)
        return [message["type"] for message in messages]

    assert kinds(ev.UserStartedSpeaking(0.0, 50.0)) == ["user-started-speaking"]
    assert kinds(ev.UserStoppedSpeaking(0.0)) == ["user-stopped-speaking"]
    assert kinds(ev.ReplyStarted(1, 20.0)) == ["bot-started-speaking", "bot-tts-started", "metrics"]
    (failed,) = translate(ev.ProgramFailed())
    assert (failed["type"], failed["data"]) == ("error", {"error": "the program failed", "fatal": True})
    assert kinds(ev.ReplyInterrupted(1, 20.0, 30.0)) == ["bot-tts-stopped", "bot-stopped-speaking"]
    assert translate(ev.UserTranscript("hello", True))[0]["data"]["text"] == "hello"
    assert translate(ev.ReplyText(1, "hi"))[0]["data"] == {
        "text": "hi",
        "spoken": True,
        "aggregated_by": "sentence",
    }
    assert translate(ev.UserTranscript("typed", True, 1.0, True)) == []
    (message,) = translate(ev.ProgramMessage({"type": "lamp"}))
    assert (message["type"], message["data"]) == ("server-message", {"type": "lamp"})
    assert translate(ev.UserIdle()) == []


@pytest.mark.real_clock
async def test_a_client_is_ready_types_and_leaves() -> None:
    typed: list[str] = []
    known: list[ev.ContextAdded] = []
    tone = (8000 * np.sin(np.arange(4800) / 4)).astype(np.int16)

    async def program(call: Call) -> None:
        RtviSession(call)
        watching = call.watch()
        async for utterance in call.utterances():
            typed.append(utterance.text)
            while len(watching):
                if isinstance(event := await anext(watching), ev.ContextAdded):
                    known.append(event)
            async with call.reply() as voice:
                voice.write_text("well")
                await voice.write(tone, 16_000)

    async with (
        asyncio.timeout(30),
        serving(program, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server,
        dial(server.url) as placed,
    ):
        await placed.call.wait_connected()
        channel = await placed.call.open_channel("chat")

        async def wait(kind: str) -> dict:
            while (message := json.loads(await anext(channel)))["type"] != kind:
                pass
            return message

        async def say(kind: str, data: dict, name: str = "n1") -> None:
            await channel.send(json.dumps({"label": "rtvi-ai", "type": kind, "id": name, "data": data}))

        await channel.send("ping: 1700000000000")
        await channel.send(json.dumps({"type": "signalling", "message": {"type": "trackStatus"}}))
        await say("client-ready", {"version": "2.1.0"}, "first")
        ready = await wait("bot-ready")
        assert ready["id"] == "first"
        assert ready["data"]["version"].startswith("2.")
        await channel.send("{")
        assert (await wait("error"))["data"]["fatal"] is False
        await say("client-message", {"t": "x"})
        assert (await wait("error-response"))["id"] == "n1"
        for data in ({"content": 5}, {"content": "x", "options": 5}, {"content": " "}, {}):
            await say("send-text", data, "odd")
            assert (await wait("error-response"))["id"] == "odd"
        await say("send-text", {"content": "quiet", "options": {"audio_response": False}}, "quiet")
        assert (await wait("error-response"))["id"] == "quiet"
        await say("send-text", {"content": "it rains", "options": {"run_immediately": False}})
        await say("send-text", {"content": "hello"})
        await wait("bot-started-speaking")
        await wait("bot-tts-started")
        await wait("bot-stopped-speaking")
        await say("disconnect-bot", {})
        await placed.call.wait_ended()
    assert typed == ["hello"]
    assert known == [ev.ContextAdded("user", "it rains")]
