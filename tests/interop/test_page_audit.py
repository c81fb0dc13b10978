"""The page for those who cannot see, hear, speak or point well: an audit by axe-core, and what that cannot see."""

from __future__ import annotations

from typing import Literal

import pytest

from interop import servers
from interop.browsers import Browser, launch
from interop.peers import audit

pytestmark = [pytest.mark.browser, pytest.mark.peer, pytest.mark.xdist_group("browsers")]

DESKTOP, PHONE = (1280, 800), (360, 740)
RING = """(() => { const box = id => document.getElementById(id).getBoundingClientRect();
  const ring = box("ring"), call = box("call");
  return { height: ring.height / ring.width, dx: ring.x + ring.width / 2 - call.x - call.width / 2,
           dy: ring.y + ring.height / 2 - call.y - call.height / 2 }; })()"""


@pytest.fixture
def axe() -> None:
    if (reason := audit.absent()) is not None:
        pytest.skip(reason)


async def check(browser: Browser, what: str) -> None:
    """At both widths: no violation, nothing beyond the edge, and a ring around the button that is round."""
    for width, height in (DESKTOP, PHONE):
        await browser.set_viewport(width, height)
        await browser.wait_for(f"innerWidth === {width}")
        assert await audit.violations(browser) == [], f"{what} at {width} pixels"
        assert await browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{what}, {width}"
        ring = await browser.evaluate(RING)
        assert ring["height"] == pytest.approx(1.0, abs=0.01), f"{what}: an egg at {width} pixels"
        assert (ring["dx"], ring["dy"]) == pytest.approx((0, 0), abs=1)


async def type_text(browser: Browser, text: str) -> None:
    await browser.evaluate(f"document.getElementById('type').value = '{text}'")
    await browser.click("#type-form button")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_state_of_the_page_breaks_a_rule(
    browser_name: str, scheme: Literal["light", "dark"], axe: None, loopback: bool
) -> None:
    async with (
        servers.ours("interop.programs:asking_for_a_key", ["--token", "call=sesame"]) as url,
        launch(browser_name, color_scheme=scheme) as browser,
    ):
        await browser.goto(url)
        await check(browser, "idle")
        await browser.evaluate("document.querySelector('details').open = true")
        await browser.click("#call")
        await browser.wait_for("voiceStack.problem?.code === 'token-needed'")
        await check(browser, "a problem, and a form")
        await browser.evaluate("document.getElementById('token').value = 'sesame'")
        await browser.click("#token-form button")
        await browser.wait_for("document.getElementById('type-form').checkVisibility()")
        await type_text(browser, "hello")
        await browser.wait_for("voiceStack.conversation.entries.at(-1)?.outcome === 'finished'", timeout=15)
        await type_text(browser, "again")
        await browser.wait_for("voiceStack.conversation.speaking", timeout=15)
        await browser.press("Escape")
        await browser.wait_for("document.querySelector('#transcript s')")
        await browser.wait_for("document.querySelector('#facts dd')")
        await browser.click("#mute")
        await browser.evaluate(
            "(() => { const mode = document.getElementById('mode'); mode.value = 'semantic_vad';"
            " mode.dispatchEvent(new Event('change')); })()"
        )
        await check(browser, "in a call")
        await browser.click("#call")
        await browser.wait_for("voiceStack.state === 'ended'")
        await check(browser, "after a call")
        assert browser.errors == []


async def test_the_audit_sees_what_is_wrong(browser_name: str, axe: None, loopback: bool) -> None:
    async with servers.ours() as url, launch(browser_name) as browser:
        await browser.goto(url)
        await browser.evaluate("document.querySelector('label[for=mode]').remove()")
        await browser.evaluate("document.getElementById('status').style.color = '#ccc'")
        found = await audit.violations(browser)
        assert any("select-name" in line for line in found)
        assert any("color-contrast" in line for line in found)


MOVING = """document.getAnimations().filter(animation => animation.playState === "running").length"""


@pytest.mark.parametrize("reduced", [True, False])
async def test_nothing_moves_for_those_who_want_less_motion(
    browser_name: str, reduced: bool, loopback: bool
) -> None:
    async with servers.ours() as url, launch(browser_name, reduced_motion=reduced) as browser:
        await browser.goto(url)
        assert await browser.evaluate("matchMedia('(prefers-reduced-motion: reduce)').matches") == reduced
        await browser.evaluate("document.body.dataset.state = 'connecting'")
        await browser.evaluate(
            "new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)))"
        )
        assert (await browser.evaluate(MOVING) == 0) == reduced
        ring = "getComputedStyle(document.getElementById('ring')).transitionDuration"
        assert (await browser.evaluate(ring) == "0s") == reduced


async def test_what_happens_is_said_to_a_screen_reader(browser_name: str, loopback: bool) -> None:
    async with servers.ours() as url, launch(browser_name) as browser:
        await browser.goto(url)
        roles = "Object.fromEntries([...document.querySelectorAll('[role]')].map(e => [e.id, e.role]))"
        spoken = await browser.evaluate(roles)
        assert {
            "status": "status",
            "problem": "alert",
            "transcript": "log",
            "stops": "status",
        }.items() <= spoken.items()
        # Each change is said once: what is drawn anew without a change is no news.
        await browser.evaluate(
            "(() => { window.changes = 0; const count = list => { window.changes += list.length; };"
            " const what = { childList: true, characterData: true, subtree: true };"
            " new MutationObserver(count).observe(document.getElementById('status'), what); })()"
        )
        await browser.click("#call")
        await browser.wait_for("voiceStack.events.some(event => event.type === 'turn_settings')")
        await browser.wait_for("voiceStack.state === 'connected'")
        before = await browser.evaluate("window.changes")
        assert 0 < before <= 4, "microphone, calling, connecting, connected"
        await browser.evaluate("document.getElementById('silence').dispatchEvent(new Event('change'))")
        assert await browser.evaluate("window.changes") == before
