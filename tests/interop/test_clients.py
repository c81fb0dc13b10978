"""The clients that people use, from npm and unchanged, in Chromium against our server."""

from __future__ import annotations

import asyncio
import json
import wave
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from interop.browsers import Browser, available, launch, loopback_namespace
from interop.peers import clients
from stack import Call
from stack.agents import BridgeConfig, bridge
from stack.aio import HostConfig
from stack.audio import read_wav
from stack.signaling import SignalingConfig
from stack.signaling.server import ServeConfig, Serving, serving
from stack.voice.conversation import ConversationConfig
from tests.agents.upstream import RATE, scripted, tone
from tests.listening import until
from tests.signaling import said

pytestmark = [pytest.mark.browser, pytest.mark.peer, pytest.mark.slow, pytest.mark.xdist_group("clients")]

SPEECH = Path("/usr/share/pocketsphinx/test/data/librivox")
TONE = (9000 * np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000)).astype(np.int16)


@pytest.fixture
def bundle() -> Iterator[None]:
    """The clients are there, and from here on there is no network but loopback."""
    if "chromium" not in {browser.name for browser in available()}:
        pytest.skip("Chromium is not installed here: no client was tried")
    if not clients.available():
        pytest.skip("node and npm are not installed here: no client was tried")
    clients.build()
    with loopback_namespace():
        yield


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A microphone that is silent for six seconds, says a sentence, and is silent again."""
    files = sorted(SPEECH.glob("sense_and_sensibility*0870.wav"))
    if not files:
        pytest.skip("no recorded speech here (Debian: pocketsphinx-testdata): no client was tried")
    samples, rate = read_wav(files[0])
    path = tmp_path / "microphone.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        silence = np.zeros(6 * rate, np.int16)
        file.writeframes(np.concatenate([silence, samples[: 3 * rate], silence, silence]).tobytes())
    return path


@asynccontextmanager
async def visiting(
    program: Callable[[Call], Awaitable[None]], microphone: Path | None = None, **signaling: object
) -> AsyncIterator[tuple[Serving, Browser]]:
    config = ServeConfig(
        port=0, media=HostConfig(udp_port=0), signaling=SignalingConfig(**{"origins": ("*",), **signaling})
    )
    async with (
        serving(program, config) as server,
        clients.page() as url,
        launch("chromium", audio_file=microphone, loop_audio=False) as browser,
    ):
        await browser.goto(url)
        yield server, browser


async def assistant(call: Call) -> None:
    """Answers at length; asks the client for the weather when that word is typed."""
    async for utterance in call.utterances():
        words = "ten seconds of a tone"
        if utterance.text == "weather":
            words = await call.call_tool("weather", {"city": "Bonn"})
        elif not utterance.text:
            call.transcribed("something that was said")
        async with call.reply() as voice:
            voice.write_text(words)
            await voice.write(np.tile(TONE, 20), 16_000)


OPENAI = """(async () => {
  const { RealtimeAgent, RealtimeSession, OpenAIRealtimeWebRTC, tool } = clients;
  const asked = [], seen = [], errors = [];
  const weather = tool({ name: "weather", description: "the weather", strict: false,
    parameters: { type: "object", properties: { city: { type: "string" } },
      required: [], additionalProperties: true },
    execute: async args => { asked.push(args); return "rain"; } });
  const agent = new RealtimeAgent({ name: "guide", instructions: "be brief", tools: [weather] });
  const transport = new OpenAIRealtimeWebRTC({ baseUrl: %(url)s });
  const session = new RealtimeSession(agent, { transport, tracingDisabled: true,
    config: { audio: { input: { turnDetection: { type: "server_vad", silenceDurationMs: 400 } } } } });
  transport.on("*", event => seen.push(event));
  session.on("error", error => errors.push(JSON.stringify(error)));
  const until = async (what, test, seconds = 25) => {
    for (const end = Date.now() + seconds * 1000; Date.now() < end;) {
      const found = test();
      if (found) return found;
      await new Promise(resolve => setTimeout(resolve, 20));
    }
    throw new Error(`no ${what}; seen: ${seen.map(event => event.type).join(" ")}; errors: ${errors.join(" ")}`);
  };
  const count = type => seen.filter(event => event.type === type).length;
  await session.connect({ apiKey: "ek_test" });
  session.sendMessage("weather");
  await until("tool call", () => asked.length);
  await until("reply", () => count("output_audio_buffer.started") === 1);
  const truncated = await until("barge-in",
    () => seen.find(event => event.type === "conversation.item.truncated"));
  await until("retrieved", () => count("conversation.item.retrieved"));
  await until("second reply", () => count("output_audio_buffer.started") === 2);
  await new Promise(resolve => setTimeout(resolve, 500));
  session.interrupt();
  await until("interrupted", () => count("conversation.item.truncated") === 2);
  await until("last retrieved", () => count("conversation.item.retrieved") >= 3);
  const history = session.history.map(item => [item.type, item.role ?? item.name, item.status,
    item.content?.[0]?.transcript ?? item.content?.[0]?.text ?? item.output ?? null]);
  session.updateHistory(session.history.filter(item => item.role !== "assistant"));
  await until("deleted", () => count("conversation.item.deleted") >= 2);
  const types = seen.map(event => event.type);
  session.close();
  return { asked, errors, history, types, truncated: truncated.audio_end_ms,
    done: seen.filter(event => event.type === "response.done").map(event => event.response) };
})()"""


async def test_openai_agents_realtime(bundle: None, speech: Path) -> None:
    """Connect, update, type, a function, talk, be interrupted by voice and by command, history."""
    async with visiting(assistant, speech) as (server, browser):
        url = json.dumps(server.url + "/v1/realtime/calls")
        told = await browser.evaluate(OPENAI % {"url": url}, timeout=80)
        assert told["asked"] == [{"city": "Bonn"}]
        assert told["errors"] == []
        assert told["types"].index("session.created") < told["types"].index("session.updated")
        first = told["types"].index("conversation.item.truncated")
        before = told["types"][:first]
        assert before.index("input_audio_buffer.speech_started") < before.index("output_audio_buffer.cleared")
        assert 200 < told["truncated"] < 8000
        reasons = [done["status_details"].get("reason") for done in told["done"]]
        assert "turn_detected" in reasons
        assert reasons[-1] == "client_cancelled"
        kinds = [(kind, who) for kind, who, *_ in told["history"]]
        assert ("message", "user") in kinds
        assert ("function_call", "weather") in kinds
        assert ("message", "assistant") in kinds
        assert "something that was said" in [text for *_, text in told["history"]]
        assert browser.errors == []


PIPECAT = """(async () => {
  const { PipecatClient, SmallWebRTCTransport, Microphone } = clients;
  const seen = [];
  const transport = new SmallWebRTCTransport({ mediaManager: new Microphone() });
  const note = name => data => seen.push([name, data ?? null]);
  const client = new PipecatClient({ transport, enableMic: true, enableCam: false, callbacks: {
    onBotStartedSpeaking: note("bot started"), onBotStoppedSpeaking: note("bot stopped"),
    onUserStartedSpeaking: note("user started"), onUserStoppedSpeaking: note("user stopped"),
    onUserTranscript: note("transcript"), onBotOutput: note("output"), onError: note("error") } });
  const until = async (what, test, seconds = 25) => {
    for (const end = Date.now() + seconds * 1000; Date.now() < end;) {
      const found = test();
      if (found) return found;
      await new Promise(resolve => setTimeout(resolve, 20));
    }
    throw new Error(`no ${what}; seen: ${JSON.stringify(seen)}`);
  };
  const count = name => seen.filter(([kind]) => kind === name).length;
  const ready = await client.connect({ webrtcRequestParams: { endpoint: %(url)s } });
  client.sendText("hello");
  await until("reply", () => count("bot started"));
  await until("barge-in", () => count("user started"));
  await until("silence", () => count("bot stopped"));
  await until("transcript", () => count("transcript"));
  await until("second reply", () => count("bot started") === 2);
  const state = client.state;
  await client.disconnect();
  return { ready, state, seen };
})()"""


async def test_pipecat(bundle: None, speech: Path) -> None:
    """Bot-ready, type, talk, interrupt, and leave."""
    async with visiting(assistant, speech) as (server, browser):
        url = json.dumps(server.url + "/api/offer")
        told = await browser.evaluate(PIPECAT % {"url": url}, timeout=80)
        assert told["ready"]["version"].startswith("2.")
        assert told["state"] == "ready"
        names = [name for name, _ in told["seen"]]
        assert "error" not in names
        assert names.index("bot started") < names.index("user started") < names.index("bot stopped")
        outputs = [data["text"] for name, data in told["seen"] if name == "output"]
        assert outputs[0] == "ten seconds of a tone"
        for call in list(server.host.calls.values()):
            await asyncio.wait_for(call.wait_ended(), 10)


UNTIL = """const until = async (what, test, seconds = 30) => {
    for (const end = Date.now() + seconds * 1000; Date.now() < end;) {
      if (test()) return;
      await new Promise(resolve => setTimeout(resolve, 20));
    }
    throw new Error(`no ${what}; told: ${JSON.stringify(told)}`);
  };
  const count = type => told.filter(message => message.type === type).length;"""
SAYS_IT_ALL = """
  await until("answer to what was spoken", () => count(silent) === 1);
  type("what was typed");
  await until("answer to what was typed", () => count(silent) === 2);
  type("fail");
  await until("failure", () => failed());
  return told;"""
ON_THE_PAGE = f"""(async () => {{
  const told = [], silent = "reply_finished", failed = () => count("program_failed");
  {UNTIL}
  for (const type of ["transcript", "lamp", "reply_finished", "program_failed"])
    voiceStack.on(type, message => told.push(message));
  const type = text => {{
    document.getElementById("type").value = text;
    document.querySelector("#type-form button").click();
  }};
  document.getElementById("call").click();
  {SAYS_IT_ALL}
}})()"""
BY_OPENAI = f"""(async () => {{
  const told = [], silent = "output_audio_buffer.stopped", failed = () => count("error");
  {UNTIL}
  const transport = new clients.OpenAIRealtimeWebRTC({{ baseUrl: %(url)s }});
  const agent = new clients.RealtimeAgent({{ name: "guide", instructions: "be brief" }});
  const session = new clients.RealtimeSession(agent, {{ transport, tracingDisabled: true,
    config: {{ audio: {{ input: {{ turnDetection: {{ type: "server_vad", silenceDurationMs: 500 }} }} }} }} }});
  transport.on("*", event => told.push(event));
  session.on("error", () => undefined);
  const type = text => session.sendMessage(text);
  await session.connect({{ apiKey: "ek_test" }});
  {SAYS_IT_ALL}
}})()"""
BY_PIPECAT = f"""(async () => {{
  const told = [], silent = "bot-stopped-speaking", failed = () => count("error");
  {UNTIL}
  const note = type => data => told.push({{ type, data: data ?? null }});
  const transport = new clients.SmallWebRTCTransport({{ mediaManager: new clients.Microphone() }});
  const client = new clients.PipecatClient({{ transport, enableMic: true, enableCam: false, callbacks: {{
    onBotStoppedSpeaking: note("bot-stopped-speaking"), onUserTranscript: note("user-transcription"),
    onBotOutput: note("bot-output"), onServerMessage: note("server-message"),
    onError: message => told.push(message) }} }});
  const type = text => client.sendText(text);
  await client.connect({{ webrtcRequestParams: {{ endpoint: %(url)s }} }});
  {SAYS_IT_ALL}
}})()"""


@pytest.mark.parametrize(
    ("kind", "script"),
    [(said.Client, ON_THE_PAGE), (said.OpenAiClient, BY_OPENAI), (said.PipecatClient, BY_PIPECAT)],
    ids=["page", "openai", "pipecat"],
)
async def test_one_program_says_the_same_to_every_client(
    kind: type[said.Client], script: str, bundle: None, speech: Path
) -> None:
    """Spoken, typed, a message of the program's own, and its failure: see `tests/signaling/said.py`."""
    program = said.SaysAll()
    async with visiting(program, speech) as (server, browser):
        if kind is said.Client:
            await browser.goto(server.url)
        url = json.dumps(server.url + kind.path)
        told = await browser.evaluate(script.replace("%(url)s", url), timeout=90)
    notes = [note for message in told for note in kind.understand(message) if note[0] in said.SAID]
    assert notes == said.expected(kind)
    assert program.taken == [(said.SPOKEN, False), (said.TYPED, True), (said.FAIL, True)]
    assert program.noted == program.taken


