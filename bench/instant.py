"""Instant Connect beside HTTP: from the click to the first check, the user's voice there, and the program's here.

Our own client and each browser call our own server, by turns over HTTP and by the ticket of the call before. All
datagrams pass a relay (`interop.impair`) that takes half a round trip each way; an answer over HTTP takes one
round trip more than its making, as over a connection that is up. The microphone is open before the click. "User
heard" is the first frame of the user's sound that the program gets, "voice" the first sound of the program's at
the user (a browser's `unmute`). aiortc and Pion (`make peers`) take calls over HTTP in the same turns, through
relays of their own, in processes of their own; "user heard" is there as in `bench setup`.

"chromium-warp" is Chromium with its switches for DTLS in STUN and SCTP's INIT in SDP, "classic" without ML-KEM,
whose ClientHello fits one check. For them there is a list of one call's datagrams at the server: what came
before the user was heard.

`python -m bench instant`: medians of 20 calls by each way, at 0 and at 100 ms (`--scale`, `--client`,
`--server`).
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web

from bench._progress import say
from bench._setup_ends import CLIENTS, ClientKind, Front, Network, Server, server
from bench.report import Cell, Options, Table
from bench.setup import servers as setup_servers
from interop.browsers import (
    Browser,
    BrowserError,
    PoliciesUnavailable,
    available,
    launch,
    loopback_namespace,
    managed_policies,
)
from interop.impair import ImpairedRelay
from interop.network_model import NetworkModel
from interop.redirect import rewrite_candidates
from interop.servers import ServerError
from interop.web_page import on_loopback
from stack import Call
from stack.aio import Host, HostConfig
from stack.aio.tickets import TicketConfig
from stack.core.machine import Path as NetworkPath
from stack.core.trace import Direction
from stack.signaling.client import DialConfig, dial
from stack.signaling.instant import read_grant
from stack.stun import DtlsInStun, Message
from stack.web import assets

ROUND_TRIPS = (0.0, 0.1)
RUNS = 20
WAYS = ("http", "ticket")
PEERS = {"aiortc": "aiortc", "pion": "Pion"}
LISTED = 40
"""Datagrams of a call that are listed, at most."""
METRICS = {"check": "first check", "heard": "user heard", "voice": "first voice"}
PATIENCE = 15.0
Times = dict[str, dict[str, list[float]]]
"""Milliseconds, by way and metric."""
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
      const url = way === "http" ? "/api/offer" : `/${way}/api/offer`;
      const headers = { "Content-Type": "application/json" };
      const answer = await (await fetch(url, { method: "POST", headers, body })).json();
      await pc.setRemoteDescription({ type: "answer", sdp: answer.sdp });
      if (way === "http") await instant.keep(sdp, answer.sdp, answer.instant);
    }
    const result = { click, voice: await voice };
    await fetch(`/heard?by=${way}`);
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
    datagrams: list[tuple[float, Direction, bytes]] = field(default_factory=list)

    def clear(self) -> None:
        """Begin with the next call."""
        self.checks.clear()
        self.heard.clear()
        self.datagrams.clear()

    def datagram(self, direction: Direction, data: bytes, path: NetworkPath, now: float) -> None:
        """Take what passes the sockets: this is the host's trace."""
        at = time.time()
        if direction is Direction.IN and data[:2] == b"\x00\x01":
            self.checks.append(at)
        if len(self.datagrams) < 10 * LISTED:
            self.datagrams.append((at, direction, data))

    async def program(self, call: Call) -> None:
        """Speak at once, and note when the user is heard."""
        call.speaker.write(TONE, 16_000)
        async for _ in call.microphone:
            self.heard_at = time.time()
            self.heard.set()
            break
        await call.wait_ended()


