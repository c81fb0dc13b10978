"""Instant Connect beside HTTP: from the click to the first check, the user's voice there, and the program's here.

Our own client and each browser call our own server, by turns over HTTP and by the ticket of the call before. All
datagrams pass a relay (`interop.impair`) that takes half a round trip each way; an answer over HTTP takes one
round trip more than its making, as over a connection that is up. The microphone is open before the click. "User
heard" is the first frame of the user's sound that the program gets, "voice" the first sound of the program's at
the user (a browser's `unmute`).

`python -m bench instant`: medians of 20 calls by each way, at 0 and at 100 ms (`--scale` changes the number).
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web

from bench.report import Cell, Options, Table
from interop.browsers import Browser, BrowserError, available, launch, loopback_namespace
from interop.impair import ImpairedRelay
from interop.network_model import NetworkModel
from interop.redirect import rewrite_candidates
from interop.web_page import on_loopback
from stack import Call
from stack.aio import Host, HostConfig
from stack.aio.tickets import TicketConfig
from stack.core.machine import Path as NetworkPath
from stack.core.trace import Direction
from stack.signaling.client import DialConfig, dial
from stack.signaling.instant import read_grant
from stack.web import assets

ROUND_TRIPS = (0.0, 0.1)
RUNS = 20
WAYS = ("http", "ticket")
METRICS = {"check": "first check", "heard": "user heard", "voice": "first voice"}
PATIENCE = 15.0
TONE = (6000 * np.sin(np.arange(160_000) / 5)).astype(np.int16)

PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>instant</title>
<script type="module">
import { InstantConnect, shapeOf } from "./instant.js";
const instant = new InstantConnect();
const once = (target, event, condition) => new Promise((resolve, reject) => {
  const look = () => condition() && resolve(performance.timeOrigin + performance.now());
  target.addEventListener(event, look);
  setTimeout(() => reject(new Error(`no ${event} within 15 s`)), 15000);
  look();
});
window.call = async way => {
  window.microphone ??= await navigator.mediaDevices.getUserMedia({ audio: true });
  await instant.certificate();
  const click = performance.timeOrigin + performance.now();
  const ticket = way === "ticket" ? await instant.take() : null;
  if (way === "ticket" && !ticket) throw new Error("no ticket");
  const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", certificates: [await instant.certificate()] });
  try {
    const transceiver = pc.addTransceiver("audio", { direction: "sendrecv" });
    transceiver.sender.replaceTrack(microphone.getAudioTracks()[0]);
    const channel = pc.createDataChannel("events");
    const renewed = new Promise(resolve => channel.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "instant") resolve(instant.renew(message.instant));
    }));
    const { track } = transceiver.receiver;
    const voice = once(track, "unmute", () => !track.muted);
    await pc.setLocalDescription();
    const { sdp } = pc.localDescription;
    if (ticket && shapeOf(sdp) !== ticket.shape) throw new Error("the offer has another shape");
    if (ticket) {
      await pc.setRemoteDescription({ type: "answer", sdp: ticket.answer });
    } else {
      const body = JSON.stringify({ sdp, type: "offer" });
      const answer = await (await fetch("/api/offer", { method: "POST", body })).json();
      await pc.setRemoteDescription({ type: "answer", sdp: answer.sdp });
      await instant.keep(sdp, answer.sdp, answer.instant);
    }
    const result = { click, voice: await voice };
    await fetch("/heard");
    if (ticket) await renewed;
    return result;
  } finally { pc.close(); }
};
</script>"""


@dataclass(slots=True)
class Observed:
    """What the server has seen since it was cleared, in seconds since 1970."""

    checks: list[float] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    heard_at: float = 0.0

    def clear(self) -> None:
        """Begin with the next call."""
        self.checks.clear()
        self.heard.clear()

    def datagram(self, direction: Direction, data: bytes, path: NetworkPath, now: float) -> None:
        """Take what passes the sockets: this is the host's trace."""
        if direction is Direction.IN and data[:2] == b"\x00\x01":
            self.checks.append(time.time())

    async def program(self, call: Call) -> None:
        """Speak at once, and note when the user is heard."""
        call.speaker.write(TONE, 16_000)
        async for _ in call.microphone:
            self.heard_at = time.time()
            self.heard.set()
            break
        await call.wait_ended()