WHIP = """(async () => {
  const { WHIPClient } = clients;
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const requests = [];
  const original = window.fetch;
  window.fetch = async (input, init) => {
    const response = await original(input, init);
    requests.push([init?.method ?? "GET", response.status]);
    return response;
  };
  const client = new WHIPClient({ endpoint: %(url)s, opts: { authkey: "letmein", iceServers: [] } });
  await client.ingest(stream);
  for (let tries = 0; tries < 500 && client.peer.connectionState !== "connected"; tries++)
    await new Promise(resolve => setTimeout(resolve, 20));
  const state = client.peer.connectionState;
  await new Promise(resolve => setTimeout(resolve, 1500));
  const links = await client.getResourceExtensions();
  await client.destroy();
  return { state, requests, links };
})()"""


async def test_eyevinn_whip(bundle: None) -> None:
    """Publish with a token, trickle, and delete."""
    heard: list[int] = []

    async def listener(call: Call) -> None:
        async for frame in call.microphone:
            heard.append(int(np.abs(frame.samples).max()))

    signaling = {"tokens": ("letmein",), "ice_servers": ("stun:stun.example",)}
    async with visiting(listener, **signaling) as (server, browser):
        told = await browser.evaluate(WHIP % {"url": json.dumps(server.url + "/whip")}, timeout=60)
        assert told["state"] == "connected"
        assert ["POST", 201] in told["requests"]
        assert ["PATCH", 204] in told["requests"]
        assert told["requests"][-1] == ["DELETE", 200]
        assert all(status < 300 for _, status in told["requests"])
        assert told["links"] == ['<stun:stun.example>; rel="ice-server"']
        await until(lambda: not server.host.calls)
        assert server.host.calls == {}
    assert max(heard) > 500