@asynccontextmanager
async def contest(round_trip: float, peers: dict[str, Server]) -> AsyncIterator[tuple[str, Observed]]:
    """Run server, relay and page, where offers for `peers` are taken, too; yields the page's address, and what the
    server sees.
    """
    seen = Observed()
    config = HostConfig(host="127.0.0.1", udp_port=0, tickets=TicketConfig(stateless=False, instant_connect=True))
    half = NetworkModel(delay=round_trip / 2)
    front = Front(peers)
    front.network = Network(round_trip, 0.0)
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

            async def heard(request: web.Request) -> web.Response:
                peer = peers.get(request.query["by"])
                await asyncio.wait_for(seen.heard.wait() if peer is None else _heard_by(peer), PATIENCE)
                return web.Response(text="")

            app = web.Application()
            app.router.add_get("/", page)
            app.router.add_get("/instant.js", module)
            app.router.add_get("/heard", heard)
            app.router.add_post("/api/offer", offer)
            async with front.relaying(app), on_loopback(app) as url:
                yield url, seen


async def _heard_by(peer: Server) -> None:
    while peer.heard is None:
        await asyncio.sleep(0.01)


async def _by_browser(browser: Browser, way: str) -> dict[str, float]:
    took = await browser.evaluate(f"call({json.dumps(way)})", PATIENCE * 2)
    return {name: at / 1000 for name, at in took.items()}


async def _by_our_client(
    url: str, seen: Observed, peers: dict[str, Server], saved: Path, way: str
) -> dict[str, float]:
    if way == "http":
        saved.unlink(missing_ok=True)
    peer = peers.get(way)
    click = time.time()
    async with dial(url if peer is None else f"{url}{way}/", DialConfig(ticket=str(saved))) as placed:
        await placed.call.wait_connected()
        placed.call.speaker.write(TONE, 16_000)
        async for _ in placed.call.microphone:
            voice = time.time()
            break
        await asyncio.wait_for(seen.heard.wait() if peer is None else _heard_by(peer), PATIENCE)
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
    call: Callable[[str], Awaitable[dict[str, float]]],
    seen: Observed,
    peers: dict[str, Server],
    runs: int,
    wait: float,
) -> tuple[Times, list[list[Cell]]]:
    """Call by turns. Returns milliseconds from the click, by way and metric, without the first call of each, and
    the datagrams of the last call by a ticket. What arrives within `wait` seconds of the click is of another call.
    """
    times: Times = {way: {metric: [] for metric in METRICS} for way in (*WAYS, *peers)}
    listed: list[list[Cell]] = []
    for turn in range(runs + 1):
        for way in times:
            seen.clear()
            peer = peers.get(way)
            if peer is not None:
                peer.heard = peer.reached = None
            took = await call(way)
            since = took["click"] + wait
            if peer is None:
                found = {
                    "check": min((at for at in seen.checks if at >= since), default=0.0),
                    "heard": seen.heard_at,
                }
            else:
                found = {"check": peer.reached or 0.0, "heard": peer.heard or 0.0}
            for metric, at in {**found, "voice": took["voice"]}.items():
                if turn:
                    times[way][metric].append((at - took["click"]) * 1000)
            if way == "ticket":
                listed = _list(seen, took["click"], found["check"])
    return times, listed


def _list(seen: Observed, click: float, first: float) -> list[list[Cell]]:
    """Return the datagrams of a call, from its first check until the user was heard."""
    rows: list[list[Cell]] = []
    for at, direction, data in seen.datagrams:
        if at < first:  # of the call before
            continue
        if at > seen.heard_at or len(rows) == LISTED:
            break
        to = "to the server" if direction is Direction.IN else "to the client"
        rows.append([(at - click) * 1000, to, len(data), _name(data)])
    return rows


def _name(data: bytes) -> str:
    """Return what a datagram is, as far as it can be read without keys."""
    if data[:1] in (b"\x00", b"\x01"):
        message = Message.parse(data)
        inside = message.get(DtlsInStun)
        name = {b"\x00\x01": "check", b"\x01\x01": "response", b"\x01\x11": "error"}.get(data[:2], "STUN")
        return name if inside is None or not inside.value else f"{name} with {_name_records(inside.value)}"
    if 20 <= data[0] < 64:
        return _name_records(data)
    return "SRTCP" if 192 <= data[1] <= 223 else "SRTP"


_HANDSHAKE = {1: "ClientHello", 2: "ServerHello", 6: "HelloRetryRequest", 11: "Certificate", 20: "Finished"}


