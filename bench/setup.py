"""How fast a call is set up: ours and aiortc's echo, by turns, in the same page of each browser.

Times run from `setRemoteDescription(answer)`, as in the usual baseline, after the offer's candidates have been
gathered (aiortc needs them). A third contestant, "ours at once", posts its offer without waiting for them: its
`click to voice` is what a user of ours sees. "Voice" is the `unmute` of the remote track: the first RTP packet.

`python -m bench setup [--runs N] [--browser NAME] [--peer NAME] [--json FILE]`
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from interop import servers
from interop.browsers import Browser, BrowserError, available, launch, loopback_namespace

METRICS = {
    "ice": "ICE connected",
    "connected": "connected",
    "channel": "data channel open",
    "voice": "first echoed audio",
    "click_to_voice": "click to voice",
}
PEERS = ("ours", "aiortc", "ours at once")
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
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
        finally:
            await runner.cleanup()


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


def summarize(times: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Medians by contestant and metric, and the ratio of ours to aiortc's where both ran."""
    medians = {name: {m: statistics.median(v) for m, v in by.items()} for name, by in times.items()}
    summary: dict[str, Any] = {"median_ms": medians, "ms": times}
    if "ours" in medians and "aiortc" in medians:
        base, other = medians["aiortc"], medians["ours"]
        summary["ratio"] = {m: other[m] / base[m] for m in METRICS if m in base and m in other}
    return summary


def table(browser: str, summary: dict[str, Any]) -> str:
    """The summary for people."""
    medians, ratio = summary["median_ms"], summary.get("ratio", {})
    columns = [*medians, *(["ours / aiortc"] if ratio else [])]
    lines = [f"{browser}: median ms from setRemoteDescription(answer)"]
    lines.append(f"  {'':<20}" + "".join(f"{name:>15}" for name in columns))
    for metric, title in METRICS.items():
        cells = [f"{by[metric]:.1f}" if metric in by else "-" for by in medians.values()]
        if ratio:
            cells.append(f"{ratio[metric]:.2f}" if metric in ratio else "-")
        lines.append(f"  {title:<20}" + "".join(f"{cell:>15}" for cell in cells))
    return "\n".join(lines)


async def compare(browsers: Sequence[str], contestants: Sequence[str], runs: int) -> dict[str, Any]:
    """Measure in each browser; the servers run throughout."""
    async with AsyncExitStack() as stack:
        peers = {}
        if any(name.startswith("ours") for name in contestants):
            peers["ours"] = await stack.enter_async_context(servers.ours())
        if "aiortc" in contestants:
            peers["aiortc"] = await stack.enter_async_context(servers.aiortc_echo())
        url = await stack.enter_async_context(_front(peers))
        report: dict[str, Any] = {"runs": runs, "browsers": {}}
        for name in browsers:
            async with launch(name) as browser:
                times = await _measure(browser, url, contestants, runs)
            report["browsers"][name] = {"version": browser.version, **summarize(times)}
            print(table(f"{name} {browser.version}", report["browsers"][name]), flush=True)
        return report


def run(args: Sequence[str]) -> dict[str, Any]:
    """Run the comparison as the command line says; print tables, return (and on request write) the figures."""
    installed = [browser.name for browser in available()]
    parser = argparse.ArgumentParser(prog="bench setup", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="counted runs of each contestant (10)")
    parser.add_argument("--browser", action="append", choices=installed, help="only this browser (repeatable)")
    parser.add_argument("--peer", action="append", choices=PEERS, help="only this contestant (repeatable)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(args)
    if not installed:
        parser.error("there is no browser on this machine")
    try:
        with loopback_namespace():
            report = asyncio.run(compare(options.browser or installed, options.peer or PEERS, options.runs))
    except (servers.ServerError, BrowserError) as error:
        raise SystemExit(f"bench setup: {error}") from None
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return report


if __name__ == "__main__":
    import sys

    run(sys.argv[1:])
