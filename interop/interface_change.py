"""A client whose network interface goes down while another comes up: what brings the call back, and when.

Two namespaces joined by two veth pairs. The browser and this process are in one; our server is in the other, on
an address of its own that both pairs lead to, and writes a capture. In mid-call the first pair goes down and the
second comes up, as when a phone leaves a Wi-Fi.

What the browser takes (until its first packet from the new address) is told apart from what our side takes (from
that packet until sound comes in from there, and goes out to there).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from interop.browsers import Browser, launch
from interop.web_page import on_loopback

SERVER = "10.99.0.1"
PAIRS = (("first0", "10.66.0.1", "10.66.0.2"), ("other0", "10.67.0.1", "10.67.0.2"))
HTTP_PORT = 8080
START_TIMEOUT = 40.0
PATIENCE = 45.0
"""Seconds until a browser is given up that does not come back."""
OUR_PAGE_PATIENCE = 12.0
"""Seconds in which a call of our own page has to be back: it gives one up that is silent for 8 s."""
_PCAP_HEADER = 24
_RECORD = struct.Struct("<IIII")
_IPV4 = 0x45
_HEADERS = 28
"""Bytes of IPv4 and UDP."""


class _Away:
    """The namespace of the server, held open by a process that does nothing."""

    def __init__(self) -> None:
        self._ip = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "ip"
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "3600"])

    def here(self, *commands: str) -> None:
        """Run commands of `ip` in our namespace."""
        for command in commands:
            subprocess.run([self._ip, *command.split()], check=True, capture_output=True)

    def there(self, *commands: str) -> None:
        """Run commands of `ip` in the other one."""
        for command in commands:
            subprocess.run([*self.enter(), self._ip, *command.split()], check=True, capture_output=True)

    def enter(self) -> list[str]:
        """Return what has to stand before a command that is to run there."""
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]


@contextmanager
def two_networks() -> Iterator[_Away]:
    """Context: the other namespace, to which the first pair leads. Call it in a namespace of your own."""
    away = _Away()
    ours = os.readlink("/proc/thread-self/ns/net")
    try:
        while os.readlink(f"/proc/{away.holder.pid}/ns/net") == ours:
            if away.holder.poll() is not None:
                raise OSError("unshare has failed")
        for name, near, far in PAIRS:
            away.here(
                f"link add {name} type veth peer name far{name}",
                f"link set far{name} netns {away.holder.pid}",
                f"address add {near}/24 dev {name}",
            )
            away.there(f"address add {far}/24 dev far{name}", f"link set far{name} up")
        away.there("link set lo up", f"address add {SERVER}/32 dev lo")
        _use(away, 0)
        yield away
    finally:
        away.holder.kill()
        away.holder.wait()


def _use(away: _Away, number: int) -> None:
    """Have one pair up, with the default route, and the other one down."""
    name, _, far = PAIRS[number]
    away.here(f"link set {PAIRS[1 - number][0]} down", f"link set {name} up", f"route add default via {far}")


@asynccontextmanager
async def _server(away: _Away, capture: Path) -> AsyncIterator[str]:
    """Context: our server in the other namespace; yields the address of its HTTP."""
    command = [
        *away.enter(), sys.executable, "-m", "stack", "serve", "--agent", "echo", "--host", SERVER,
        "--port", str(HTTP_PORT), "--pcap", str(capture),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://{SERVER}:{HTTP_PORT}"
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(START_TIMEOUT):
            while True:
                try:
                    async with session.get(f"{url}/healthz"):
                        break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(process.wait, 15)


@asynccontextmanager
async def _page(server: str, page: str) -> AsyncIterator[str]:
    """Serve the page on loopback and pass its offers on."""
    known: dict[str, str] = {}

    async def index(_request: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    async def offer(request: web.Request) -> web.Response:
        body = {"sdp": await request.text(), "type": "offer", **known}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{server}/api/offer", json=body) as response,
        ):
            said = await response.json()
        if "pc_id" in said:
            known["pc_id"] = said["pc_id"]
        return web.Response(text=said.get("sdp", ""), status=response.status, content_type="application/sdp")

    app = web.Application()
    app.router.add_get("/", index)
    app.router.add_post("/offer", offer)
    app.router.add_post("/again", offer)
    async with on_loopback(app) as url:
        yield url


@asynccontextmanager
async def _front(server: str) -> AsyncIterator[str]:
    """Serve on loopback, which browsers take for secure, what our server serves: its own page."""

    async def forward(request: web.Request) -> web.Response:
        target = f"{server}{request.rel_url}"
        headers = {"Content-Type": request.headers.get("Content-Type", "")}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
                session.request(request.method, target, data=await request.read(), headers=headers) as response,
            ):
                body, kind = await response.read(), response.headers.get("Content-Type", "")
                return web.Response(body=body, status=response.status, headers={"Content-Type": kind})
        except (aiohttp.ClientError, TimeoutError) as error:
            return web.Response(status=502, text=str(error))

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", forward)
    async with on_loopback(app) as url:
        yield url


@dataclass(frozen=True, slots=True)
class Packet:
    """A datagram of the capture."""

    at: float
    source: str
    target: str
    first_byte: int


def read_capture(path: Path) -> list[Packet]:
    """Return the datagrams over IPv4 of a capture that our server has written (`stack.core.trace`)."""
    data, packets, place = path.read_bytes(), [], _PCAP_HEADER
    while place + _RECORD.size <= len(data):
        seconds, microseconds, size, _ = _RECORD.unpack_from(data, place)
        place += _RECORD.size
        ip = data[place : place + size]
        place += size
        if len(ip) > _HEADERS and ip[0] == _IPV4:
            source, target = (".".join(map(str, ip[at : at + 4])) for at in (12, 16))
            packets.append(Packet(seconds + microseconds / 1e6, source, target, ip[_HEADERS]))
    return packets


def _is_sound(packet: Packet) -> bool:
    return 128 <= packet.first_byte <= 191


def figures(packets: list[Packet], changed: float) -> dict[str, Any]:
    """Return the browser's part and ours, in milliseconds, from a capture and the instant of the change."""
    new = PAIRS[1][1]
    came = [packet for packet in packets if packet.source == new]
    went = [packet for packet in packets if packet.target == new and _is_sound(packet)]
    sound = [packet for packet in came if _is_sound(packet)]
    if not came:
        return {"came_back": False}
    first = came[0].at
    return {
        "came_back": bool(went and sound),
        "browser_ms": round(1000 * (first - changed)),
        "ours_down_ms": round(1000 * (went[0].at - first)) if went else None,
        "sound_up_after_ms": round(1000 * (sound[0].at - first)) if sound else None,
    }