def _name_records(data: bytes) -> str:
    """Return the records of a DTLS datagram."""
    if data[0] & 0xE0 == 0x20:
        return "DTLS 1.3, encrypted"
    if data[0] == 22 and len(data) > 24:
        name = _HANDSHAKE.get(data[13], f"handshake message {data[13]}")
        size, offset, part = (int.from_bytes(data[a:b], "big") for a, b in ((14, 17), (19, 22), (22, 25)))
        return name if part == size else f"{name}, {offset} to {offset + part} of {size} bytes"
    return {20: "ChangeCipherSpec", 21: "alert", 23: "application data", 26: "ACK"}.get(data[0], "DTLS")


def tabulate(caller: str, times: dict[float, Times], runs: int) -> Table:
    """Return medians for one caller."""
    rows: list[list[Cell]] = []
    peers = [way for way in next(iter(times.values())) if way not in WAYS]
    for round_trip, by_way in times.items():
        for metric, title in METRICS.items():
            http, ticket = (statistics.median(by_way[way][metric]) for way in WAYS)
            trips = ticket / 1000 / round_trip if round_trip else None
            others = [statistics.median(by_way[peer][metric]) for peer in peers]
            rows.append([f"{round_trip * 1000:g} ms", title, http, ticket, http - ticket, trips, *others])
    columns = ["round trip", "", "by HTTP", "by a ticket", "earlier", "round trips by a ticket"]
    return Table(
        title=f"Instant Connect, {caller}: median ms from the click",
        columns=[*columns, *(f"{PEERS[peer]} by HTTP" for peer in peers)],
        rows=rows,
        notes=[f"{runs} calls each, by turns; HTTP over a connection that is up: one round trip"],
    )


@asynccontextmanager
async def _browser(kind: ClientKind) -> AsyncIterator[Browser]:
    assert kind.browser is not None
    with managed_policies(kind.policies) if kind.policies else nullcontext():
        async with launch(kind.browser, field_trials=kind.trials or None) as browser:
            yield browser


async def compare(kinds: Sequence[ClientKind], options: Options) -> list[Table]:
    """Measure our own client and each browser of this machine."""
    runs = max(1, round(RUNS * options.scale))
    tables: list[Table] = []
    commands = {name: command for name, command in setup_servers(options).items() if name in PEERS}
    async with AsyncExitStack() as stack:
        peers = {
            name: await stack.enter_async_context(server(name, command)) for name, command in commands.items()
        }
        for kind in kinds:
            times: dict[float, Times] = {}
            listed: list[list[Cell]] = []
            try:
                for round_trip in ROUND_TRIPS:
                    say(f"{kind.name}, {round_trip * 1000:g} ms: {runs} calls in each way")
                    async with contest(round_trip, peers) as (url, seen):
                        if kind.browser is None:
                            with tempfile.TemporaryDirectory() as folder:
                                calling = partial(_by_our_client, url, seen, peers, Path(folder) / "ticket")
                                found = await _measure(calling, seen, peers, runs, round_trip / 2)
                        else:
                            async with _browser(kind) as browser:
                                await browser.goto(url)
                                found = await _measure(
                                    partial(_by_browser, browser), seen, peers, runs, round_trip / 2
                                )
                    times[round_trip], listed = found
            except PoliciesUnavailable as error:
                say(f"no {kind.name}: {error}")
                continue
            tables.append(tabulate(kind.name, times, runs))
            if kind.trials:
                title = (
                    f"{kind.name} by a ticket, one call at {ROUND_TRIPS[-1] * 1000:g} ms: datagrams at the server"
                )
                tables.append(Table(title, ["ms from the click", "", "bytes", "what"], listed))
    return tables


def run(options: Options) -> list[Table]:
    """Compare the ways."""
    installed = {browser.name for browser in available()}
    kinds = [kind for kind in CLIENTS if kind.name != "aiortc" and kind.browser in {None, *installed}]
    kinds = [kind for kind in kinds if not options.clients or kind.name in options.clients]
    if not kinds:
        raise SystemExit("bench instant: there is no such client on this machine")
    try:
        with loopback_namespace():
            return asyncio.run(compare(kinds, options))
    except (BrowserError, ServerError) as error:
        raise SystemExit(f"bench instant: {error}") from None
