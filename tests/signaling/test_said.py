"""One way to say what was said: the same program, and the same words at clients of every dialect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest

from stack import Call
from stack.aio import HostConfig
from stack.signaling.client import DialConfig, dial
from stack.signaling.server import ServeConfig, Serving, serving
from stack.voice import TurnSettings
from stack.voice.conversation import ConversationConfig
from tests.listening import until
from tests.signaling.said import CLIENTS, FAIL, SAID, SPOKEN, TYPED, Client, OpenAiClient, SaysAll, expected

pytestmark = pytest.mark.real_clock

RATE = 16_000
AT = np.arange(round(0.8 * RATE)) / RATE
VOICE = (3000 * sum(np.sin(2 * np.pi * 200 * k * AT) / k for k in range(1, 6))).astype(np.int16)
HUSH = np.random.default_rng(1).normal(0, 10, RATE).astype(np.int16)


@asynccontextmanager
async def calling(program: SaysAll, kind: type[Client]) -> AsyncIterator[tuple[Client, Serving, str]]:
    """A client of a kind on the line to a server that runs `program`."""
    turns = TurnSettings(silence_duration_ms=300)
    media = HostConfig(udp_port=0, conversation=ConversationConfig(detector="energy", echo="off", turns=turns))

    async def prepared(call: Call) -> None:
        kind.prepare(call)
        await program(call)

    async with (
        asyncio.timeout(60),
        serving(prepared, ServeConfig(port=0, media=media)) as server,
        dial(server.url + kind.path, DialConfig()) as placed,
    ):
        await placed.call.wait_connected()
        client = kind(placed.call)
        await client.open()
        if kind is OpenAiClient:  # the client's rules, not the server's
            detection = {"type": "server_vad", "silence_duration_ms": 300}
            session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
            await client.send({"type": "session.update", "session": session})
        yield client, server, next(iter(server.host.calls))


async def speak(client: Client) -> None:
    call = client._call
    call.speaker.write(np.concatenate([HUSH, VOICE, HUSH, HUSH]), RATE)
    await call.speaker.drained()


@pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.__name__)
async def test_every_client_is_told_the_same(kind: type[Client]) -> None:
    program = SaysAll()
    async with calling(program, kind) as (client, _, _):
        await speak(client)
        await until(lambda: client.notes.count(("silent",)) == 1)
        await client.type(TYPED)
        await until(lambda: client.notes.count(("silent",)) == 2)
        await client.type(FAIL)
        await client._call.wait_ended()
        await until(lambda: ("failed",) in client.notes)
    assert [note for note in client.notes if note[0] in SAID] == expected(kind)
    assert program.taken == [(SPOKEN, False), (TYPED, True), (FAIL, True)]
    assert program.noted == program.taken


async def test_what_is_typed_is_an_item_and_takes_no_transcript_of_another() -> None:
    openai_realtime = pytest.importorskip("openai.types.realtime", reason="openai is not installed")
    pydantic = pytest.importorskip("pydantic")
    known = pydantic.TypeAdapter(openai_realtime.RealtimeServerEvent)
    async with (
        calling(SaysAll(), OpenAiClient) as (client, server, call_id),
        aiohttp.ClientSession() as http,
        http.ws_connect(server.url + f"/v1/realtime?call_id={call_id}") as beside,
    ):
        await speak(client)
        await until(lambda: client.notes.count(("silent",)) == 1)
        await client.type(TYPED)
        await until(lambda: client.notes.count(("silent",)) == 2)
        # a second client that types on the `events` channel of the same call
        channel = await client._call.open_channel("events")
        await channel.send(json.dumps({"type": "text", "text": "on the page"}))
        await until(lambda: client.notes.count(("silent",)) == 3)
        told: list[dict[str, Any]] = []
        while [each["type"] for each in told].count("output_audio_buffer.stopped") < 3:
            told.append(await beside.receive_json(timeout=10))
    for event in told:
        if event["type"] != "program.message":
            known.validate_python(event, strict=True)
    added = [each["item"]["content"] for each in told if each["type"] == "conversation.item.added"]
    done = [each["item"] for each in told if each["type"] == "conversation.item.done"]
    assert [part for (part,) in added[::2]] == [
        {"type": "input_audio", "transcript": None},
        {"type": "input_text", "text": TYPED},
        {"type": "input_text", "text": "on the page"},
    ]
    assert [item["role"] for item in done] == ["user", "assistant"] * 3
    completed = [each for each in told if each["type"].endswith("transcription.completed")]
    assert [(each["item_id"], each["transcript"]) for each in completed] == [(done[0]["id"], SPOKEN)]