BRIDGED = """(async () => {
  const pc = new RTCPeerConnection();
  const channel = pc.createDataChannel("oai-events");
  const seen = [];
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  pc.addTrack(stream.getAudioTracks()[0], stream);
  const context = new AudioContext({ sampleRate: 48000 });
  await context.audioWorklet.addModule(URL.createObjectURL(new Blob([`
    registerProcessor("meter", class extends AudioWorkletProcessor {
      process([input]) {
        const sound = input[0];
        if (sound) {
          let loudest = 0;
          for (const sample of sound) loudest = Math.max(loudest, Math.abs(sample));
          this.loud = (this.loud ?? 0) + (loudest > 0.02 ? sound.length : 0);
          this.port.postMessage(this.loud);
        }
        return true;
      }
    });`], { type: "text/javascript" })));
  let loud = 0;  // samples that went through the graph; the loudspeaker is `outputLatency` behind it
  window.played = () => Math.max(0, loud / 48 - 1000 * context.outputLatency);
  pc.ontrack = ({ streams }) => {
    const element = new Audio();
    element.srcObject = streams[0];
    element.muted = true;
    element.play();
    const meter = new AudioWorkletNode(context, "meter");
    meter.port.onmessage = ({ data }) => { loud = data; };
    context.createMediaStreamSource(streams[0]).connect(meter);
  };
  channel.onmessage = ({ data }) => {
    seen.push(JSON.parse(data));
    if (seen.at(-1).type === "output_audio_buffer.cleared") window.playedAtTheWord = window.played();
  };
  await pc.setLocalDescription();
  const response = await fetch(%(url)s, { method: "POST", headers: { "Content-Type": "application/sdp" },
    body: pc.localDescription.sdp });
  await pc.setRemoteDescription({ type: "answer", sdp: await response.text() });
  window.told = () => seen.map(event => event.type);
  return response.status;
})()"""


