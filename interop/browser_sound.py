"""Recorded speech both ways between Chromium and a program, through an impaired network: what each end hears.

Up: Chromium's fake microphone plays a WAV, the program keeps what `Call.microphone` gives it, each frame at its
media time. Down: the program speaks the same sound, the page records the track with a MediaRecorder in PCM, which
takes what Chromium's own jitter buffer and decoder play. The media go through `interop.impair`; nothing else does.

Two things about a headless Chromium: the fake microphone begins when it is opened and not when the call is
connected, so what is compared is found by correlation; and a page's sound is only played, and so decoded, if an
audio element asks for it.

Left out: Firefox, whose fake microphone cannot play a file.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web

from interop.browsers import Browser, launch
from interop.impair import ImpairedRelay
from interop.network_model import NetworkModel
from interop.redirect import rewrite_candidates
from interop.web_page import on_loopback
from stack.aio import Call, Host, HostConfig
from stack.audio import Samples
from stack.session import Connected
from stack.voice.conversation import ConversationConfig
from stack.voice.statistics import CallStatistics

RATE = 16_000
CONNECT_TIMEOUT = 20.0
SETTLE = 0.5
"""Seconds after the connection from which Chromium's figures count."""

_PAGE = "<!doctype html><meta charset=utf-8><title>sound</title><audio autoplay></audio>"

_CONNECT = """(async () => {
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: plain });
  const pc = window.pc = new RTCPeerConnection();
  pc.addTrack(microphone.getAudioTracks()[0], microphone);
  pc.ontrack = event => {
    window.remote = new MediaStream([event.track]);
    document.querySelector("audio").srcObject = remote;
  };
  await pc.setLocalDescription();
  const response = await fetch("offer", { method: "POST", body: pc.localDescription.sdp });
  await pc.setRemoteDescription({ type: "answer", sdp: await response.text() });
  while (pc.connectionState !== "connected") {
    if (pc.connectionState === "failed") throw new Error("the connection failed");
    await new Promise(resolve => setTimeout(resolve, 20));
  }
  return true;
})()"""

_LISTEN = """(async () => {
  const inbound = async () => {
    for (const part of (await pc.getStats()).values())
      if (part.type === "inbound-rtp" && part.kind === "audio") return part;
    return {};
  };
  const wait = seconds => new Promise(resolve => setTimeout(resolve, 1000 * seconds));
  const recorder = new MediaRecorder(remote, { mimeType: "audio/webm;codecs=pcm" }), parts = [];
  recorder.ondataavailable = event => parts.push(event.data);
  recorder.start();
  await wait(%(settle)f);
  const before = await inbound();
  await wait(%(seconds)f);
  const after = await inbound();
  await new Promise(resolve => { recorder.onstop = resolve; recorder.stop(); });
  const bytes = await new Blob(parts).arrayBuffer();
  const sound = await new OfflineAudioContext(1, %(rate)d, %(rate)d).decodeAudioData(bytes);
  const samples = Int16Array.from(sound.getChannelData(0), x => Math.max(-32768, Math.min(32767, 32768 * x)));
  const raw = new Uint8Array(samples.buffer);
  let text = "";
  for (let at = 0; at < raw.length; at += 32768)
    text += String.fromCharCode(...raw.subarray(at, at + 32768));
  return { before, after, sound: btoa(text) };
})()"""


@dataclass(frozen=True, slots=True)
class ReceivedSound:
    """What one end heard."""

    sound: Samples
    """At `RATE`."""
    concealed: float
    """Which share was made up for what was lost, 0 … 1."""
    delay: float
    """Seconds that the receiver added on average, from a packet's arrival to its sound."""
    packets_lost: int


@dataclass(frozen=True, slots=True)
class Result:
    """One call, both ways."""

    program: ReceivedSound
    browser: ReceivedSound
    statistics: CallStatistics
    relay: dict[str, Any]


def without_red(offer: str) -> str:
    """Return an offer in which redundancy (RFC 2198) does not occur."""
    numbers = [
        line[9:].split()[0] for line in offer.splitlines() if line.startswith("a=rtpmap:") and " red/" in line
    ]
    kept = []
    for line in offer.splitlines():
        if line.startswith("m=audio"):
            line = " ".join(field for index, field in enumerate(line.split()) if index < 3 or field not in numbers)
        if not any(line.startswith((f"a=rtpmap:{n} ", f"a=fmtp:{n} ", f"a=rtcp-fb:{n} ")) for n in numbers):
            kept.append(line)
    return "\r\n".join(kept) + "\r\n"


