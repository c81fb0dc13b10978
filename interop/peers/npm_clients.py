"""Clients from npm as ends of a call: OpenAI's realtime agents, Pipecat's client, a WHIP client, each in Chromium.

A client makes its offer over HTTP by itself: the page's own server takes it, and holds the response back until the
harness has the answer. None of them has a way to send the messages of a trial: their channels are for their own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from interop.browsers import available
from interop.evidence import Side
from interop.peers import clients
from interop.peers.base import End, EndError, Needs, Peer, ProcessEnd, Traits, Wishes
from interop.peers.in_browsers import SCRIPT, PageLab, browser_for_a_cell

END_SCRIPT = Path(clients.__file__).with_name("end.js")
OFFER_PATIENCE = 20.0
BUILD = (sys.executable, "-m", "interop.peers.clients")


class OfferRequests:
    """Where a client sends its offer: as SDP (WHIP, OpenAI) or as JSON (Pipecat)."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.offer: asyncio.Future[str] = loop.create_future()
        self.answer: asyncio.Future[str] = loop.create_future()

    def routes(self) -> list[web.RouteDef]:
        """The requests that it takes."""
        return [
            web.post("/offers/{kind}", self._exchange),
            web.patch("/offers/{kind}", self._no_content),
            web.delete("/offers/{kind}", self._no_content),
        ]

    async def _exchange(self, request: web.Request) -> web.Response:
        is_json = request.content_type == "application/json"
        offer = (await request.json())["sdp"] if is_json else await request.text()
        if self.offer.done():  # a client that lost patience, or negotiates again
            return web.Response(status=409)
        self.offer.set_result(offer)
        answer = await self.answer
        if is_json:
            return web.json_response({"sdp": answer, "type": "answer", "pc_id": "trial"})
        headers = {"Location": request.path, "ETag": '"trial"'}
        return web.Response(text=answer, status=201, content_type="application/sdp", headers=headers)

    async def _no_content(self, _: web.Request) -> web.Response:
        return web.Response(status=204)


class ClientLab(PageLab):
    """The commands of an end, carried out by a client."""

    function = "client"
    scripts = (SCRIPT, END_SCRIPT)
    captures = False
    """Its microphone is the client's own business."""


class ClientEnd(ProcessEnd):
    """An end whose descriptions travel over HTTP."""

    def __init__(self, lab: ClientLab, client: str, requests: OfferRequests) -> None:
        super().__init__(lab, "client", supported=frozenset({"ip"}))  # type: ignore[arg-type]
        self._client = client
        self._requests = requests

    async def offer(self, wishes: Wishes) -> str:
        # It decides by itself what it offers: whatever else is wished is refused there.
        await self._do("begin", name=self._client, **self._arguments(wishes))
        try:
            return await asyncio.wait_for(asyncio.shield(self._requests.offer), OFFER_PATIENCE)
        except TimeoutError:
            raise EndError(f"{self.lab.name} made no request within {OFFER_PATIENCE:g} s") from None

    async def answer(self, sdp: str) -> None:
        self._requests.answer.set_result(sdp)

    async def statistics(self) -> Any:
        return await self._do("statistics")


@dataclass
class NpmClient(Peer):
    """A client; `client` is its name in `clients/end.js`."""

    name: str
    client: str
    package: str
    traits: Traits
    sides: tuple[Side, ...] = ("client",)

    def __post_init__(self) -> None:
        self.needs = Needs(f"Chromium on PATH, node and npm: {self.package}", (BUILD,))

    is_kept = True

    @property
    def resource(self) -> str:
        return "clients from npm"  # one Chromium for all of them

    def why_absent(self) -> str | None:
        if "chromium" not in {browser.name for browser in available()}:
            return f"{self.name}: there is no Chromium here"
        return (
            None
            if clients.is_built()
            else f"{self.name} is not bundled here: `python -m interop setup {self.name}`"
        )

    def version(self) -> str:
        manifest = clients.HERE / "node_modules" / self.package / "package.json"
        return str(json.loads(manifest.read_text("utf-8"))["version"]) if manifest.exists() else ""

    @asynccontextmanager
    async def start(self, side: Side, wishes: Wishes) -> AsyncIterator[End]:
        requests = OfferRequests()
        try:
            async with clients.page(*requests.routes()) as url, browser_for_a_cell("chromium", {}) as browser:
                lab = ClientLab(self.name, browser, url)
                await lab.load()
                yield ClientEnd(lab, self.client, requests)
        finally:
            requests.answer.cancel()
            requests.offer.cancel()


SOUND_ALONE = Traits(has_data=False, plays_speech=False)
NPM_CLIENTS = (
    NpmClient("openai-agents", "openai", "@openai/agents-realtime", SOUND_ALONE),
    NpmClient("pipecat", "pipecat", "@pipecat-ai/small-webrtc-transport", SOUND_ALONE),
    NpmClient("whip-web-client", "whip", "@eyevinn/whip-web-client", replace(SOUND_ALONE, hears=False)),
)
