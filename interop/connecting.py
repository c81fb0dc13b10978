"""The ways in which a browser with its usual settings connects, and what moves it: each tried, none assumed.

    python -m interop.connecting [--browser chromium] [--trial tcp] [--json]

Each trial has a fresh browser with a stock profile, in a network namespace with one address (`interop.browsers`),
and our server in the same process, on that address. Sound goes both ways all the time (fake microphone, echo).

| trial | what is left to the browser |
|---|---|
| udp | UDP candidates alone |
| tcp | TCP candidates alone, on a port of their own |
| one-port | TCP candidates alone, on the port of HTTP; the offer goes there, too |
| mdns | no microphone: its own addresses are names in .local |
| no-candidates | its candidates are not signalled |
| full | a server that is a full agent |
| restart | the page restarts ICE in mid-call |
| rebinding | a relay gives it another port in mid-call, without a sign |
| rebinding-aiortc, rebinding-pion | the same with an echo of another stack, for comparison |
| interface | its interface goes down and another comes up, and the page does nothing |
| interface-restart | the same, and the page restarts ICE as soon as the browser says "disconnected" |
| interface-page | the same in a call of the server's own page, which asks the server when nothing arrives |

For `rebinding` the lost sound of both directions is counted, in packets of 20 ms, by RTP at each end; other losses
there are none. For `interface` the browser's own time (until its first packet from the new address) and ours (from
that packet until sound goes both ways) are told apart, from a capture of the server.

Needs root (for namespaces), iproute2, util-linux, and the browsers of `interop.browsers`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from interop import servers
from interop.arguments import OneLineParser
from interop.browsers import Browser, Microphone, available, launch
from interop.browsers.namespace import ADDRESS, addressed_namespace, loopback_namespace
from interop.impair import ImpairedRelay
from interop.interface_change import change_interface, change_under_our_page
from interop.interruption import run_alone
from interop.network_model import NetworkModel
from interop.redirect import candidate_address, rewrite_candidates, without_candidates
from interop.web_page import on_loopback
from stack.agents import echo
from stack.aio import Call, Host, HostConfig, IceMode
from stack.signaling.server import ServeConfig, serving

CONNECT_TIMEOUT = 25.0
SETTLE = 3.0
"""Seconds of a call before anything is done to it."""
WATCH = 8.0
"""Seconds after that in which losses count."""
PACKET_MS = 20
REBINDINGS = 5
PION_ECHO = servers.ROOT / "build" / "peers" / "bench_pion"

_PAGE = "<!doctype html><meta charset=utf-8><title>connecting</title><audio autoplay></audio>"
_CONNECT = """(async ({ microphone }) => {
  const pc = window.pc = new RTCPeerConnection();
  const began = performance.now();
  window.log = [];
  pc.oniceconnectionstatechange = () => log.push([Math.round(performance.now() - began), pc.iceConnectionState]);
  pc.ontrack = event => { document.querySelector("audio").srcObject = new MediaStream([event.track]); };
  if (microphone) {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    pc.addTrack(stream.getAudioTracks()[0], stream);
  } else pc.addTransceiver("audio", { direction: "recvonly" });
  pc.createDataChannel("events");
  await pc.setLocalDescription();
  for (let waited = 0; pc.iceGatheringState !== "complete" && waited < 2000; waited += 20)
    await new Promise(resolve => setTimeout(resolve, 20));
  const sent = performance.now();
  const response = await fetch("offer", { method: "POST", body: pc.localDescription.sdp });
  await pc.setRemoteDescription({ type: "answer", sdp: await response.text() });
  while (pc.connectionState !== "connected") {
    if (pc.connectionState === "failed") throw new Error("the connection failed");
    await new Promise(resolve => setTimeout(resolve, 5));
  }
  return { connected_ms: Math.round(performance.now() - sent), offer: pc.localDescription.sdp };
})(%s)"""
_RESTART = """(async () => {
  pc.restartIce();
  await pc.setLocalDescription();
  const response = await fetch("again", { method: "POST", body: pc.localDescription.sdp });
  await pc.setRemoteDescription({ type: "answer", sdp: await response.text() });
  return pc.remoteDescription.sdp;
})()"""
_STATISTICS = """(async () => {
  const all = [...(await pc.getStats()).values()], of = Object.fromEntries(all.map(each => [each.id, each]));
  const inbound = all.find(each => each.type === "inbound-rtp" && each.kind === "audio") ?? {};
  const transport = all.find(each => each.type === "transport") ?? {};
  const pair = of[transport.selectedCandidatePairId]
    ?? all.find(each => each.type === "candidate-pair"
      && (each.selected || each.nominated && each.state === "succeeded"));
  const local = of[pair?.localCandidateId] ?? {}, remote = of[pair?.remoteCandidateId] ?? {};
  return { lost: inbound.packetsLost, received: inbound.packetsReceived, state: pc.iceConnectionState, log,
    local: `${local.candidateType} ${local.protocol} ${local.tcpType ?? ""}`.trim(), remote: remote.protocol };
})()"""


@dataclass
class Outcome:
    """What came of one trial."""

    browser: str
    trial: str
    connected_ms: float | None = None
    path: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None


class Setting:
    """A server, the page that calls it, and what is done to the descriptions between them."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.of_offer: Callable[[str], str] = lambda offer: offer
        self.of_answer: Callable[[str], str] = lambda answer: answer
        self.call: Call | None = None
        self.offer_url: str | None = None

    @asynccontextmanager
    async def page(self) -> AsyncIterator[str]:
        """Serve it on loopback, which browsers take for a secure context."""

        async def index(_request: web.Request) -> web.Response:
            return web.Response(text=_PAGE, content_type="text/html")

        async def offer(request: web.Request) -> web.Response:
            answer = await self._answer(self.of_offer(await request.text()))
            return web.Response(text=self.of_answer(answer), content_type="application/sdp")

        async def again(request: web.Request) -> web.Response:
            assert self.call is not None
            changed = await self.host.renegotiate(self.call, self.of_offer(await request.text()))
            return web.Response(text=self.of_answer(changed.answer), content_type="application/sdp")

        app = web.Application()
        app.router.add_get("/", index)
        app.router.add_post("/offer", offer)
        app.router.add_post("/again", again)
        async with on_loopback(app) as url:
            yield url

    async def _answer(self, offer: str) -> str:
        if self.offer_url is None:
            accepted = await self.host.accept(offer)
            self.call = accepted.call
            return accepted.answer
        headers = {"Content-Type": "application/sdp"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.offer_url, data=offer.encode(), headers=headers) as response,
        ):
            answer = await response.text()
        (self.call,) = self.host.calls.values()
        return answer


