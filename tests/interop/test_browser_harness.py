"""The harness does what the other browser tests take for granted."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from interop.browsers import BrowserError, ConsoleLine, Microphone, launch, loopback_namespace
from interop.web_page import on_loopback

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browsers")]

PAGE = """<!doctype html><meta charset="utf-8"><title>harness</title>
<style>body { background: #fff } @media (prefers-color-scheme: dark) { body { background: #000 } }</style>
<button onclick="document.title += '!'">press</button><input id="text">
<script>
  console.log("loaded", 1); console.warn("careful");
  setTimeout(() => { throw new Error("nobody catches this"); });
</script>"""

PAIR = """(async () => {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const [a, b] = [new RTCPeerConnection(), new RTCPeerConnection()];
  a.onicecandidate = event => b.addIceCandidate(event.candidate);
  b.onicecandidate = event => a.addIceCandidate(event.candidate);
  const heard = new Promise(resolve => b.ontrack = event => resolve(event.track));
  const player = new Audio();   // Chromium decodes only what is played
  a.addTrack(stream.getTracks()[0], stream);
  await a.setLocalDescription(); await b.setRemoteDescription(a.localDescription);
  await b.setLocalDescription(); await a.setRemoteDescription(b.localDescription);
  while (a.connectionState !== "connected") await new Promise(r => setTimeout(r, 20));
  const stats = [...(await a.getStats()).values()];
  const candidates = stats.filter(s => s.type === "local-candidate").map(s => s.address);
  const track = await heard;
  player.srcObject = new MediaStream([track]);
  const recorder = new MediaRecorder(player.srcObject), parts = [];
  recorder.ondataavailable = event => parts.push(event.data);
  if (track.muted) await new Promise(resolve => track.onunmute = resolve);
  await player.play();
  recorder.start();
  await new Promise(r => setTimeout(r, 1200));
  await new Promise(resolve => { recorder.onstop = resolve; recorder.stop(); });
  const bytes = await new Blob(parts).arrayBuffer();
  const sound = await new OfflineAudioContext(1, 48000, 48000).decodeAudioData(bytes);
  const samples = sound.getChannelData(0).slice(-24000);
  let crossings = 0;
  for (let i = 1; i < samples.length; i++) crossings += samples[i - 1] <= 0 && samples[i] > 0;
  return { tls: stats.find(s => s.type === "transport").tlsVersion, candidates, hertz: crossings * 2 };
})()"""

ASK_FOR_MICROPHONE = "navigator.mediaDevices.getUserMedia({ audio: true }).then(() => 'granted', e => e.name)"


@asynccontextmanager
async def served(html: str) -> AsyncIterator[str]:
    """Serve one page on a port of the system's choice."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=html, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    async with on_loopback(app) as url:
        yield url


def group_members(group: int) -> list[int]:
    """The processes of a group that are still running."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found


async def test_values_and_the_page_s_own_words(browser_name: str, loopback: bool) -> None:
    async with served(PAGE) as url, launch(browser_name) as browser:
        await browser.goto(url)
        assert await browser.evaluate("1 + 1") == 2
        assert await browser.evaluate("undefined") is None
        assert await browser.evaluate("Promise.resolve({ a: [1, null, 'ü'] })") == {"a": [1, None, "ü"]}
        assert await browser.wait_for("document.querySelector('button').textContent") == "press"
        with pytest.raises(BrowserError, match="absent is not defined"):
            await browser.evaluate("absent.thing")
        with pytest.raises(BrowserError, match=r"no value within 0\.2 s"):
            await browser.evaluate("new Promise(() => {})", timeout=0.2)
        await browser.evaluate("new Promise(resolve => setTimeout(resolve, 50))")
        assert ConsoleLine("info", "loaded 1") in browser.console
        assert ConsoleLine("warning", "careful") in browser.console
        assert len(browser.errors) == 1
        assert "nobody catches this" in browser.errors[0]


async def test_pictures_pointer_and_keys(browser_name: str, loopback: bool) -> None:
    async with served(PAGE) as url, launch(browser_name, viewport=(360, 640), color_scheme="dark") as browser:
        await browser.goto(url)
        assert await browser.evaluate("[innerWidth, innerHeight]") == [360, 640]
        assert await browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(0, 0, 0)"
        picture = await browser.screenshot()
        assert picture[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", picture[16:24]) == (360, 640)
        await browser.click("button")
        assert await browser.evaluate("document.title") == "harness!"
        await browser.press("Enter")
        await browser.press("Space")
        assert await browser.evaluate("document.title") == "harness!!!"
        await browser.press("Tab")
        await browser.press("a")
        assert await browser.evaluate("document.activeElement.value") == "a"
        with pytest.raises(BrowserError, match="nothing to click"):
            await browser.click("#absent")


@pytest.mark.parametrize(
    ("microphone", "outcome"),
    [
        (Microphone.GRANTED, "granted"),
        (Microphone.REFUSED, "NotAllowedError"),
        (Microphone.MISSING, "NotFoundError"),
    ],
)
async def test_microphone(browser_name: str, loopback: bool, microphone: Microphone, outcome: str) -> None:
    async with served(PAGE) as url, launch(browser_name, microphone=microphone) as browser:
        await browser.goto(url)
        assert await browser.evaluate(ASK_FOR_MICROPHONE) == outcome


async def test_a_file_is_heard_through_a_call_on_loopback(
    browser_name: str, loopback: bool, tone_file: Path
) -> None:
    async with served(PAGE) as url, launch(browser_name, audio_file=tone_file) as browser:
        await browser.goto(url)
        call = await browser.evaluate(PAIR)
    assert call["tls"] == "FEFC"  # DTLS 1.3
    assert call["hertz"] == pytest.approx(1000, abs=20)
    if loopback:
        assert set(call["candidates"]) <= {"127.0.0.1", "::1"}


async def test_dtls_1_2_is_an_option_of_firefox_alone(browser_name: str, loopback: bool) -> None:
    if browser_name == "firefox":
        async with served(PAGE) as url, launch(browser_name, dtls_1_2_only=True) as browser:
            await browser.goto(url)
            assert (await browser.evaluate(PAIR))["tls"] == "FEFD"
    else:
        with pytest.raises(BrowserError, match="no switch"):
            async with launch(browser_name, dtls_1_2_only=True):
                pass


async def test_nothing_is_left_behind(browser_name: str, loopback: bool, tmp_path: Path) -> None:
    def of_this_test() -> set[int]:
        own = os.getsid(0)
        return {pid for pid in children_of(os.getpid()) if os.getsid(pid) != own}

    async with launch(browser_name):
        [group] = of_this_test()
        assert len(group_members(group)) > 1
    assert group_members(group) == []


def children_of(parent: int) -> list[int]:
    """The processes that `parent` started, from any of its threads."""
    tasks = Path(f"/proc/{parent}/task")
    return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


async def test_a_browser_that_cannot_start_says_why(browser_name: str, loopback: bool) -> None:
    with pytest.raises(BrowserError, match="within 0 s"):
        async with launch(browser_name, start_timeout=0):
            pass


async def test_an_unknown_browser_is_named() -> None:
    with pytest.raises(BrowserError, match="netscape"):
        async with launch("netscape"):
            pass


def test_the_namespace_has_loopback_alone_and_is_left_again() -> None:
    outside = os.readlink("/proc/thread-self/ns/net")
    with loopback_namespace() as isolated:
        if not isolated:
            pytest.skip("network namespaces are not permitted here")
        assert os.readlink("/proc/thread-self/ns/net") != outside
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as peer,
        ):
            assert peer.getpeername() == server.getsockname()
    assert os.readlink("/proc/thread-self/ns/net") == outside


async def test_settings_of_one_start_do_not_reach_the_next(
    browser_name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loopback: bool
) -> None:
    """Firefox keeps compiled scripts between starts, made by the first; others are started from them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    async with served(PAGE) as url:
        for microphone, answer in ((Microphone.REFUSED, "NotAllowedError"), (Microphone.GRANTED, "granted")):
            async with launch(browser_name, microphone=microphone) as browser:
                await browser.goto(url)
                assert await browser.evaluate(ASK_FOR_MICROPHONE) == answer
    if browser_name == "chromium":
        return
    (kept,) = (folder for folder in (tmp_path / "voice-stack").iterdir() if folder.is_dir())
    assert (kept / "startupCache").is_dir()
    assert not (kept / "prefs.js").exists()
