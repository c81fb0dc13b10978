"""The page where there are several machines: its node drains, its program process is killed."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from interop.browsers import Browser, launch
from stack.aio import ticket_file
from tests.cluster.engine import Engine
from tests.cluster.test_roles import Machines, settled

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browsers")]

SETTLED = "voiceStack.problem || voiceStack.state === 'connected'"
HEARD = "'first_packet' in voiceStack.timings && 'channel' in voiceStack.timings"
SPEAKS = "(voiceStack.levels.program ?? -100) > -60"
WATCH_SILENCE = """(() => {
  window.longest = 0;
  let last = performance.now();
  const look = () => {
    const now = performance.now();
    if (SPEAKS) last = now;
    window.longest = Math.max(window.longest, now - last);
  };
  setInterval(look, 10);
  return true;
})()""".replace("SPEAKS", SPEAKS)


@pytest.fixture
async def machines(tmp_path: Path) -> AsyncIterator[Machines]:
    engine = Engine(tmp_path / "jetstream")
    engine.start()
    keys = tmp_path / "ticket.key"
    ticket_file.add_epoch(keys)
    running = Machines(engine, keys)
    yield running
    await running.close()
    engine.stop()


async def call(browser: Browser, url: str) -> None:
    """Call by the page, and wait until the program is heard."""
    await browser.goto(url + "/")
    await browser.click("#call")
    await browser.wait_for(SETTLED)
    assert await browser.evaluate("voiceStack.problem") is None
    await browser.wait_for(HEARD)
    await browser.wait_for(SPEAKS)


async def test_a_page_goes_to_another_node_before_it_leaves_the_first(
    browser_name: str, machines: Machines
) -> None:
    signaling = await machines.signaling()
    first = await machines.media("n1", 0, "--drain-seconds", "0", "--goaway-seconds", "30")
    await machines.agent()
    await settled(signaling.url, 200, nodes="1")
    async with launch(browser_name) as browser:
        await call(browser, signaling.url)
        await machines.media("n2")
        await settled(signaling.url, 200, nodes="2")
        await browser.evaluate(WATCH_SILENCE)
        before = await browser.evaluate("performance.now()")
        first.process.send_signal(signal.SIGTERM)
        await browser.wait_for("voiceStack.movedFrom !== null && voiceStack.state === 'connected'")
        await browser.wait_for(SPEAKS)
        assert await browser.evaluate("voiceStack.problem") is None
        assert await browser.evaluate("voiceStack.spans.since") < before, "what was drawn stays"
        assert await browser.evaluate("window.longest") < 1000  # by the page's own meter, which reads every 40 ms
        await first.process.wait()
        await browser.wait_for("voiceStack.state === 'connected'")


async def test_a_page_calls_another_node_when_the_media_worker_of_its_own_dies(
    browser_name: str, machines: Machines
) -> None:
    """Its connection fails at once by the alert that the worker has left, and its channel is closed with it."""
    signaling = await machines.signaling()
    first = await machines.media("n1")
    await machines.agent()
    await settled(signaling.url, 200, nodes="1")
    async with launch(browser_name) as browser:
        await call(browser, signaling.url)
        await machines.media("n2")
        await settled(signaling.url, 200, nodes="2")
        assert await browser.evaluate("voiceStack.movedFrom") is None
        pid = first.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        await browser.wait_for("voiceStack.movedFrom !== null && voiceStack.state === 'connected'")
        await browser.wait_for(SPEAKS)
        assert await browser.evaluate("voiceStack.problem") is None
        assert await browser.evaluate("voiceStack.endedBy") is None
        assert browser.errors == []


async def test_the_page_shows_the_way_to_the_program(browser_name: str, machines: Machines) -> None:
    await machines.media("n1", 0, "--region", "europe")
    await machines.agent()
    signaling = await machines.signaling()
    await settled(signaling.url, 200, nodes="1")
    async with launch(browser_name) as browser:
        await browser.goto(signaling.url + "/")
        await browser.click("#call")
        await browser.wait_for(SETTLED)
        assert await browser.evaluate("voiceStack.problem") is None
        await browser.wait_for("document.getElementById('facts').textContent.includes('Way of the sound')")
        shown = str(await browser.evaluate("document.getElementById('facts').textContent"))
        way = (
            r"Way of the soundyou – (< 1|[\d.]+) ms – n1, europe – (< 1|[\d.]+) ms – the program: (< 1|[\d.]+) ms"
        )
        assert re.search(way, shown), shown
