"""`serve`: a WHIP server that judges each client which calls it, live.

The path chooses the scenario: `/lost-answer/whip` loses the first answer of the handshake, `/whip` is `audio`. The
client is of other people and cannot be told anything: it is judged by its packets and by what our end hears.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from interop.call_summary import call_as_json
from interop.evidence import Side
from interop.peers.base import End, Needs, Peer, Traits, UnsupportedError, Wishes
from interop.peers.ours import Ours
from interop.runner import Cell, Pair, run_cell
from interop.scenarios import SCENARIOS, Scenario
from interop.sound import Samples
from interop.verdict import Outcome, printable

PAGE = Path(__file__).with_name("judging_page.html")
MAX_RUNNING = 16
"""Calls that are judged at one time."""
MAX_REMEMBERED = 100
"""Calls that the page shows."""
MAX_OFFER = 1 << 18
"""Bytes of an offer."""
DEFAULT = "audio"


def slug(name: str) -> str:
    """A scenario's name in a path."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def client_name(agent: str) -> str:
    """A short name from a User-Agent: the browser behind its disguises, or the first product."""
    products = agent.split()
    known = [each for each in products if each.startswith(("Firefox/", "Edg/", "HeadlessChrome/", "Chrome/"))]
    return printable((known or products or ["a client"])[0][:40])


USABLE: dict[str, Scenario] = {
    slug(name): each
    for name, each in SCENARIOS.items()
    if each.wishes.is_plain
    and each.calls == 1
    and not each.wishes.video
    and each.wishes.data
    and name != "hang-up by the server"
}
"""Those that need nothing of the client but one call."""


class VisitingEnd(End):
    """A client of other people: its offer came by HTTP, and the answer leaves by it."""

    def __init__(self, offer: str) -> None:
        self._offer = offer
        self.answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def offer(self, wishes: Wishes) -> str:
        return self._offer

    async def answer(self, sdp: str) -> None:
        self.answered.set_result(sdp)

    async def accept(self, sdp: str, wishes: Wishes) -> str:
        raise UnsupportedError("a client answers no offer")

    async def connected(self) -> None:
        return

    async def listen(self, seconds: float) -> tuple[Samples, int] | None:
        return None

    async def send(self, message: str | bytes) -> None:
        raise UnsupportedError("a visiting client cannot be told to send")

    async def receive(self) -> str | bytes:
        raise UnsupportedError("a visiting client does not say what it received")

    async def hang_up(self) -> None:
        raise UnsupportedError("a visiting client leaves when it wants to")

    async def wait_ended(self) -> None:
        return


class Visitor(Peer):
    """The client of one call."""

    needs = Needs("a call")
    traits = Traits(can_be_asked=False)
    sides: tuple[Side, ...] = ("client",)

    def __init__(self, name: str, end: VisitingEnd) -> None:
        self.name = name
        self._end = end

    def why_absent(self) -> str | None:
        return None

    @asynccontextmanager
    async def start(self, side: Side, wishes: Wishes) -> AsyncIterator[End]:
        yield self._end