async def change_interface(
    name: str, page: str, connect: str, restart: str, statistics: str, *, by_page: bool, settle: float
) -> dict[str, Any]:
    """Do it with one browser, in the present namespace; `by_page`: the page restarts ICE when it is told so.

    The page does so once the browser says that the connection is lost ("disconnected"), as the server's own does.
    """
    with tempfile.TemporaryDirectory() as folder, two_networks() as away:
        capture = Path(folder) / "capture.pcap"
        async with (
            _server(away, capture) as server,
            _page(server, page) as url,
            launch(name, stock=True) as browser,
        ):
            await browser.goto(url)
            await browser.evaluate(connect % json.dumps({"microphone": True}), 25.0)
            await asyncio.sleep(settle)
            _use(away, 1)
            changed = time.time()
            noticed = await _wait_for_return(browser, restart, statistics, changed, by_page=by_page)
            log = (await browser.evaluate(statistics))["log"]
        return {
            **figures(read_capture(capture), changed),
            "noticed_ms": noticed,
            "states": [state for _, state in log],
        }


async def change_under_our_page(name: str, settle: float) -> dict[str, Any]:
    """Do it to a call of the server's own page, with one browser, in the present namespace."""
    with tempfile.TemporaryDirectory() as folder, two_networks() as away:
        capture = Path(folder) / "capture.pcap"
        async with (
            _server(away, capture) as server,
            _front(server) as url,
            launch(name, stock=True) as browser,
        ):
            await browser.goto(url)
            await browser.click("#call")
            await browser.wait_for("voiceStack.problem || voiceStack.state === 'connected'", 25.0)
            await asyncio.sleep(settle)
            _use(away, 1)
            changed = time.time()
            await asyncio.sleep(OUR_PAGE_PATIENCE)
            state = await browser.evaluate("voiceStack.state")
            problem = await browser.evaluate("voiceStack.problem")
        return {**figures(read_capture(capture), changed), "state": state, "problem": problem}


async def _wait_for_return(
    browser: Browser, restart: str, statistics: str, changed: float, *, by_page: bool
) -> int | None:
    """Wait until sound arrives again, or `PATIENCE` is over; return when the browser said that something is
    wrong."""
    noticed: int | None = None
    received = (await browser.evaluate(statistics))["received"]
    while time.time() - changed < PATIENCE:
        await asyncio.sleep(0.1)
        said = await browser.evaluate(statistics)
        if said["state"] in ("disconnected", "failed") and noticed is None:
            noticed = round(1000 * (time.time() - changed))
            if by_page:
                await browser.evaluate(restart, 25.0)
        if said["received"] > received + 100 and time.time() - changed > 2.0:
            await asyncio.sleep(1.0)
            return noticed
    return noticed
