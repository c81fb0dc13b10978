"""Browsers that may use nothing but a relay: through coturn, with the credentials that our server hands out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from interop.browsers import available, launch
from stack.agents import echo
from stack.aio import HostConfig
from stack.signaling import SignalingConfig
from stack.signaling.server import ServeConfig, serving
from tests.coturn import EPHEMERAL, SECRET, coturn, needs_coturn, uri

pytestmark = [pytest.mark.browser, pytest.mark.peer, pytest.mark.slow, needs_coturn]

CALL = """(async () => {
  const { iceServers } = await (await fetch("api/ice-servers")).json();
  const pc = new RTCPeerConnection({ iceServers, iceTransportPolicy: "relay", bundlePolicy: "max-bundle" });
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  stream.getAudioTracks().forEach(track => pc.addTrack(track, stream));
  await pc.setLocalDescription();
  const { sdp, type } = pc.localDescription;
  const response = await fetch("api/offer", { method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ sdp, type }) });
  await pc.setRemoteDescription(await response.json());
  await new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("not connected: " + pc.iceConnectionState)), 20000);
    pc.addEventListener("connectionstatechange", () => { if (pc.connectionState === "connected") resolve(); });
  });
  const told = { state: pc.connectionState };
  for (let tries = 0; tries < 100 && !(told.received > 20); tries++) {
    await new Promise(resolve => setTimeout(resolve, 50));
    const stats = [...(await pc.getStats()).values()];
    const pair = stats.find(each => each.type === "candidate-pair" && each.nominated);
    const local = stats.find(each => each.id === pair?.localCandidateId);
    told.local = local?.candidateType;
    told.relayProtocol = local?.relayProtocol;
    told.received = stats.find(each => each.type === "inbound-rtp")?.packetsReceived ?? 0;
  }
  pc.close();
  return told;
})()"""


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("name", ["chromium", "firefox"])
async def test_a_browser_that_may_use_nothing_but_a_relay(name: str, transport: str, tmp_path: Path) -> None:
    if name not in {browser.name for browser in available()}:
        pytest.skip(f"{name} is not installed here")
    async with asyncio.timeout(90), coturn(tmp_path, *EPHEMERAL) as turn:
        signaling = SignalingConfig(turn_urls=(uri(turn, transport),), turn_secret=SECRET)
        config = ServeConfig(port=0, media=HostConfig(udp_port=0), signaling=signaling)
        async with serving(echo, config) as server, launch(name) as browser:
            await browser.goto(server.url + "/")
            told = await browser.evaluate(CALL, timeout=60)
    assert told["state"] == "connected"
    assert told["local"] == "relay"
    assert told["relayProtocol"] == transport
    assert told["received"] > 20
