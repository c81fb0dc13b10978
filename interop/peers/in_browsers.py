"""Chromium and Firefox as ends of a call: a page with `call.js` in it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
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
    scripts: Sequence[Path] = (SCRIPT,)
    """What is put into the page, in this order."""
    captures = True
    """Without a capture a browser hides its addresses, and Firefox gathers none of loopback."""

    def __init__(self, name: str, browser: Browser, url: str) -> None:
        self.name = name
        self._browser = browser
        self._url = url

    async def load(self) -> None:
        """Load the page, and put the ends into it."""
        await self._browser.goto(self._url)
        if self.captures:
            capture = "navigator.mediaDevices.getUserMedia({ audio: true })"
            await self._browser.evaluate(f"{capture}.then(stream => (window.captured = stream, 0))")
        for script in self.scripts:
            await self._browser.evaluate(f"(() => {{ {script.read_text('utf-8')}\n }})()")

    async def do(self, command: str, *, patience: float = COMMAND_PATIENCE, **args: Any) -> Any:
        """Carry out a command; `LabError` with what the page says if it cannot."""
        try:
            return await self._browser.evaluate(
                f"{self.function}({json.dumps(command)}, {json.dumps(args)})", patience
            )
        except BrowserError as error:
            said = str(error).splitlines()[0]
            if f"{self.function} is not defined" in said:
                said = "the page is gone: its process has ended"
            raise LabError(f"{self.name}: {said}") from error


class KeptBrowser:
    """A browser that is used for one cell after the other, as long as they want the same settings.

    A worker of `--jobs` has one: to start a browser takes longer than most cells. Each cell has a page of its own.
    """

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._wanted = ""
        self._browser: Browser | None = None

    @asynccontextmanager
    async def of(self, name: str, settings: Mapping[str, Any]) -> AsyncIterator[Browser]:
        """Context: a browser with these settings, its page empty at the beginning and at the end."""
        wanted = f"{name} {sorted(settings.items())}"
        if self._browser is None or wanted != self._wanted:
            await self.close()
            self._browser = await self._stack.enter_async_context(launch(name, **settings))
            self._wanted = wanted
        try:
            yield self._browser
        except BaseException:  # whatever has happened to it: the next cell has a new one
            await self.close()
            raise
        try:
            await self._browser.goto("about:blank", 10)
        except BrowserError:
            await self.close()

    @property
    def is_used(self) -> bool:
        """Whether there is one."""
        return self._browser is not None

    async def close(self) -> None:
        """End it."""
        self._browser = None
        await self._stack.aclose()


kept_browser: ContextVar[KeptBrowser | None] = ContextVar("kept_browser", default=None)
"""Set where browsers are kept from cell to cell."""


@asynccontextmanager
async def browser_for_a_cell(name: str, settings: Mapping[str, Any]) -> AsyncIterator[Browser]:
    """Context: a browser of the cell's own, or the one that is kept."""
    kept = kept_browser.get()
    async with launch(name, **settings) if kept is None else kept.of(name, settings) as browser:
        yield browser


COMMANDS = frozenset({"mute", "press", "channels", "trickle", "restart", "accept_again"})


@dataclass
class PageEnd(ProcessEnd):
    """An end in a page."""

    page: PageLab | None = None

    async def statistics(self) -> Any:
        return await self._do("statistics")

    async def reload(self) -> None:
        assert self.page is not None
        await self.page.load()


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
            self.traits = Traits(level=0.1, plays_speech=False)  # of its fake microphone
        self.needs = Needs(f"{self.browser.title()} on PATH (Debian: apt install {package})")

    is_kept = True

    def why_absent(self) -> str | None:
        return None if self.browser in _installed() else f"{self.browser} is not installed here"

    def version(self) -> str:
        return _installed().get(self.browser, "")

    @asynccontextmanager
    async def start(self, side: Side, wishes: Wishes) -> AsyncIterator[End]:
        async with self.start_many(side, wishes, 1) as ends:
            yield ends[0]

    @asynccontextmanager
    async def start_many(self, side: Side, wishes: Wishes, count: int) -> AsyncIterator[Sequence[End]]:
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
        supported = COMMANDS | {"dtls", "ip"}
        if side == "client":
            supported |= {"video", "codec", "audio_sections", "bundle"}
        if self.traits.plays_speech:
            supported |= {"speech"}
        async with _page() as url, browser_for_a_cell(self.browser, settings) as browser:
            page = PageLab(self.name, browser, url)
            await page.load()
            yield [PageEnd(page, side, False, supported, n, page) for n in range(count)]  # type: ignore[arg-type]


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
