"""Calls of real browsers with our server in every combination of DTLS version and role."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop import servers
from interop.browsers import launch

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browsers")]

CALL = """(async () => {
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: {
    echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
  const pc = new RTCPeerConnection();
  window.pc = pc;
  pc.addTrack(microphone.getAudioTracks()[0], microphone);
  const channel = pc.createDataChannel("events");
  const opened = new Promise(resolve => channel.onopen = resolve);
  const voice = new Promise(resolve => pc.ontrack = ({ track }) =>
    track.muted ? track.onunmute = resolve : resolve());
  await pc.setLocalDescription();
  const response = await fetch("api/offer", { method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ sdp: pc.localDescription.sdp, type: "offer" }) });
  await pc.setRemoteDescription(await response.json());
  await Promise.all([voice, opened]);
  let transport, inbound;
  for (let tries = 0; tries < 50 && !(inbound?.packetsReceived > 40); tries++) {
    await new Promise(resolve => setTimeout(resolve, 100));
    for (const report of (await pc.getStats()).values()) {
      if (report.type === "transport") transport = report;
      if (report.type === "inbound-rtp") inbound = report;
    }
  }
  return { state: pc.connectionState, tls: transport?.tlsVersion, role: transport?.dtlsRole,
           srtp: transport?.srtpCipher, received: inbound?.packetsReceived, lost: inbound?.packetsLost };
})()"""


@pytest.mark.parametrize("setup", ["passive", "active"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_every_version_in_every_role(
    browser_name: str, loopback: bool, tone_file: Path, version: str, setup: str
) -> None:
    async with (
        servers.ours(extra_args=["--dtls", version, "--setup", setup]) as url,
        launch(browser_name, audio_file=tone_file) as browser,
    ):
        await browser.goto(url)
        call = await browser.evaluate(CALL)
        assert call["state"] == "connected"
        assert call["received"] > 40
        assert call["lost"] == 0
        if call["tls"]:  # Firefox does not say
            assert call["tls"] == {"1.2": "FEFD", "1.3": "FEFC"}[version]
        if call["role"]:
            assert call["role"] == {"passive": "client", "active": "server"}[setup]
        assert browser.errors == []


AGAIN = """(async () => {
  const offered = async (fields) => {
    await pc.setLocalDescription();
    const response = await fetch("api/offer", { method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ sdp: pc.localDescription.sdp, type: "offer", ...fields }) });
    return [response.status, await response.json()];
  };
  const received = async () => {
    for (const report of (await pc.getStats()).values())
      if (report.type === "inbound-rtp") return report.packetsReceived;
  };
  const flows = async () => {
    const before = await received();
    for (let tries = 0; tries < 50; tries++) {
      await new Promise(resolve => setTimeout(resolve, 100));
      if (await received() > before + 20) return true;
    }
    return false;
  };
  const [transceiver] = pc.getTransceivers();
  transceiver.direction = "recvonly";
  const nameless = await offered({});
  const steps = [];
  for (const step of ["hold", "resume", "restart"]) {
    if (step === "resume") transceiver.direction = "sendrecv";
    if (step === "restart") pc.restartIce();
    const [status, answer] = await offered({ pc_id });
    await pc.setRemoteDescription(answer);
    steps.push([step, status, transceiver.currentDirection, step === "hold" || await flows(),
                pc.connectionState]);
  }
  return { refused: nameless[0], reason: nameless[1].error, steps };
})()"""


async def test_a_page_offers_again(browser_name: str, loopback: bool, tone_file: Path) -> None:
    """Renegotiation by name, and an ICE restart, while the sound goes on."""
    call = CALL.replace("await response.json()", "await response.json().then(a => (window.pc_id = a.pc_id, a))")
    async with servers.ours() as url, launch(browser_name, audio_file=tone_file) as browser:
        await browser.goto(url)
        assert (await browser.evaluate(call))["state"] == "connected"
        told = await browser.evaluate(AGAIN, timeout=60)
        assert (told["refused"], "pc_id" in told["reason"]) == (409, True)
        assert told["steps"] == [
            ["hold", 200, "recvonly", True, "connected"],
            ["resume", 200, "sendrecv", True, "connected"],
            ["restart", 200, "sendrecv", True, "connected"],
        ]
