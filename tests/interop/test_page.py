"""The demo page in real browsers: what it says when something is missing, and a call with our own server."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from interop import servers
from interop.browsers import Browser, Microphone, launch
from interop.web_page import on_loopback
from stack.web import directory
from tests.interop.conftest import LISTEN, PLAIN_SOUND, TONE_HZ

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browsers")]

STEPS = ["microphone", "offer", "answer", "ice", "dtls", "first_packet"]
SERVER_IS_IDLE = "fetch('/healthz').then(response => response.json()).then(health => health.calls === 0)"


@asynccontextmanager
async def page_with(answer: web.Response | None) -> AsyncIterator[str]:
    """Serve the page with a server that answers every offer in the same way; None: it drops the connection."""
    folder = Path(str(directory()))

    async def index(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(folder / "index.html")

    async def offer(request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        assert set(body) == {"sdp", "type"}
        assert body["type"] == "offer"
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return answer

    app = web.Application()
    app.router.add_get("/below/", index)
    app.router.add_static("/below/static", folder)
    app.router.add_post("/below/api/offer", offer)
    async with on_loopback(app, "/below/") as url:
        yield url


async def problem(browser: Browser) -> tuple[str, str]:
    """Press Start, wait for a problem; return its code and the words that the page shows for it."""
    await browser.click("#call")
    code: str = await browser.wait_for("voiceStack.state === 'failed' && voiceStack.problem.code")
    assert browser.errors == []
    return code, await browser.evaluate("document.querySelector('[role=alert]').innerText")


@pytest.mark.parametrize(
    ("microphone", "code", "words"),
    [
        (Microphone.REFUSED, "microphone-blocked", "The microphone is blocked."),
        (Microphone.MISSING, "microphone-missing", "There is no microphone."),
    ],
)
async def test_without_a_microphone_the_page_says_which_way(
    browser_name: str, loopback: bool, microphone: Microphone, code: str, words: str
) -> None:
    async with page_with(None) as url, launch(browser_name, microphone=microphone) as browser:
        await browser.goto(url)
        said, shown = await problem(browser)
        assert said == code
        assert words in shown
        assert await browser.evaluate("document.getElementById('call').innerText.trim()") == "Start"


async def test_a_server_that_does_not_help_is_reported(browser_name: str, loopback: bool) -> None:
    async with launch(browser_name) as browser:
        for answer, code, words in (
            (None, "server-unreachable", "does not answer"),
            (web.Response(status=503, text="full house"), "server-refused", "503 full house"),
            (web.Response(text="<html>"), "answer-unusable", "makes no sense"),
            (web.json_response({"type": "answer", "sdp": "v=1"}), "answer-unusable", "makes no sense"),
        ):
            async with page_with(answer) as url:
                await browser.goto(url)
                said, shown = await problem(browser)
                assert said == code
                assert words in shown


async def test_the_keyboard_reaches_everything_and_a_phone_shows_everything(
    browser_name: str, loopback: bool
) -> None:
    async with page_with(None) as url, launch(browser_name, viewport=(360, 740)) as browser:
        await browser.goto(url)
        await browser.press("Tab")
        assert await browser.evaluate("document.activeElement.id") == "call"
        assert await browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        await browser.press("Tab")
        assert await browser.evaluate("document.activeElement.id") == "mode"
        await browser.press("Tab")
        assert await browser.evaluate("document.activeElement.tagName") == "SUMMARY"
        await browser.press("Enter")
        assert await browser.wait_for("document.querySelector('details').open")
        await browser.press("Tab")
        assert await browser.evaluate("document.activeElement.id") == "echoCancellation"
        assert await browser.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_a_call_with_our_server(browser_name: str, loopback: bool, tone_file: Path) -> None:
    async with servers.ours() as url, launch(browser_name, audio_file=tone_file) as browser:
        await browser.goto(url)
        await browser.evaluate(PLAIN_SOUND)
        await browser.click("#call")
        assert await browser.wait_for("voiceStack.problem || voiceStack.timings.first_packet") > 0
        await browser.wait_for("voiceStack.state === 'connected'")
        timings = await browser.evaluate("voiceStack.timings")
        times = [timings[step] for step in STEPS]
        assert times[:3] == sorted(times[:3])
        assert min(times[3:]) >= times[2]
        heard = await browser.evaluate(LISTEN)
        assert heard["seconds"] > 0.9
        assert heard["hertz"] == pytest.approx(TONE_HZ, abs=15)
        assert heard["rms"] > 0.05
        stats = await browser.wait_for("voiceStack.stats?.packetsReceived > 50 && voiceStack.stats")
        assert stats["dtls"] == "DTLS 1.3"
        assert stats["loss"] < 5
        assert await browser.evaluate("voiceStack.peaks.program") > -40
        assert "DTLS 1.3" in await browser.evaluate("document.getElementById('facts').innerText")

        await browser.click("#mute")
        await browser.wait_for("voiceStack.levels.program < -50", timeout=10)
        await browser.click("#mute")
        await browser.wait_for("voiceStack.levels.program > -40", timeout=10)

        await browser.click("#call")
        await browser.wait_for("voiceStack.state === 'ended'")
        assert await browser.evaluate("voiceStack.endedBy") == "you"
        assert await browser.evaluate("voiceStack.levels") == {"you": -60, "program": -60}
        await browser.wait_for(SERVER_IS_IDLE, timeout=15)
        # And once more: a call leaves nothing behind that would keep the next one from working.
        await browser.click("#call")
        await browser.wait_for("voiceStack.state === 'connected'")
        # Who reloads the page has hung up.
        await browser.goto(url)
        await browser.wait_for(SERVER_IS_IDLE, timeout=15)
        assert browser.errors == []


async def test_when_the_server_stops_the_page_says_so(browser_name: str, loopback: bool) -> None:
    async with launch(browser_name) as browser:
        async with servers.ours() as url:
            await browser.goto(url)
            await browser.click("#call")
            await browser.wait_for("voiceStack.state === 'connected'")
        await browser.wait_for("voiceStack.state === 'ended'", timeout=20)
        assert await browser.evaluate("voiceStack.endedBy") == "program"
        assert "hung up" in await browser.evaluate("document.getElementById('status').innerText")


# The offer says that the browser will be the DTLS server, instead of leaving the choice to ours.
OFFER_PASSIVE = """(() => {
  const genuine = window.fetch;
  window.fetch = (url, options) =>
    genuine(url, { ...options, body: options.body.replaceAll("a=setup:actpass", "a=setup:passive") });
})()"""


@pytest.mark.parametrize(
    ("browser_name", "version", "browser_is"),
    [
        ("chromium", "DTLS 1.3", "client"),
        ("chromium", "DTLS 1.3", "server"),
        ("firefox", "DTLS 1.3", "client"),
        ("firefox", "DTLS 1.3", "server"),
        ("firefox", "DTLS 1.2", "client"),  # Chromium cannot be told to leave 1.3 out
        ("firefox", "DTLS 1.2", "server"),
    ],
    indirect=["browser_name"],
)
async def test_both_roles_of_dtls(browser_name: str, loopback: bool, version: str, browser_is: str) -> None:
    only_1_2 = version == "DTLS 1.2"
    async with servers.ours() as url, launch(browser_name, dtls_1_2_only=only_1_2) as browser:
        await browser.goto(url)
        if browser_is == "server":
            await browser.evaluate(OFFER_PASSIVE)
        await browser.click("#call")
        await browser.wait_for("voiceStack.problem || voiceStack.timings.first_packet")
        assert await browser.evaluate("voiceStack.problem") is None
        await browser.wait_for("voiceStack.timings.channel")
        transport = await browser.evaluate(
            "voiceStack.connection.getStats().then(r => [...r.values()].find(s => s.type === 'transport'))"
        )
        assert transport["tlsVersion"] == {"DTLS 1.2": "FEFD", "DTLS 1.3": "FEFC"}[version]
        assert transport["dtlsRole"] == browser_is


async def test_when_a_media_worker_dies_the_page_calls_again_once(
    browser_name: str, loopback: bool, tone_file: Path
) -> None:
    async with (
        servers.ours(extra_args=("--workers", "1")) as url,
        launch(browser_name, audio_file=tone_file) as browser,
    ):
        await browser.goto(url)
        await browser.evaluate(PLAIN_SOUND)
        await browser.click("#call")
        await browser.wait_for("voiceStack.timings.first_packet")
        for again in (True, False):
            first = await browser.evaluate("voiceStack.connection.localDescription.sdp")
            os.kill(media_worker(url), signal.SIGKILL)
            if again:
                # Firefox says nothing of a connection that is closed.
                lives = "voiceStack.connection?.connectionState === 'connected'"
                another = f"{lives} && voiceStack.connection.localDescription.sdp !== {json.dumps(first)}"
                await browser.wait_for(f"{another} && voiceStack.timings.first_packet", timeout=30)
                heard = await browser.evaluate(LISTEN)
                assert heard["hertz"] == pytest.approx(TONE_HZ, abs=15)
            else:  # what fails twice needs a person
                await browser.wait_for("voiceStack.problem?.code === 'broken-off'", timeout=30)
                assert await browser.evaluate("voiceStack.state") == "failed"


async def test_when_a_media_worker_hangs_the_page_waits_for_another_and_calls_again(
    browser_name: str, loopback: bool
) -> None:
    """It takes the server 8 s to give the worker up, which is when a page gives up what has only fallen silent."""
    async with servers.ours(extra_args=("--workers", "1")) as url, launch(browser_name) as browser:
        await browser.goto(url)
        await browser.click("#call")
        await browser.wait_for("voiceStack.stats?.packetsReceived > 20")
        await browser.evaluate("void (window.first = voiceStack.connection)")
        os.kill(media_worker(url), signal.SIGSTOP)
        over = "voiceStack.connection !== first && voiceStack.timings.first_packet || voiceStack.problem"
        await browser.wait_for(over, timeout=40)
        assert await browser.evaluate("voiceStack.problem") is None
        assert await browser.evaluate("voiceStack.state") == "connected"
        assert browser.errors == []


def media_worker(url: str) -> int:
    """Return the process that carries the media of the server at `url`."""
    port = url.rstrip("/").rpartition(":")[2].encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if port in words and b"serve" in words:
                (child,) = (folder / "task" / folder.name / "children").read_text().split()
                return int(child)
        except OSError:
            continue
    raise LookupError(f"no server on port {port.decode()}")