def only(protocol: str) -> Callable[[str], str]:
    """Return what leaves an answer its candidates of one protocol."""

    def keep(answer: str) -> str:
        lines = answer.splitlines()
        kept = [
            line for line in lines if not line.startswith("a=candidate:") or line.split()[2].lower() == protocol
        ]
        return "\r\n".join(kept) + "\r\n"

    return keep


@asynccontextmanager
async def setting(*, one_port: bool = False, ice: IceMode = IceMode.AUTO) -> AsyncIterator[Setting]:
    """Context: the server of a trial."""
    media = HostConfig(host=ADDRESS, udp_port=0, ice=ice, tcp_port="http" if one_port else "udp")
    async with serving(echo, ServeConfig(http_host=ADDRESS, port=0, media=media)) as server:
        made = Setting(server.host)
        if one_port:
            made.offer_url = f"http://{ADDRESS}:{server.http_port}/whip"
        yield made


async def connect(browser: Browser, made: Setting, outcome: Outcome, url: str, *, microphone: bool = True) -> None:
    """Have the page call, and note how."""
    await browser.goto(url)
    said = await browser.evaluate(_CONNECT % json.dumps({"microphone": microphone}), CONNECT_TIMEOUT)
    assert made.call is not None
    connected = await asyncio.wait_for(made.call.wait_connected(), 5)
    statistics = await browser.evaluate(_STATISTICS)
    outcome.connected_ms = said["connected_ms"]
    outcome.path = f"{connected.path.protocol.value}, seen by the browser as {statistics['local']}"
    outcome.figures["offered"] = _offered(said["offer"])


def _offered(offer: str) -> str:
    candidates = [line.split() for line in offer.splitlines() if line.startswith("a=candidate:")]
    kinds = sorted({f"{each[2].lower()} {'name' if '.local' in each[4] else 'address'}" for each in candidates})
    return ", ".join(kinds) or "no candidates"


async def losses(browser: Browser, made: Setting) -> tuple[int, int]:
    """Return how many packets were lost so far upwards, by our RTP, and downwards, by the browser's."""
    assert made.call is not None
    (rtp,) = (await made.call.stats()).session.rtp
    up = rtp.inbound.packets_lost if rtp.inbound is not None else 0
    return up, (await browser.evaluate(_STATISTICS))["lost"]


async def counted(made: Setting, *names: str) -> dict[str, int]:
    """Return some of the server's counters."""
    counters = await made.host.all_counters()
    return {name: counters.get(name, 0) for name in names}