async def test_the_bridge_tells_the_model_what_the_browser_played(bundle: None, tone_file: Path) -> None:
    async with scripted() as upstream, clients.page() as url:
        program = bridge(BridgeConfig(upstream.url, key="sk-hidden"))
        media = HostConfig(udp_port=0, conversation=ConversationConfig(microphone_rate=24_000))
        anywhere = SignalingConfig(origins=("*",))
        config = ServeConfig(port=0, media=media, signaling=anywhere, program_passes_events=True)
        async with (
            serving(program, config) as server,
            launch("chromium", audio_file=tone_file) as browser,
        ):
            await browser.goto(url)
            assert await browser.evaluate(BRIDGED % {"url": json.dumps(server.url + "/v1/realtime/calls")}) == 201
            await upstream.wait_for_audio(RATE)
            await upstream.speak(tone(12.0).tobytes())
            await browser.wait_for("played() > 3000")
            await upstream.send("input_audio_buffer.speech_started", item_id="i", audio_start_ms=0)
            truncate = await upstream.wait_for("conversation.item.truncate")
            # A client falls silent when it is told to; what is in its buffer then was not heard.
            at_the_word = await browser.wait_for("window.playedAtTheWord")
            assert "sk-hidden" not in json.dumps(await browser.evaluate("told()"))
    print(f"truncated at {truncate['audio_end_ms']} ms, the browser had played {at_the_word:.0f} ms")
    assert truncate["audio_end_ms"] == pytest.approx(at_the_word, abs=40)
