"""What `bench setup` measures between: the clients, the servers, and the front through which every offer goes.

The front answers for each server under one origin. It takes an HTTP exchange as long as the network would (half a
round trip each way, on a connection that is up), gives the server a candidate of the client that leads nowhere,
and the client a relay (`interop.impair`) of its own as the only candidate: no packet finds a way around.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from interop.browsers import Browser, BrowserError, launch, managed_policies
from interop.impair import ImpairedRelay
from interop.network_model import NetworkModel
from interop.redirect import candidate_address, rewrite_candidates, without_candidates
from interop.servers import ROOT, ServerError
from interop.web_page import on_loopback

HEARD = 5.0
"""Seconds that a call goes on, when all is there at the client, until its sound is there at the server."""
START = 60.0
"""Seconds that a process may take to start."""
NOWHERE = "a=candidate:1 1 udp 2122260223 127.0.0.1 9 typ host"
"""A client's candidate for agents that refuse an offer without any; nothing listens on the discard port."""
WARP = {"WebRTC-IceHandshakeDtls": "Enabled", "WebRTC-Sctp-Snap": "Enabled"}
CLASSIC_GROUPS = {"WebRtcPostQuantumKeyAgreement": False}
"""Chromium's policy: no ML-KEM, so that its ClientHello fits one datagram."""

PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>setup</title><script>
const until = (target, event, condition) => new Promise(resolve => {
  const look = () => { if (condition()) { target.removeEventListener(event, look); resolve(performance.now()); } };
  target.addEventListener(event, look);
  look();
});
const patience = (what, promise) => Promise.race([promise, new Promise((_, reject) =>
  setTimeout(() => reject(new Error(`no ${what} within 15 s`)), 15000))]);

async function call(url, negotiated) {
  window.microphone ??= await navigator.mediaDevices.getUserMedia({ audio: true });
  const click = performance.now(), clock = performance.timeOrigin;
  const pc = window.current = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  try {
    pc.addTrack(microphone.getAudioTracks()[0], microphone);
    const channel = pc.createDataChannel("events", negotiated ? { negotiated: true, id: 0 } : {});
    const track = pc.getTransceivers()[0].receiver.track;
    const ice = until(pc, "iceconnectionstatechange",
                      () => ["connected", "completed"].includes(pc.iceConnectionState));
    const connected = until(pc, "connectionstatechange", () => pc.connectionState === "connected");
    const open = until(channel, "open", () => channel.readyState === "open");
    const voice = until(track, "unmute", () => !track.muted);
    await pc.setLocalDescription();
    const { type } = pc.localDescription;
    const sdp = pc.localDescription.sdp + (negotiated ? 'a=dcmap:0 label="events"\\r\\n' : "");
    const response = await fetch(url, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ sdp, type }),
    });
    if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
    const answer = await response.json();
    const start = performance.now(), at = Date.now();
    await pc.setRemoteDescription(answer);
    const times = { ice: await patience("ICE", ice), connected: await patience("connection", connected),
                    voice: await patience("voice", voice), channel: await patience("channel", open) };
    const result = { at: at / 1000, offer: at / 1000, click_to_voice: times.voice - click };
    for (const [name, time] of Object.entries(times)) result[name] = time - start;
    return result;   // the call goes on until `hangUp`
  } catch (error) { pc.close(); throw error; }
}
function hangUp() { window.current?.close(); }
</script>"""


@dataclass(frozen=True, slots=True)
class Network:
    """Both directions alike: the round trip in seconds, the share of datagrams that is lost."""

    rtt: float
    loss: float

    @property
    def model(self) -> NetworkModel:
        """One direction of it."""
        return NetworkModel(delay=self.rtt / 2, loss=self.loss)

    def __str__(self) -> str:
        return f"{self.rtt * 1000:g} ms RTT, {self.loss:.0%} loss"


@dataclass(slots=True)
class Server:
    """A contestant: its offer's URL, and when it heard the present caller first (seconds since 1970)."""

    name: str
    url: str
    heard: float | None = None
    answered: float = 0.0
    """When its latest answer was on the way to the client."""
    reached: float | None = None
    """When the first datagram of the present caller was there."""

    def note_datagram(self, _data: bytes) -> None:
        """A datagram of the present caller is there."""
        self.reached = self.reached or time.time()

    def note_heard(self, at: float) -> None:
        """Take the first sound of a caller; what a former call has left behind is none of the present one."""
        if self.heard is None and at >= self.answered > 0:
            self.heard = at

    async def wait_heard(self, patience: float = HEARD) -> None:
        """Wait until the present caller was heard, or for so many seconds."""
        until = time.monotonic() + patience
        while self.heard is None and time.monotonic() < until:
            await asyncio.sleep(0.005)


