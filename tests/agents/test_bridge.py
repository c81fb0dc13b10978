"""The bridge between our caller and a scripted model."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import pytest

from stack import Call
from stack.agents import AudioFormat, BridgeConfig, bridge
from stack.aio import HostConfig
from stack.audio import G711Encoder, G711Law
from stack.core.errors import LocalError
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, serving
from stack.voice.conversation import ConversationConfig
from tests.agents.upstream import RATE, Upstream, scripted, tone

pytestmark = pytest.mark.real_clock

KEY = "sk-that-the-browser-never-sees"


class Browser:
    """A caller and its `oai-events`."""

    def __init__(self, call: Call, channel: Any) -> None:
        self.call, self._channel = call, channel
        self.heard: list[dict] = []

    async def say(self, kind: str, **fields: Any) -> None:
        await self._channel.send(json.dumps({"type": kind, **fields}))

    async def say_raw(self, message: str | bytes) -> None:
        await self._channel.send(message)

    async def wait(self, kind: str) -> dict:
        while True:
            text = await anext(self._channel)
            assert KEY not in text
            self.heard.append(json.loads(text))
            if self.heard[-1]["type"] == kind:
                return self.heard[-1]

    async def voiced(self, seconds: float) -> float:
        """Seconds of sound among what is heard in so much time."""
        loud = 0
        count = 0
        async with asyncio.timeout(seconds + 10):
            async for frame in self.call.microphone:
                count += len(frame.samples)
                loud += int(np.abs(frame.samples).max() > 1000) * len(frame.samples)
                if count >= seconds * frame.sample_rate:
                    break
        return loud / 16_000


@asynccontextmanager
async def bridged(**settings: Any) -> AsyncIterator[tuple[Upstream, Browser]]:
    conversation = ConversationConfig(microphone_rate=24_000)
    media = HostConfig(udp_port=0, conversation=conversation)
    async with asyncio.timeout(60), scripted() as upstream:
        refuse = settings.pop("refuse_with", None)
        upstream.refuse_with = refuse
        program = bridge(BridgeConfig(upstream.url, key=KEY, first_delay=0.05, **settings))
        config = ServeConfig(port=0, media=media, program_passes_events=True)
        async with (
            serving(program, config) as server,
            dial(server.url + "/v1/realtime/calls") as placed,
        ):
            await placed.call.wait_connected()
            channel = await placed.call.open_channel("oai-events")
            yield upstream, Browser(placed.call, channel)


async def test_sound_and_events_pass_both_ways_and_the_key_does_not() -> None:
    async with bridged(session={"instructions": "be kind"}) as (upstream, browser):
        first = await upstream.wait_for("session.update")
        assert first["session"]["instructions"] == "be kind"
        assert first["session"]["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": RATE}
        assert upstream.keys == [f"Bearer {KEY}"]
        await browser.wait("session.updated")
        await browser.say("session.update", session={"voice": "x"}, event_id="mine")
        assert (await browser.wait("session.updated"))["session"]["voice"] == "x"
        browser.call.speaker.write(tone(1.0, 500.0), RATE)
        await upstream.wait_for_audio(RATE * 2)
        heard = np.frombuffer(bytes(upstream.audio), "<i2").astype(float)[RATE // 4 :]
        peak = np.argmax(np.abs(np.fft.rfft(heard))) * RATE / len(heard)
        assert peak == pytest.approx(500, abs=5)
        await upstream.speak(tone(0.6).tobytes())
        await browser.wait("output_audio_buffer.started")
        await browser.wait("output_audio_buffer.stopped")
        assert "response.done" in [event["type"] for event in browser.heard]
        assert not any("output_audio.delta" in event["type"] for event in browser.heard)


async def test_what_is_no_event_is_refused_and_the_next_is_heard() -> None:
    async with bridged() as (_, browser):
        for message in ("[" * 50_000, b"\xff", "[]"):
            await browser.say_raw(message)
            assert (await browser.wait("error"))["error"]["code"] == "invalid_event"
        await browser.say("session.update", session={"voice": "x"})
        while (await browser.wait("session.updated"))["session"].get("voice") != "x":
            pass


async def test_an_interruption_by_the_model_truncates_at_what_was_heard() -> None:
    async with bridged() as (upstream, browser):
        await upstream.wait_for("session.update")
        await upstream.speak(tone(8.0).tobytes())  # faster than real time
        await browser.wait("output_audio_buffer.started")
        await browser.voiced(1.0)
        await upstream.send("input_audio_buffer.speech_started", item_id="item_2", audio_start_ms=100)
        truncate = await upstream.wait_for("conversation.item.truncate")
        assert (truncate["item_id"], truncate["content_index"]) == ("item_1", 0)
        await browser.wait("output_audio_buffer.cleared")
        assert 600 < truncate["audio_end_ms"] < 2000


async def test_what_was_heard_is_what_arrived() -> None:
    async with bridged() as (upstream, browser):
        await upstream.wait_for("session.update")
        await upstream.speak(tone(8.0).tobytes())
        loud = 0
        while loud < 16_000:
            loud += await _loud_samples(browser)
        await upstream.send("input_audio_buffer.speech_started", item_id="i", audio_start_ms=0)
        truncate = await upstream.wait_for("conversation.item.truncate")
        with suppress(TimeoutError):  # until nothing more comes
            while True:
                loud += await asyncio.wait_for(_loud_samples(browser), 0.2)
        arrived = 1000 * loud / 16_000
        # A browser's buffer is taken to hold back 80 ms; our caller has none.
        assert truncate["audio_end_ms"] == pytest.approx(arrived - 80, abs=40)


async def _loud_samples(browser: Browser) -> int:
    frame = await anext(browser.call.microphone)
    return len(frame.samples) if np.abs(frame.samples).max() > 1000 else 0


async def test_the_stack_may_decide() -> None:
    async with bridged(turns="stack") as (upstream, browser):
        first = await upstream.wait_for("session.update")
        assert first["session"]["audio"]["input"]["turn_detection"] is None
        await upstream.speak(tone(5.0).tobytes())
        await browser.wait("output_audio_buffer.started")
        await browser.say("output_audio_buffer.clear")
        truncate = await upstream.wait_for("conversation.item.truncate")
        assert truncate["audio_end_ms"] < 2000
        await browser.wait("output_audio_buffer.cleared")


async def test_a_broken_connection_is_made_again_with_the_last_session() -> None:
    async with bridged() as (upstream, browser):
        await upstream.wait_for("session.update")
        await browser.say("session.update", session={"instructions": "later"})
        await upstream.wait_for("session.update", instructions="later")
        upstream.received.clear()
        assert upstream.socket is not None
        await upstream.socket.close()
        assert (await browser.wait("error"))["error"]["code"] == "upstream_reconnecting"
        again = await upstream.wait_for("session.update")
        assert again["session"]["instructions"] == "later"
        assert upstream.connections == 2


async def test_a_refusal_ends_the_call() -> None:
    async with bridged(refuse_with=401) as (upstream, browser):
        await browser.call.wait_ended()
        assert len(upstream.keys) == 1


async def test_functions_are_called_here() -> None:
    asked: list[Mapping[str, Any]] = []

    async def weather(arguments: Mapping[str, Any]) -> str:
        asked.append(arguments)
        return "rain"

    async with bridged(tools={"weather": weather}) as (upstream, _):
        await upstream.wait_for("session.update")
        item = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Bonn"}'}
        await upstream.send("response.done", response={"id": "r", "status": "completed", "output": [item]})
        created = await upstream.wait_for("conversation.item.create")
        assert created["item"] == {"type": "function_call_output", "call_id": "c1", "output": "rain"}
        await upstream.wait_for("response.create")
    assert asked == [{"city": "Bonn"}]


async def test_a_microphone_that_sends_nothing_is_silence_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its turn detection counts the sound that it is sent: without any, no turn would ever end."""
    monkeypatch.setattr(sys.modules["stack.agents.bridge"], "ABSENT_AFTER", 0.04)
    async with bridged() as (upstream, browser):
        await upstream.wait_for("session.update")
        browser.call.speaker.write(tone(0.3, 500.0), RATE)
        after = 0.0  # seconds of silence behind the tone
        while after < 0.2:
            await upstream.wait_for_audio(len(upstream.audio) + 2)
            heard = np.frombuffer(bytes(upstream.audio), "<i2")
            (loud,) = np.nonzero(np.abs(heard) > 1000)
            after = (len(heard) - loud[-1]) / RATE if len(loud) else 0.0
        assert len(loud) > 0.2 * RATE


async def test_g711_towards_the_model() -> None:
    async with bridged(format=AudioFormat.PCMU) as (upstream, browser):
        first = await upstream.wait_for("session.update")
        assert first["session"]["audio"]["output"]["format"] == {"type": "audio/pcmu"}
        samples = tone(1.0)[::3].astype(np.int16)
        await upstream.speak(G711Encoder(G711Law.PCMU).encode(samples))
        assert await browser.voiced(0.5) > 0.3
        browser.call.speaker.write(tone(0.5), RATE)
        await upstream.wait_for_audio(2000)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(LocalError, match="wss"):
        BridgeConfig("ftp://x")
    with pytest.raises(LocalError, match="client"):
        BridgeConfig("wss://x", turns="client")
    assert KEY not in repr(BridgeConfig("wss://x", key=KEY))