class _Program:
    """Speaks the sound as soon as there is a call, and keeps what it hears."""

    def __init__(self, sound: Samples) -> None:
        self._sound = sound
        self.call: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        self.heard: Samples = np.zeros(0, np.int16)

    async def __call__(self, call: Call) -> None:
        self.call.set_result(call)
        await call.wait_connected()
        call.speaker.write(self._sound, RATE)
        async for frame in call.microphone:
            start = round(frame.media_time * RATE)
            if start + len(frame) > len(self.heard):
                self.heard = np.concatenate((self.heard, np.zeros(30 * RATE, np.int16)))
            self.heard[start : start + len(frame)] = frame.samples


@asynccontextmanager
async def _page(host: Host, relay: ImpairedRelay, red: bool) -> AsyncIterator[str]:
    async def index(_request: web.Request) -> web.Response:
        return web.Response(text=_PAGE, content_type="text/html")

    async def offer(request: web.Request) -> web.Response:
        text = await request.text()
        accepted = await host.accept(text if red else without_red(text))
        return web.Response(
            text=rewrite_candidates(accepted.answer, relay.address), content_type="application/sdp"
        )

    app = web.Application()
    app.router.add_get("/", index)
    app.router.add_post("/offer", offer)
    async with on_loopback(app) as url:
        yield url


async def _listen(browser: Browser, seconds: float) -> ReceivedSound:
    script = _LISTEN % {"settle": SETTLE, "seconds": seconds, "rate": RATE}
    said = await browser.evaluate(script, timeout=seconds + 60)
    before, after = said["before"], said["after"]

    def grown(name: str) -> float:
        return float(after[name]) - float(before.get(name, 0))

    concealed = grown("concealedSamples") - grown("silentConcealedSamples")
    return ReceivedSound(
        np.frombuffer(base64.b64decode(said["sound"]), np.int16),
        concealed / grown("totalSamplesReceived"),
        grown("jitterBufferDelay") / grown("jitterBufferEmittedCount"),
        round(grown("packetsLost")),
    )


async def converse(
    sound: Samples, microphone: Path, network: NetworkModel, *, red: bool = True, seed: int = 0
) -> Result:
    """Let Chromium say what is in the WAV `microphone` and a program `sound` (at `RATE`), at the same time."""
    program = _Program(sound)
    config = HostConfig(
        host="127.0.0.1", udp_port=0, conversation=ConversationConfig(microphone_rate=RATE, echo="off")
    )
    async with Host(program, config) as host:
        address = host.addresses[0]
        async with (
            ImpairedRelay(network, network, (address.host, address.port), seed=seed) as relay,
            _page(host, relay, red) as url,
            launch("chromium", audio_file=microphone) as browser,
        ):
            await browser.goto(url)
            await browser.evaluate(_CONNECT, timeout=CONNECT_TIMEOUT)
            call = await program.call
            assert isinstance(call.connected, Connected)
            heard = await _listen(browser, len(sound) / RATE - SETTLE)
            statistics = await call.stats()
            call.hang_up()
            await call.wait_ended()
    (rtp,), hearing = statistics.session.rtp, statistics.hearing
    assert hearing is not None
    assert rtp.inbound is not None
    ours = ReceivedSound(program.heard, hearing.concealed_share, hearing.mean_delay, rtp.inbound.packets_lost)
    return Result(ours, heard, statistics, relay.statistics())


def find(piece: Samples, heard: Samples) -> Samples:
    """Return the part of `heard` in which `piece` is said, by their correlation, as long as the piece."""
    size = 1 << (len(piece) + len(heard)).bit_length()
    spectrum = np.fft.rfft(heard.astype(float), size) * np.fft.rfft(piece.astype(float), size).conj()
    at = int(np.argmax(np.fft.irfft(spectrum, size)[: max(1, len(heard) - len(piece))]))
    return heard[at : at + len(piece)]
