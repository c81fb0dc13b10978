"""How fast a call is set up: ours and aiortc's echo, by turns, in the same page of each browser.

Times run from `setRemoteDescription(answer)`, as in the usual baseline, after the offer's candidates have been
gathered (aiortc needs them). A third contestant, "ours at once", posts its offer without waiting for them: its
`click to voice` is what a user of ours sees. "Voice" is the `unmute` of the remote track: the first RTP packet.

`python -m bench setup`: ten counted calls to each contestant in each browser (`--scale` changes that).
"""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from bench.report import Cell, Options, Table
from interop import servers
from interop.browsers import Browser, BrowserError, available, launch, loopback_namespace
from interop.web_page import on_loopback

METRICS = {
    "ice": "ICE connected",
    "connected": "connected",
    "channel": "data channel open",
    "voice": "first echoed audio",
    "click_to_voice": "click to voice",
}
PEERS = ("ours", "aiortc", "ours at once")
RUNS = 10
WARM_UPS = 1
"""Runs of each contestant that are not counted."""

PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>setup</title><script>
const until = (target, event, condition) => new Promise(resolve => {
  const look = () => { if (condition()) { target.removeEventListener(event, look); resolve(performance.now()); } };
  target.addEventListener(event, look);
  look();
});
const patience = (what, promise) => Promise.race([promise, new Promise((_, reject) =>
  setTimeout(() => reject(new Error(`no ${what} within 15 s`)), 15000))]);

async function call(server, atOnce) {
  window.microphone ??= await navigator.mediaDevices.getUserMedia({ audio: true });
  const click = performance.now();
  const pc = new RTCPeerConnection();
  try {
    pc.addTrack(microphone.getAudioTracks()[0], microphone);
    const channel = pc.createDataChannel("events");
    const track = pc.getTransceivers()[0].receiver.track;
    const ice = until(pc, "iceconnectionstatechange",
                      () => ["connected", "completed"].includes(pc.iceConnectionState));
    const connected = until(pc, "connectionstatechange", () => pc.connectionState === "connected");
    const open = until(channel, "open", () => channel.readyState === "open");
    const voice = until(track, "unmute", () => !track.muted);
    await pc.setLocalDescription();
    if (!atOnce) await until(pc, "icegatheringstatechange", () => pc.iceGatheringState === "complete");
    const response = await fetch(`/${server}/api/offer`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(pc.localDescription),
    });
    if (!response.ok) throw new Error(`${server}: ${response.status} ${await response.text()}`);
    const answer = await response.json();
    const start = performance.now();
    await pc.setRemoteDescription(answer);
    const times = { ice: await patience("ICE", ice), connected: await patience("connection", connected),
                    voice: await patience("voice", voice) };
    if (pc.sctp) times.channel = await patience("channel", open);
    const result = { click_to_voice: times.voice - click };
    for (const [name, time] of Object.entries(times)) result[name] = time - start;
    return result;
  } finally { pc.close(); }
}
</script>"""


@asynccontextmanager
async def _front(peers: dict[str, str]) -> AsyncIterator[str]:
    """Serve the page, and hand its offers on to the contestants: one origin for all."""
    async with aiohttp.ClientSession() as session:

        async def page(_request: web.Request) -> web.Response:
            return web.Response(text=PAGE, content_type="text/html")

        async def hand_on(request: web.Request) -> web.Response:
            url = f"{peers[request.match_info['peer']]}/api/offer"
            headers = {"content-type": "application/json"}
            async with session.post(url, data=await request.read(), headers=headers) as response:
                return web.Response(
                    status=response.status, body=await response.read(), content_type=response.content_type
                )

        app = web.Application()
        app.router.add_get("/", page)
        app.router.add_post("/{peer}/api/offer", hand_on)
        async with on_loopback(app) as url:
            yield url


async def _measure(browser: Browser, url: str, contestants: Sequence[str], runs: int) -> dict[str, Any]:
    """Set up `runs` calls to each contestant, by turns. Returns milliseconds by contestant and metric."""
    await browser.goto(url)
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for turn in range(WARM_UPS + runs):
        for name in contestants:
            server, at_once = name.split()[0], name.endswith("at once")
            took = await browser.evaluate(f"call({json.dumps(server)}, {json.dumps(at_once)})")
            if turn >= WARM_UPS:
                samples[name].append(took)
            await asyncio.sleep(0.3)  # the former call's last datagrams are not part of the next
    return {
        name: {metric: [run[metric] for run in samples[name]] for metric in METRICS if metric in samples[name][0]}
        for name in contestants
    }


def tabulate(browser: str, times: dict[str, dict[str, list[float]]], runs: int) -> Table:
    """Medians by metric and contestant, and the ratio of ours to aiortc's where both ran."""
    medians = {name: {metric: statistics.median(of) for metric, of in by.items()} for name, by in times.items()}
    both = "ours" in medians and "aiortc" in medians
    rows: list[list[Cell]] = []
    for metric, title in METRICS.items():
        row: list[Cell] = [title, *(by.get(metric) for by in medians.values())]
        if both:
            ours, aiortc = medians["ours"].get(metric), medians["aiortc"].get(metric)
            row.append(ours / aiortc if ours is not None and aiortc else None)
        rows.append(row)
    return Table(
        title=f"Set-up of a call, {browser}: median ms from setRemoteDescription(answer)",
        columns=["", *medians, *(["ours / aiortc"] if both else [])],
        rows=rows,
        notes=[f"{runs} calls each, by turns; 'click to voice' includes making the offer and fetching the answer"],
    )


async def compare(browsers: Sequence[str], contestants: Sequence[str], runs: int) -> list[Table]:
    """Measure in each browser; the servers run throughout."""
    async with AsyncExitStack() as stack:
        peers = {}
        if any(name.startswith("ours") for name in contestants):
            peers["ours"] = await stack.enter_async_context(servers.ours())
        if "aiortc" in contestants:
            peers["aiortc"] = await stack.enter_async_context(servers.aiortc_echo())
        url = await stack.enter_async_context(_front(peers))
        tables = []
        for name in browsers:
            async with launch(name) as browser:
                times = await _measure(browser, url, contestants, runs)
            tables.append(tabulate(f"{name} {browser.version}", times, runs))
        return tables


def run(options: Options) -> list[Table]:
    """Compare in every browser of this machine."""
    installed = [browser.name for browser in available()]
    if not installed:
        raise SystemExit("bench setup: there is no browser on this machine")
    runs = max(1, round(RUNS * options.scale))
    try:
        with loopback_namespace():
            return asyncio.run(compare(installed, PEERS, runs))
    except (servers.ServerError, BrowserError) as error:
        raise SystemExit(f"bench setup: {error}") from None