@asynccontextmanager
async def contest(round_trip: float) -> AsyncIterator[tuple[str, Observed]]:
    """Run server, relay and page; yields the page's address, and what the server sees."""
    seen = Observed()
    config = HostConfig(host="127.0.0.1", udp_port=0, tickets=TicketConfig(stateless=False, instant_connect=True))
    half = NetworkModel(delay=round_trip / 2)
    async with Host(seen.program, config, seen) as host:
        target = (host.addresses[0].host, host.addresses[0].port)
        async with ImpairedRelay(half, half, target) as relay:

            async def page(_: web.Request) -> web.Response:
                return web.Response(text=PAGE, content_type="text/html")

            async def module(_: web.Request) -> web.Response:
                return web.Response(body=assets()["instant.js"].data, content_type="text/javascript")

            async def offer(request: web.Request) -> web.Response:
                await asyncio.sleep(round_trip)
                accepted = await host.accept(json.loads(await request.text())["sdp"])
                answer: dict[str, Any] = {
                    "sdp": rewrite_candidates(accepted.answer, relay.address),
                    "type": "answer",
                }
                if accepted.instant is not None:
                    answer["instant"] = accepted.instant.describe()
                return web.json_response(answer)

            async def heard(_: web.Request) -> web.Response:
                await asyncio.wait_for(seen.heard.wait(), PATIENCE)
                return web.Response(text="")

            app = web.Application()
            app.router.add_get("/", page)
            app.router.add_get("/instant.js", module)
            app.router.add_get("/heard", heard)
            app.router.add_post("/api/offer", offer)
            async with on_loopback(app) as url:
                yield url, seen


async def _by_browser(browser: Browser, way: str) -> dict[str, float]:
    took = await browser.evaluate(f"call({json.dumps(way)})", PATIENCE * 2)
    return {name: at / 1000 for name, at in took.items()}


async def _by_our_client(url: str, seen: Observed, saved: Path, way: str) -> dict[str, float]:
    if way == "http":
        saved.unlink(missing_ok=True)
    click = time.time()
    async with dial(url, DialConfig(ticket=str(saved))) as placed:
        await placed.call.wait_connected()
        placed.call.speaker.write(TONE, 16_000)
        async for _ in placed.call.microphone:
            voice = time.time()
            break
        await asyncio.wait_for(seen.heard.wait(), PATIENCE)
        if ("ticket" in placed.signalling) != (way == "ticket"):
            raise RuntimeError("a call by a ticket fell back to HTTP")
        if way == "ticket":
            async for text in await placed.call.open_channel("events"):
                grant = read_grant(text)
                if grant is not None:
                    placed.keep(grant)
                    break
    return {"click": click, "voice": voice}


async def _measure(
    call: Callable[[str], Awaitable[dict[str, float]]], seen: Observed, runs: int
) -> dict[str, dict[str, list[float]]]:
    """Call by turns. Returns milliseconds from the click, by way and metric; the first of each is not counted."""
    times: dict[str, dict[str, list[float]]] = {way: {metric: [] for metric in METRICS} for way in WAYS}
    for turn in range(runs + 1):
        for way in WAYS:
            seen.clear()
            took = await call(way)
            found = {"check": min(seen.checks, default=0.0), "heard": seen.heard_at, "voice": took["voice"]}
            for metric, at in found.items():
                if turn:
                    times[way][metric].append((at - took["click"]) * 1000)
    return times


def tabulate(caller: str, times: dict[float, dict[str, dict[str, list[float]]]], runs: int) -> Table:
    """Return medians for one caller."""
    rows: list[list[Cell]] = []
    for round_trip, by_way in times.items():
        for metric, title in METRICS.items():
            http, ticket = (statistics.median(by_way[way][metric]) for way in WAYS)
            trips = ticket / 1000 / round_trip if round_trip else None
            rows.append([f"{round_trip * 1000:g} ms", title, http, ticket, http - ticket, trips])
    return Table(
        title=f"Instant Connect, {caller}: median ms from the click",
        columns=["round trip", "", "by HTTP", "by a ticket", "earlier", "round trips by a ticket"],
        rows=rows,
        notes=[f"{runs} calls each, by turns; HTTP over a connection that is up: one round trip"],
    )


async def compare(runs: int) -> list[Table]:
    """Measure our own client and each browser of this machine."""
    callers = ["our own client", *(browser.name for browser in available())]
    times: dict[str, dict[float, dict[str, dict[str, list[float]]]]] = {caller: {} for caller in callers}
    for round_trip in ROUND_TRIPS:
        async with contest(round_trip) as (url, seen):
            with tempfile.TemporaryDirectory() as folder:
                saved = Path(folder) / "ticket"
                times[callers[0]][round_trip] = await _measure(
                    partial(_by_our_client, url, seen, saved), seen, runs
                )
            for name in callers[1:]:
                async with launch(name) as browser:
                    await browser.goto(url)
                    times[name][round_trip] = await _measure(partial(_by_browser, browser), seen, runs)
    return [tabulate(caller, of, runs) for caller, of in times.items()]


def run(options: Options) -> list[Table]:
    """Compare the two ways."""
    try:
        with loopback_namespace():
            return asyncio.run(compare(max(1, round(RUNS * options.scale))))
    except BrowserError as error:
        raise SystemExit(f"bench instant: {error}") from None