async def _plain(name: str, outcome: Outcome, change: Callable[[Setting], None], **how: Any) -> None:
    microphone = how.pop("microphone", True)
    found = Microphone.GRANTED if microphone else Microphone.MISSING
    async with (
        setting(**how) as made,
        made.page() as url,
        launch(name, stock=True, microphone=found) as browser,
    ):
        change(made)
        await connect(browser, made, outcome, url, microphone=microphone)
        await asyncio.sleep(SETTLE)
        assert made.call is not None
        assert not made.call.ended, "the call did not last"


def _no_change(_made: Setting) -> None:
    """The descriptions go as they are."""


def _only(protocol: str) -> Callable[[Setting], None]:
    def change(made: Setting) -> None:
        made.of_answer = only(protocol)

    return change


def _no_candidates(made: Setting) -> None:
    made.of_offer = without_candidates


async def _restart(name: str, outcome: Outcome) -> None:
    async with setting() as made, made.page() as url, launch(name, stock=True) as browser:
        await connect(browser, made, outcome, url)
        await asyncio.sleep(SETTLE)
        before = await losses(browser, made)
        former = await browser.evaluate("pc.remoteDescription.sdp.match(/a=ice-ufrag:(.*)/)[1]")
        await browser.evaluate(_RESTART, CONNECT_TIMEOUT)
        await asyncio.sleep(SETTLE)
        fresh = await browser.evaluate("pc.remoteDescription.sdp.match(/a=ice-ufrag:(.*)/)[1]")
        after = await losses(browser, made)
        assert fresh != former, "the fragment has not changed"
        assert (await browser.evaluate(_STATISTICS))["state"] in ("connected", "completed")
        outcome.figures |= {
            "lost_up_ms": PACKET_MS * (after[0] - before[0]),
            "lost_down_ms": PACKET_MS * (after[1] - before[1]),
        }


async def _rebinding(name: str, outcome: Outcome) -> None:
    plain = NetworkModel(delay=0.02)
    async with setting() as made:
        target = made.host.addresses[0]
        async with (
            ImpairedRelay(
                plain, plain, (target.host, target.port), listen=(ADDRESS, 0), allow_remote=True
            ) as relay,
            made.page() as url,
            launch(name, stock=True) as browser,
        ):
            made.of_offer = without_candidates
            made.of_answer = lambda answer: rewrite_candidates(answer, relay.address)
            await connect(browser, made, outcome, url)
            await asyncio.sleep(SETTLE)
            rows, missing = [], []
            for _ in range(REBINDINGS):
                before = await losses(browser, made)
                missing.append(await _missing_after(browser, relay))
                after = await losses(browser, made)
                rows.append([PACKET_MS * (late - early) for late, early in zip(after, before, strict=True)])
            outcome.figures |= {
                "lost_up_ms": sorted(up for up, _ in rows),
                "lost_down_ms": sorted(down for _, down in rows),
                "missing_down_ms": sorted(missing),
                **await counted(made, "ice.followed_media", "ice.probe_answered", "endpoint.dropped_unknown_path"),
            }
            assert made.call is not None
            assert not made.call.ended, "the call did not last"


async def _rebinding_of(name: str, outcome: Outcome, server: Callable[[], Any], target: str | None) -> None:
    """The same with another stack's echo: what does not arrive at the browser is all that can be counted.

    Its media are at `target`, or where its answer says.
    """
    plain = NetworkModel(delay=0.02)
    async with server() as offer_url:
        relays: list[ImpairedRelay] = []

        async def offer(request: web.Request) -> web.Response:
            # aiortc gives up an offer without candidates; here is one at which no machine is
            lines = [line for line in (await request.text()).splitlines() if not line.startswith("a=candidate:")]
            place = next(at for at, line in enumerate(lines) if line.startswith("a=ice-ufrag"))
            lines.insert(place, "a=candidate:1 1 udp 1 10.66.0.2 9 typ host")
            body = {"sdp": "\r\n".join(lines) + "\r\n", "type": "offer"}
            async with aiohttp.ClientSession() as session, session.post(offer_url, json=body) as response:
                answer = (await response.json())["sdp"]
            host, port = candidate_address(answer)
            relay = ImpairedRelay(plain, plain, (target or host, port), listen=(ADDRESS, 0), allow_remote=True)
            relays.append(await relay.__aenter__())
            return web.Response(text=rewrite_candidates(answer, relay.address), content_type="application/sdp")

        async def index(_request: web.Request) -> web.Response:
            return web.Response(text=_PAGE, content_type="text/html")

        app = web.Application()
        app.router.add_get("/", index)
        app.router.add_post("/offer", offer)
        try:
            async with on_loopback(app) as url, launch(name, stock=True) as browser:
                await browser.goto(url)
                said = await browser.evaluate(_CONNECT % json.dumps({"microphone": True}), CONNECT_TIMEOUT)
                outcome.connected_ms = said["connected_ms"]
                outcome.figures["missing_down_ms"] = sorted(
                    [await _missing_after(browser, relays[0]) for _ in range(REBINDINGS)]
                )
        finally:
            for relay in relays:
                await relay.close()


