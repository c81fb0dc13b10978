"""Chromium and Firefox as ends of a call: a page with `call.js` in it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from aiohttp import web

from interop.browsers import Browser, BrowserError, available, launch
from interop.evidence import Side
from interop.lab import LabError
from interop.peers.base import End, Needs, Peer, ProcessEnd, Traits, UnsupportedError, Wishes, tone_of
from interop.web_page import on_loopback

SCRIPT = Path(__file__).with_name("call.js")
COMMAND_PATIENCE = 40.0


@cache
def _installed() -> Mapping[str, str]:
    return {browser.name: browser.version for browser in available()}


class PageLab:
    """The commands of an end, carried out by a page."""

    function = "call"
    """The page's function that takes them."""

    def __init__(self, name: str, browser: Browser) -> None:
        self.name = name
        self._browser = browser

    async def do(self, command: str, *, patience: float = COMMAND_PATIENCE, **args: Any) -> Any:
        """Carry out a command; `LabError` with what the page says if it cannot."""
        try:
            return await self._browser.evaluate(
                f"{self.function}({json.dumps(command)}, {json.dumps(args)})", patience
            )
        except BrowserError as error:
            raise LabError(f"{self.name}: {str(error).splitlines()[0]}") from error


class PageEnd(ProcessEnd):
    """An end in a page."""

    async def statistics(self) -> Any:
        return await self._do("statistics")


@dataclass
class InBrowser(Peer):
    """A browser, with named settings that differ from the usual ones."""

    name: str
    browser: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: frozenset[str] = frozenset()
    """Of DTLS: those that it can be held to."""

    def __post_init__(self) -> None:
        package = {"chromium": "chromium", "firefox": "firefox-esr"}[self.browser]
        if self.browser == "firefox":
            self.traits = Traits(level=0.1)  # of its fake microphone
        self.needs = Needs(f"{self.browser.title()} on PATH (Debian: apt install {package})")

    def why_absent(self) -> str | None:
        return None if self.browser in _installed() else f"{self.browser} is not installed here"

    def version(self) -> str:
        return _installed().get(self.browser, "")

    @asynccontextmanager
    async def start(self, side: Side, wishes: Wishes) -> AsyncIterator[End]:
        settings = dict(self.settings)
        if wishes.setup and side == "server":
            raise UnsupportedError("a browser answers an offer of actpass as it likes: active")
        if wishes.dtls and wishes.dtls not in self.versions:
            raise UnsupportedError(f"{self.name} cannot be held to DTLS {wishes.dtls}")
        if wishes.dtls == "1.2":
            settings["dtls_1_2_only"] = True
        if self.browser == "firefox":
            settings["prefs"] = {
                **settings.get("prefs", {}),
                "media.navigator.audio.fake_frequency": tone_of(side),
            }
        supported = frozenset({"video", "codec", "dtls"} if side == "client" else {"dtls"})
        async with _page() as url, launch(self.browser, **settings) as browser:
            await browser.goto(url)
            # Without a capture a browser hides its addresses, and Firefox gathers none of loopback.
            capture = "navigator.mediaDevices.getUserMedia({ audio: true })"
            await browser.evaluate(f"{capture}.then(stream => (window.captured = stream, 0))")
            await browser.evaluate(f"(() => {{ {SCRIPT.read_text('utf-8')}\n }})()")
            yield PageEnd(PageLab(self.name, browser), side, supported=supported)  # type: ignore[arg-type]


@asynccontextmanager
async def _page() -> AsyncIterator[str]:
    """An empty page on loopback, which browsers take for a secure context."""
    app = web.Application()

    async def empty(_: web.Request) -> web.Response:
        return web.Response(
            text="<!doctype html><meta charset=utf-8><title>a call</title>", content_type="text/html"
        )

    app.router.add_get("/", empty)
    async with on_loopback(app) as url:
        yield url


BROWSERS = (
    InBrowser("chromium", "chromium"),
    InBrowser("firefox", "firefox", versions=frozenset({"1.2"})),
    InBrowser("firefox without ML-KEM", "firefox", {"post_quantum": False}, frozenset({"1.2"})),
    InBrowser("chromium without ML-KEM", "chromium", {"post_quantum": False}),
)
