"""Instant Connect in the page: the second call needs no HTTP, nor after a reload; else there is HTTP."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from interop import servers
from interop.browsers import Browser, addressed_namespace, launch
from tests.interop.test_page import media_worker

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browsers")]

SETTLED = "voiceStack.problem || voiceStack.state === 'connected'"
NO_HTTP = "window.fetch = () => Promise.reject(new Error('no HTTP'))"
KEPT = """new Promise(resolve => {
  const opening = indexedDB.open("voice-stack", 1);
  opening.onsuccess = () => {
    const stores = opening.result.objectStoreNames;
    if (!stores.contains("instant")) { opening.result.close(); return resolve(null); }
    const reading = opening.result.transaction("instant").objectStore("instant").getAll();
    reading.onsuccess = () => { opening.result.close(); resolve(reading.result[0]?.grant?.ufrag ?? null); };
  };
})"""

SPOIL = """new Promise(resolve => {
  const opening = indexedDB.open("voice-stack", 1);
  opening.onsuccess = () => {
    const store = opening.result.transaction("instant", "readwrite").objectStore("instant");
    store.openCursor().onsuccess = ({ target }) => {
      const kept = target.result.value;
      kept.grant.ufrag = kept.grant.ufrag.slice(0, -4) + "AAAA";
      target.result.update(kept).onsuccess = () => { opening.result.close(); resolve(true); };
    };
  };
})"""


async def call(browser: Browser) -> str:
    """Call, and return by which way the call came about, once its sound comes."""
    await browser.click("#call")
    await browser.wait_for(SETTLED)
    assert await browser.evaluate("voiceStack.problem") is None
    await browser.wait_for("'first_packet' in voiceStack.timings && 'channel' in voiceStack.timings")
    return str(await browser.evaluate("voiceStack.way"))


async def hang_up(browser: Browser) -> None:
    await browser.click("#call")
    await browser.wait_for("voiceStack.state === 'ended'")


@pytest.fixture
def network() -> Iterator[None]:
    """A machine with one address and a default route.

    Firefox shows loopback to a page that hears the microphone alone, and a call by a ticket is there before.
    """
    with addressed_namespace() as absent:
        if absent is not None:
            pytest.skip(f"no network of its own for a browser: {absent}")
        yield


async def test_the_second_call_needs_no_http(browser_name: str, network: None) -> None:
    async with servers.ours("echo", ["--instant-connect"], host=None) as url, launch(browser_name) as browser:
        await browser.goto(url)
        assert await call(browser) == "http"
        first = await browser.wait_for(KEPT)
        await hang_up(browser)
        await browser.evaluate(NO_HTTP)
        assert await call(browser) == "ticket"
        assert "answer" not in await browser.evaluate("voiceStack.timings")
        assert await browser.evaluate("voiceStack.events.every(event => event.type !== 'instant')")
        second = await browser.wait_for(f"({KEPT}).then(kept => kept !== '{first}' && kept)")
        await browser.wait_for("voiceStack.peaks.program > -60")  # what was said into the microphone comes back
        await hang_up(browser)
        await browser.goto(url)  # the certificate and the ticket survive that
        await browser.evaluate(NO_HTTP)
        assert await call(browser) == "ticket"
        assert second != first
        assert browser.errors == []


async def test_a_ticket_that_nothing_answers_is_followed_by_http(browser_name: str, network: None) -> None:
    async with servers.ours("echo", ["--instant-connect"], host=None) as url, launch(browser_name) as browser:
        await browser.goto(url)
        assert await call(browser) == "http"
        await browser.wait_for(KEPT)
        await hang_up(browser)
        assert await browser.evaluate(SPOIL)
        await browser.goto(url)
        assert await call(browser) == "http"
        assert "answer" in await browser.evaluate("voiceStack.timings")
        await hang_up(browser)
        assert await call(browser) == "ticket", "and the new one is good"
        assert browser.errors == []


async def test_nothing_is_kept_unless_it_is_allowed(browser_name: str, loopback: bool) -> None:
    async with servers.ours("echo") as url, launch(browser_name) as browser:
        await browser.goto(url)
        assert await call(browser) == "http"
        await hang_up(browser)
        assert await call(browser) == "http"
        assert await browser.evaluate(KEPT) is None


async def test_another_token_forgets_the_ticket(browser_name: str, network: None) -> None:
    """A ticket stands for the token that it was given for."""
    options = ["--instant-connect", "--token", "call=one"]
    async with servers.ours("echo", options, host=None) as url, launch(browser_name) as browser:
        await browser.goto(url)
        await browser.click("#call")
        await browser.wait_for("voiceStack.problem?.code === 'token-needed'")
        await browser.evaluate("document.getElementById('token').value = 'one'")
        await browser.click("#token-form button")
        await browser.wait_for("'first_packet' in voiceStack.timings")
        assert await browser.wait_for(KEPT)
        await hang_up(browser)
        assert await call(browser) == "ticket"
        await hang_up(browser)
        await browser.evaluate(
            "document.getElementById('token').value = 'two', document.getElementById('token-form').requestSubmit()"
        )
        await browser.wait_for("voiceStack.problem?.code.startsWith('token-')")
        assert await browser.evaluate("voiceStack.way") == "http"
        assert await browser.evaluate(KEPT) is None
        await browser.goto(url)
        await browser.click("#call")
        await browser.wait_for("voiceStack.problem?.code.startsWith('token-')")


async def test_a_call_by_a_ticket_learns_of_the_end_of_its_worker(browser_name: str, network: None) -> None:
    """The server tells such a call its name, by which the page asks; then it calls again, by HTTP."""
    options = ["--instant-connect", "--workers", "1"]
    async with servers.ours("echo", options, host=None) as url, launch(browser_name) as browser:
        await browser.goto(url)
        assert await call(browser) == "http"
        await browser.wait_for(KEPT)
        await hang_up(browser)
        assert await call(browser) == "ticket"
        os.kill(media_worker(url), signal.SIGKILL)
        await browser.wait_for("voiceStack.way === 'http' && 'first_packet' in voiceStack.timings", timeout=30)