async def _missing_after(browser: Browser, relay: ImpairedRelay) -> int:
    """Rebind, and return how much of the sound of the next `WATCH` seconds did not arrive at the browser."""
    await asyncio.sleep(SETTLE)
    before, began = (await browser.evaluate(_STATISTICS))["received"], time.monotonic()
    relay.rebind()
    await asyncio.sleep(WATCH)
    after, took = (await browser.evaluate(_STATISTICS))["received"], time.monotonic() - began
    return max(0, round(1000 * took - PACKET_MS * (after - before)))


@asynccontextmanager
async def _aiortc() -> AsyncIterator[str]:
    async with servers.aiortc_echo(ADDRESS) as url:
        yield f"{url}/api/offer"


@asynccontextmanager
async def _pion() -> AsyncIterator[str]:
    if not PION_ECHO.exists():
        raise FileNotFoundError("Pion's echo is not built here: make peers (needs go)")
    process = await asyncio.create_subprocess_exec(str(PION_ECHO), stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield json.loads(await process.stdout.readline())["offer"]
    finally:
        process.kill()
        await process.wait()


async def _interface(name: str, outcome: Outcome, *, by_page: bool) -> None:
    outcome.figures = await change_interface(
        name, _PAGE, _CONNECT, _RESTART, _STATISTICS, by_page=by_page, settle=SETTLE
    )
    outcome.path = "ICE restarted by the page" if by_page else "left to the browser"


async def _our_page(name: str, outcome: Outcome) -> None:
    outcome.figures = await change_under_our_page(name, SETTLE)
    outcome.path = "the page of `serve`"
    assert outcome.figures["state"] == "connected", outcome.figures


TRIALS: dict[str, Callable[[str, Outcome], Awaitable[None]]] = {
    "udp": lambda name, outcome: _plain(name, outcome, _only("udp")),
    "tcp": lambda name, outcome: _plain(name, outcome, _only("tcp")),
    "one-port": lambda name, outcome: _plain(name, outcome, _only("tcp"), one_port=True),
    "mdns": lambda name, outcome: _plain(name, outcome, _no_change, microphone=False),
    "no-candidates": lambda name, outcome: _plain(name, outcome, _no_candidates),
    "full": lambda name, outcome: _plain(name, outcome, _no_change, ice=IceMode.FULL),
    "restart": _restart,
    "rebinding": _rebinding,
    "rebinding-aiortc": lambda name, outcome: _rebinding_of(name, outcome, _aiortc, None),
    "rebinding-pion": lambda name, outcome: _rebinding_of(name, outcome, _pion, "127.0.0.1"),
    "interface": lambda name, outcome: _interface(name, outcome, by_page=False),
    "interface-restart": lambda name, outcome: _interface(name, outcome, by_page=True),
    "interface-page": _our_page,
}
ISOLATED = frozenset({"interface", "interface-restart", "interface-page"})
"""Those that make their own networks."""


async def run(name: str, trial: str) -> Outcome:
    """Do one trial; whatever goes wrong is its failure."""
    outcome = Outcome(name, trial)
    try:
        await TRIALS[trial](name, outcome)
    except Exception as error:
        outcome.failure = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return outcome


def main() -> None:
    """Try what is asked for, and print a table."""
    parser = OneLineParser(prog="python -m interop.connecting", description=__doc__.splitlines()[0])
    parser.add_argument("--browser", action="append", choices=[browser.name for browser in available()])
    parser.add_argument("--trial", action="append", choices=list(TRIALS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    outcomes = []
    for name in options.browser or [browser.name for browser in available()]:
        for trial in options.trial or TRIALS:
            with loopback_namespace() if trial in ISOLATED else addressed_namespace() as problem:
                if isinstance(problem, str) or problem is False:
                    sys.exit(problem or "network namespaces are not permitted here")
                outcomes.append(asyncio.run(run(name, trial)))
    if options.json:
        print(json.dumps([asdict(each) for each in outcomes], indent=2))
    for each in outcomes if not options.json else ():
        took = "" if each.connected_ms is None else f"{each.connected_ms:.0f} ms, "
        said = each.failure or f"{took}{each.path}; {each.figures}"
        print(f"{each.browser:9} {each.trial:14} {'FAILED ' if each.failure else ''}{said}")
    sys.exit(any(each.failure for each in outcomes))


if __name__ == "__main__":
    run_alone(main)