@asynccontextmanager
async def server(name: str, command: Sequence[str]) -> AsyncIterator[Server]:
    """Context: a server of `bench/servers`, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    following = None
    try:
        try:
            first = await asyncio.wait_for(process.stdout.readline(), START)
            found = Server(name, json.loads(first)["offer"])
        except (TimeoutError, ValueError, KeyError) as error:
            raise ServerError(f"{' '.join(command)} did not start") from error
        following = asyncio.create_task(_follow(process.stdout, found))
        yield found
    finally:
        if following is not None:
            following.cancel()
        await _end(process)


async def _follow(output: asyncio.StreamReader, of: Server) -> None:
    while line := await output.readline():
        with suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict) and "heard" in said:
                of.note_heard(float(said["heard"]))


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), 5)
    except TimeoutError:
        process.kill()
        await process.wait()


class Front:
    """Takes the offers of all clients; `url` is where the page is."""

    def __init__(self, servers: Mapping[str, Server]) -> None:
        self.url = ""
        self.network = Network(0.0, 0.0)
        self.seed: int | str = 0
        self._servers = servers
        self._relay: ImpairedRelay | None = None
        self._http: aiohttp.ClientSession | None = None

    async def page(self, _request: web.Request) -> web.Response:
        """The page of the measurement."""
        return web.Response(text=PAGE, content_type="text/html")

    async def offered(self, request: web.Request) -> web.Response:
        """Hand an offer on, and lead the client to a new relay."""
        chosen = self._servers[request.match_info["server"]]
        body = await request.json()
        await asyncio.sleep(self.network.rtt / 2)
        offer = {"type": "offer", "sdp": with_candidate(without_candidates(body["sdp"]))}
        assert self._http is not None
        async with self._http.post(chosen.url, json=offer) as response:
            if response.status >= 400:
                return web.Response(status=response.status, text=await response.text())
            answer = (await response.json())["sdp"]
        await self.close_relay()
        model = self.network.model
        self._relay = ImpairedRelay(model, model, candidate_address(answer), seed=self.seed)
        self._relay.on_to_server = chosen.note_datagram
        await self._relay.__aenter__()
        await asyncio.sleep(self.network.rtt / 2)
        chosen.answered = time.time()
        return web.json_response({"type": "answer", "sdp": rewrite_candidates(answer, self._relay.address)})

    async def close_relay(self) -> None:
        """End the relay of the last call."""
        relay, self._relay = self._relay, None
        if relay is not None:
            await relay.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Front]:
        """Context: it is there."""
        app = web.Application()
        app.router.add_get("/", self.page)
        async with self.relaying(app), on_loopback(app) as self.url:
            yield self

    @asynccontextmanager
    async def relaying(self, app: web.Application) -> AsyncIterator[None]:
        """Context: an application takes offers for the servers, at `/NAME/api/offer`."""
        app.router.add_post("/{server}/api/offer", self.offered)
        async with aiohttp.ClientSession() as self._http:
            try:
                yield
            finally:
                await self.close_relay()


def with_candidate(offer: str) -> str:
    """Return an offer whose first section has the candidate that leads nowhere."""
    lines = offer.splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("m="))
    after = next((at for at in range(first + 1, len(lines)) if lines[at].startswith("m=")), len(lines))
    return "\r\n".join([*lines[:after], NOWHERE, *lines[after:]]) + "\r\n"


class Client:
    """Places calls and says when what happened, in milliseconds from the answer."""

    async def call(self, front: Front, at: Server, negotiated: bool) -> dict[str, float]:
        """Place one; raises `CallFailed`."""
        raise NotImplementedError


class CallFailed(Exception):
    """A call that did not come about."""


@dataclass
class InBrowser(Client):
    """The page, in a browser."""

    browser: Browser

    async def call(self, front: Front, at: Server, negotiated: bool) -> dict[str, float]:
        """Place one call from the page."""
        url = f"/{at.name}/api/offer"
        try:
            took = await self.browser.evaluate(f"call({json.dumps(url)}, {json.dumps(negotiated)})")
            await at.wait_heard()
            await self.browser.evaluate("hangUp()")
        except BrowserError as error:
            raise CallFailed(str(error)) from error
        began = took.pop("at")
        took.pop("offer")
        return _with_heard(took, at, began)


@dataclass
class InProcess(Client):
    """`stack.signaling.client`, or aiortc, in a process of its own."""

    process: asyncio.subprocess.Process

    async def call(self, front: Front, at: Server, negotiated: bool) -> dict[str, float]:
        """Place one call; what it says is in seconds since 1970."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        clicked = time.time()
        self.process.stdin.write(json.dumps({"url": f"{front.url}{at.name}/api/offer"}).encode() + b"\n")
        said = json.loads(await self.process.stdout.readline())
        if "error" in said:
            raise CallFailed(said["error"])
        await at.wait_heard()
        self.process.stdin.write(b"{}\n")  # hang up
        took = {name: (when - at.answered) * 1000 for name, when in said.items()}
        took["click_to_voice"] = (said["voice"] - clicked) * 1000
        return _with_heard(took, at, at.answered)


def _with_heard(took: dict[str, float], at: Server, began: float) -> dict[str, float]:
    if at.heard is not None:
        took["heard"] = (at.heard - began) * 1000
    return took


@dataclass(frozen=True, slots=True)
class ClientKind:
    """A client that can be had: which browser, and how it is started."""

    name: str
    browser: str | None
    trials: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, bool] = field(default_factory=dict)


CLIENTS = (
    ClientKind("chromium", "chromium"),
    ClientKind("firefox", "firefox"),
    ClientKind("chromium-warp", "chromium", WARP),
    ClientKind("chromium-warp-classic", "chromium", WARP, CLASSIC_GROUPS),
    ClientKind("ours", None),
    ClientKind("aiortc", None),
)


@asynccontextmanager
async def client(kind: ClientKind, front: Front) -> AsyncIterator[tuple[str, Client]]:
    """Context: a client, with what it calls itself."""
    async with AsyncExitStack() as stack:
        if kind.browser is None:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bench._setup_client", kind.name,
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            stack.push_async_callback(_end, process)
            yield kind.name, InProcess(process)
            return
        if kind.policies:
            stack.enter_context(managed_policies(kind.policies))
        browser = await stack.enter_async_context(launch(kind.browser, field_trials=kind.trials or None))
        await browser.goto(front.url)
        yield f"{kind.name} {browser.version}", InBrowser(browser)