class JudgingServer:
    """Takes calls and remembers the verdicts."""

    def __init__(self, keep: Path | None = None) -> None:
        self._keep = keep
        self._running: set[asyncio.Task[None]] = set()
        self.calls: list[dict[str, Any]] = []
        """The latest is the first."""

    def app(self) -> web.Application:
        """The HTTP side."""
        app = web.Application(client_max_size=MAX_OFFER)
        app.router.add_get("/", self.page)
        app.router.add_get("/calls", self.list_calls)
        app.router.add_post("/whip", self.post)
        app.router.add_post("/{scenario}/whip", self.post)
        app.router.add_delete("/call/{call}", self.delete)
        app.router.add_route("OPTIONS", "/{any:.*}", self.options)
        app.on_shutdown.append(self.close)
        return app

    async def page(self, _request: web.Request) -> web.Response:
        """The page that shows the verdicts, and calls from a browser."""
        return web.Response(text=PAGE.read_text("utf-8"), content_type="text/html")

    async def list_calls(self, _request: web.Request) -> web.Response:
        """Everything that the page shows."""
        scenarios = {path: {"sentence": each.sentence, "cites": each.cites} for path, each in USABLE.items()}
        return web.json_response({"scenarios": scenarios, "calls": self.calls})

    async def options(self, _request: web.Request) -> web.Response:
        """Let pages of other origins call (RFC 9725 §4.2 asks for CORS)."""
        return web.Response(status=204, headers=_cors({"Access-Control-Allow-Methods": "POST, DELETE, OPTIONS"}))

    async def post(self, request: web.Request) -> web.Response:
        """Take an offer and judge the call."""
        scenario = USABLE.get(request.match_info.get("scenario", DEFAULT))
        if scenario is None:
            return web.Response(text="there is no such scenario", status=404, headers=_cors())
        if len(self._running) >= MAX_RUNNING:
            return web.Response(status=503, headers=_cors({"Retry-After": "10"}))
        end = VisitingEnd((await request.read()).decode("utf-8", "replace"))
        name = client_name(request.headers.get("User-Agent", ""))
        entry = {"id": secrets.token_hex(6), "client": name, "scenario": scenario.name, "outcome": "running"}
        self.calls.insert(0, entry)
        del self.calls[MAX_REMEMBERED:]
        task = asyncio.create_task(self._judge(Visitor(name, end), end, scenario, entry))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.wait({task, end.answered}, return_when=asyncio.FIRST_COMPLETED)
        if not end.answered.done():
            return web.Response(text=entry.get("sentence", "no answer"), status=406, headers=_cors())
        headers = _cors({"Location": f"/call/{entry['id']}", "Access-Control-Expose-Headers": "Location"})
        answer = end.answered.result()
        return web.Response(text=answer, status=201, content_type="application/sdp", headers=headers)

    async def _judge(self, visitor: Visitor, end: VisitingEnd, scenario: Scenario, entry: dict[str, Any]) -> None:
        pair = Pair(visitor, Ours(waits_for_channel=False), "client")
        cell: Cell = await run_cell(pair, scenario)
        entry |= cell.verdict.as_json()
        if cell.evidence is not None:
            entry["call"] = call_as_json(cell.evidence)
            if self._keep is not None and cell.verdict.outcome is not Outcome.PASSED:
                try:
                    cell.evidence.write(self._keep / entry["id"])
                except OSError as error:
                    print(f"what was seen of {entry['client']} could not be kept: {error}", flush=True)
        print(
            f"{entry['client']}, {scenario.name}: {cell.verdict.outcome.value}: {cell.verdict.sentence}",
            flush=True,
        )

    async def delete(self, request: web.Request) -> web.Response:
        """A client that leaves says so; its verdict is drawn when the scenario is over."""
        known = any(entry["id"] == request.match_info["call"] for entry in self.calls)
        return web.Response(status=200 if known else 404, headers=_cors())

    async def close(self, _app: web.Application) -> None:
        """End every call."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


def _cors(more: dict[str, str] | None = None) -> dict[str, str]:
    return {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*", **(more or {})}


@asynccontextmanager
async def judging(host: str, port: int, keep: Path | None = None) -> AsyncIterator[tuple[JudgingServer, str]]:
    """Serve while inside; yields the server and its address. Raises `OSError` if the port cannot be had."""
    server = JudgingServer(keep)
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        written = f"[{host}]" if ":" in host else host
        yield server, f"http://{written}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def serve_until_stopped(host: str, port: int, keep: Path | None) -> None:
    """Serve until this is cancelled."""
    async with judging(host, port, keep) as (_, url):
        print(f"Open {url}, or point a WHIP client at {url}/SCENARIO/whip:")
        print("  " + ", ".join(USABLE), flush=True)
        await asyncio.Event().wait()


__all__ = ["USABLE", "JudgingServer", "judging", "serve_until_stopped", "slug"]
