"""The page in calls with programs of every kind: typing, keys, tokens, failures, a server that is gone."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from interop import servers
from interop.browsers import Browser, Microphone, addressed_namespace, launch
from interop.browsers.namespace import ADDRESS
from interop.programs import ANSWER
from interop.redirect import rewrite_candidates
from interop.web_page import on_loopback
from stack.web import assets

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browsers")]

CONNECTED = "voiceStack.problem || voiceStack.state === 'connected'"
ALERT = "document.querySelector('[role=alert]').innerText"
OPEN_CHANNELS = """voiceStack.connection.getStats().then(report => [...report.values()]
    .filter(each => each.type === "data-channel" && each.state === "open")
    .map(each => each.dataChannelIdentifier))"""
LABEL = "document.getElementById('call').innerText.trim()"
WORDS = "[...document.querySelectorAll('#transcript .words')].map(words => words.innerText)"


def is_shown(identifier: str) -> str:
    return f"document.getElementById('{identifier}').checkVisibility()"


@pytest.fixture
def network() -> Iterator[None]:
    """A machine with one address and a default route."""
    with addressed_namespace() as absent:
        if absent is not None:
            pytest.skip(f"no network for a stock browser: {absent}")
        yield


async def call(browser: Browser, url: str) -> None:
    """Open the page and call; the call stands."""
    await browser.goto(url)
    await browser.click("#call")
    await browser.wait_for(CONNECTED)
    assert await browser.evaluate("voiceStack.problem") is None


async def type_text(browser: Browser, text: str) -> None:
    await browser.evaluate(f"document.getElementById('type').value = {json.dumps(text)}")
    await browser.click("#type-form button")


async def test_what_is_typed_is_a_turn(browser_name: str, loopback: bool) -> None:
    async with servers.ours("interop.programs:answering") as url, launch(browser_name) as browser:
        assert not await browser.evaluate("!!window.voiceStack")
        await call(browser, url)
        await browser.wait_for(is_shown("type-form"))
        await type_text(browser, "what is  it?")
        await browser.wait_for("voiceStack.conversation.entries.at(-1)?.outcome === 'finished'", timeout=15)
        assert await browser.evaluate(WORDS) == ["what is it?", ANSWER]
        await type_text(browser, "again")
        await browser.wait_for("voiceStack.conversation.speaking", timeout=15)
        await type_text(browser, "enough")  # what is typed interrupts
        cut_off = "voiceStack.conversation.entries.some(entry => entry.outcome === 'interrupted')"
        await browser.wait_for(cut_off, timeout=15)
        turns = await browser.evaluate("voiceStack.conversation.turns.length")
        assert turns >= 2, "the answer to a typed turn is timed like any other"
        assert browser.errors == []


async def test_what_is_spoken_is_shown_though_the_same_was_typed(browser_name: str, loopback: bool) -> None:
    """A program may tell a typed turn once more, which adds nothing; a spoken one of the same words is another."""
    tell = """(() => {
      const conversation = voiceStack.conversation, before = conversation.entries.length;
      const user = { type: "transcript", role: "user", text: "yes", final: true };
      for (const event of EVENTS)
        event === "typed" ? conversation.type("yes") : conversation.receive({ ...user, ...event });
      return conversation.entries.slice(before).map(entry => [entry.text, !!entry.typed]);
    })()"""
    typed_turn, spoken_turn = ({"type": "utterance", "duration_ms": ms, "waited_ms": 0} for ms in (0, 900))
    told: dict[str, object] = {}
    spoken = told
    async with servers.ours("interop.programs:answering") as url, launch(browser_name) as browser:
        await browser.goto(url)
        for events, expected in (
            (["typed", typed_turn, told], [["yes", True]]),
            (["typed", "typed", typed_turn, told, told], [["yes", True], ["yes", True]]),
            (["typed", typed_turn, told, spoken], [["yes", True], ["yes", False]]),
            (["typed", typed_turn, spoken_turn, spoken], [["yes", True], ["yes", False]]),
            (["typed", spoken_turn, {"final": False}, spoken], [["yes", True], ["yes", False]]),
        ):
            assert await browser.evaluate(tell.replace("EVENTS", json.dumps(events))) == expected, events


async def test_the_page_keeps_as_many_lines_as_it_knows_entries(browser_name: str, loopback: bool) -> None:
    """Filled and read in one step of the page's: what the call itself says meanwhile would be lines, too."""
    fill = f"""(() => {{
      for (let i = 0; i < 450; i++)
        voiceStack.conversation.receive({{ type: "transcript", role: "user", text: `line ${{i}}`, final: true }});
      return [voiceStack.conversation.entries.length, {WORDS}];
    }})()"""
    async with servers.ours("interop.programs:answering") as url, launch(browser_name) as browser:
        await call(browser, url)
        kept, words = await browser.evaluate(fill)
        assert kept < 450
        assert words == [f"line {number}" for number in range(450 - kept, 450)]
        assert browser.errors == []


@pytest.mark.parametrize("agrees", [True, False])
async def test_the_channel_is_agreed_on_or_else_opened_by_a_message(
    browser_name: str, loopback: bool, agrees: bool
) -> None:
    hide = """(() => {
      const former = window.fetch;
      window.fetch = async (...args) => {
        const response = await former(...args);
        if (args[1]?.method !== "POST") return response;
        const answer = await response.json();
        answer.sdp = answer.sdp.replace(/a=dcmap:.*\\r\\n/g, "");
        return new Response(JSON.stringify(answer));
      };
    })()"""
    async with servers.ours("echo") as url, launch(browser_name) as browser:
        await browser.goto(url)
        if not agrees:
            await browser.evaluate(hide)
        await browser.click("#call")
        await browser.wait_for(CONNECTED)
        await browser.wait_for("voiceStack.events.some(event => event.type === 'turn_settings')")
        assert await browser.evaluate("voiceStack.state") == "connected"
        opened = await browser.evaluate(OPEN_CHANNELS)
        assert len(opened) == 1
        assert (opened[0] == 0) is agrees
        assert browser.errors == []


async def test_nothing_is_offered_that_the_program_would_not_take(browser_name: str, loopback: bool) -> None:
    async with servers.ours("echo") as url, launch(browser_name) as browser:
        await call(browser, url)
        await browser.wait_for("voiceStack.events.some(event => event.type === 'turn_settings')")
        assert not await browser.evaluate(is_shown("type-form"))
        assert not await browser.evaluate(is_shown("talk"))
        chosen = await browser.evaluate("document.getElementById('mode').selectedOptions[0].text")
        assert chosen == "as the program chooses: after a silence"


async def test_a_key_to_talk_with_is_offered_where_the_program_asks_for_it(
    browser_name: str, loopback: bool
) -> None:
    async with servers.ours("interop.programs:asking_for_a_key") as url, launch(browser_name) as browser:
        await call(browser, url)
        await browser.wait_for(is_shown("talk"))
        assert await browser.evaluate("document.getElementById('mode').value") == "", "the person chose nothing"
        await browser.press("Space")
        down = "voiceStack.events.some(event => event.type === 'turn' && event.state === 'user_speaking')"
        assert await browser.wait_for(f"{down} || voiceStack.events.some(event => event.type === 'utterance')")
        # Another rule holds, and the program's own again when it is wanted back.
        for mode, shown in (("full_duplex", False), ("", True)):
            await browser.evaluate(
                f"(() => {{ const mode = document.getElementById('mode'); mode.value = '{mode}';"
                " mode.dispatchEvent(new Event('change')); })()"
            )
            await browser.wait_for(f"{is_shown('talk')} === {json.dumps(shown)}")
        in_force = "voiceStack.events.findLast(event => event.type === 'turn_settings').mode"
        assert await browser.wait_for(f"{in_force} === 'manual' && {in_force}") == "manual"


async def test_a_program_that_fails_says_so_and_no_more(browser_name: str, loopback: bool) -> None:
    async with servers.ours("interop.programs:failing") as url, launch(browser_name) as browser:
        await browser.goto(url)
        await browser.click("#call")
        assert await browser.wait_for("voiceStack.problem?.code") == "program-failed"
        shown = await browser.evaluate(ALERT)
        assert "The program failed." in shown
        assert not await browser.evaluate("document.body.innerText.match(/secret|ValueError|Traceback/)")
        assert browser.errors == []


async def test_a_program_that_fails_says_so_though_the_connection_ends_before_its_words(
    browser_name: str, loopback: bool
) -> None:
    """A busy browser tells the page of the end first."""
    hold = """(() => {
      const add = RTCDataChannel.prototype.addEventListener;
      window.held = [];
      RTCDataChannel.prototype.addEventListener = function (type, handler) {
        const hold = event => held.push({ data: String(event.data), tell: () => handler(event) });
        return add.call(this, type, type === "message" ? hold : handler);
      };
    })()"""
    async with servers.ours("interop.programs:failing") as url, launch(browser_name) as browser:
        await browser.goto(url)
        await browser.evaluate(hold)
        await browser.click("#call")
        await browser.wait_for("voiceStack.endedBy === 'program'")
        assert await browser.evaluate("voiceStack.problem") is None
        # A busy page that has heard nothing for long has begun another call, which fails, too: its words as well.
        told = "(held.splice(0).forEach(each => each.tell()), voiceStack.problem?.code)"
        assert await browser.wait_for(told) == "program-failed"
        await browser.wait_for(f"({ALERT})?.includes('The program failed.')")
        assert await browser.evaluate("voiceStack.state") == "failed"
        assert browser.errors == []


async def test_a_refused_token_asks_for_one(browser_name: str, loopback: bool) -> None:
    async with servers.ours("echo", ["--token", "call=sesame"]) as url, launch(browser_name) as browser:
        await browser.goto(url)
        assert not await browser.evaluate(is_shown("token-form"))
        await browser.click("#call")
        assert await browser.wait_for("voiceStack.problem?.code") == "token-needed"
        assert await browser.evaluate("document.activeElement.id") == "token"
        for letter in "open":
            await browser.press(letter)
        await browser.press("Enter")
        assert await browser.wait_for("voiceStack.problem?.code === 'token-refused'")
        assert "did not take this token" in await browser.evaluate(ALERT)
        await browser.evaluate("document.getElementById('token').value = 'sesame'")
        await browser.click("#token-form button")
        await browser.wait_for("voiceStack.state === 'connected'")
        assert not await browser.evaluate(is_shown("token-form"))
        assert await browser.evaluate(ALERT) == ""
        await call(browser, url)  # the tab remembers it
        assert browser.errors == []


@pytest.mark.parametrize("token", ["пароль", "café", "two words"])
async def test_what_can_be_no_token_is_a_refused_one(browser_name: str, loopback: bool, token: str) -> None:
    async with servers.ours("echo", ["--token", "sesame"]) as url, launch(browser_name) as browser:
        await browser.goto(url)
        await browser.click("#call")
        await browser.wait_for("voiceStack.problem?.code === 'token-needed'")
        await browser.evaluate(f"document.getElementById('token').value = {json.dumps(token)}")
        await browser.click("#token-form button")
        await browser.wait_for("voiceStack.problem?.code === 'token-refused'")
        await browser.goto(url)  # the tab remembers it, and has to ask again
        await browser.click("#call")
        await browser.wait_for("voiceStack.problem?.code === 'token-refused'")
        assert await browser.evaluate(is_shown("token-form"))
        await browser.evaluate("document.getElementById('token').value = 'sesame'")
        await browser.click("#token-form button")
        await browser.wait_for("voiceStack.state === 'connected'")
        assert browser.errors == []


async def test_a_server_that_is_gone_is_given_up_and_can_be_called_again(
    browser_name: str, loopback: bool
) -> None:
    async with servers.ours_to_be_killed() as (url, kill), launch(browser_name) as browser:
        await call(browser, url)
        await browser.wait_for("voiceStack.stats?.packetsReceived > 20")
        kill()
        # What is wrong is said when the call that is to take its place has failed, too: a moment later, it may be.
        await browser.wait_for("voiceStack.state === 'failed' && voiceStack.problem !== null", timeout=10)
        assert await browser.evaluate("voiceStack.problem.code") == "server-gone"
        assert await browser.evaluate(LABEL) == "Call again"
        assert "server is gone" in await browser.evaluate(ALERT)
        await browser.click("#call")
        await browser.wait_for("voiceStack.problem?.code === 'server-unreachable'", timeout=10)


async def test_a_quiet_server_is_not_taken_for_one_that_is_gone(browser_name: str, loopback: bool) -> None:
    """The program says nothing, the microphone is muted: there is nothing but checks and acknowledgements."""
    async with servers.ours("interop.programs:answering") as url, launch(browser_name) as browser:
        await call(browser, url)
        await browser.click("#mute")
        began = await browser.evaluate("performance.now()")
        await browser.wait_for(f"performance.now() - {began} > 12000 || voiceStack.state !== 'connected'")
        assert await browser.evaluate("voiceStack.state") == "connected"


@asynccontextmanager
async def leading_nowhere(server: str) -> AsyncIterator[str]:
    """The page, and a server whose answers lead to a port at which nothing is ever answered."""
    page = assets()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))

        async def offer(request: web.Request) -> web.Response:
            async with (
                aiohttp.ClientSession() as http,
                http.post(server + "/api/offer", json=await request.json()) as response,
            ):
                answer = await response.json()
            answer["sdp"] = rewrite_candidates(answer["sdp"], silent.getsockname())
            return web.json_response(answer)

        async def asset(request: web.Request) -> web.Response:
            found = page[request.match_info.get("name", "index.html")]
            return web.Response(body=found.data, headers={"Content-Type": found.media_type})

        app = web.Application()
        app.add_routes([web.get("/", asset), web.get("/static/{name}", asset), web.post("/api/offer", offer)])
        async with on_loopback(app) as url:
            yield url


async def test_where_udp_is_blocked_the_page_says_so(browser_name: str, loopback: bool) -> None:
    async with servers.ours() as server, leading_nowhere(server) as url, launch(browser_name) as browser:
        await browser.goto(url)
        await browser.click("#call")
        assert await browser.wait_for("voiceStack.problem?.code", timeout=15) == "no-path"
        shown = await browser.evaluate(ALERT)
        assert "nothing came back within 10 s" in shown
        assert "VPN" in shown
        assert browser.errors == []


async def test_who_has_no_microphone_can_listen_and_type(browser_name: str, network: None) -> None:
    async with (
        servers.ours("interop.programs:answering", host=None) as url,
        launch(browser_name, stock=True, microphone=Microphone.REFUSED) as browser,
    ):
        await browser.goto(url)
        await browser.click("#call")
        assert await browser.wait_for("voiceStack.problem?.code") == "microphone-blocked"
        await browser.click("#without")
        await browser.wait_for(f"voiceStack.state === 'connected' && {is_shown('type-form')}")
        assert not await browser.evaluate(is_shown("mute"))
        await type_text(browser, "hello")
        heard = "voiceStack.connection.getStats().then(r => [...r.values()].find(s => s.type === 'inbound-rtp'))"
        await browser.wait_for(f"{heard}.then(stats => stats?.packetsReceived > 50)", timeout=15)
        assert await browser.evaluate(WORDS) == ["hello", ANSWER]
        assert browser.errors == []


async def test_an_address_without_https_is_told_before_anything_is_pressed(
    browser_name: str, network: None
) -> None:
    async with servers.ours(host="0.0.0.0") as url, launch(browser_name, stock=True) as browser:
        await browser.goto(url.replace("127.0.0.1", ADDRESS))
        await browser.wait_for(f"{ALERT} !== ''")
        assert "https" in await browser.evaluate(ALERT)
        await browser.click("#call")
        assert await browser.wait_for("voiceStack.problem?.code") == "microphone-insecure"


async def test_a_whole_call_by_keyboard(browser_name: str, loopback: bool) -> None:
    async with servers.ours("interop.programs:answering") as url, launch(browser_name) as browser:
        await browser.goto(url)

        async def focus(identifier: str) -> None:
            for _ in range(30):
                if await browser.evaluate("document.activeElement.id") == identifier:
                    return
                await browser.press("Tab")
            raise AssertionError(f"the keyboard does not reach {identifier}")

        await focus("call")
        await browser.press("Enter")
        await browser.wait_for(f"voiceStack.state === 'connected' && {is_shown('type-form')}")
        await focus("type")
        for letter in "hi":
            await browser.press(letter)
        await browser.press("Enter")
        await browser.wait_for("voiceStack.conversation.speaking", timeout=15)
        await browser.press("Escape")
        await browser.wait_for("voiceStack.conversation.entries.at(-1)?.outcome === 'interrupted'", timeout=5)
        # Shift and Tab lead back; without Shift, Firefox goes on through its own window.
        await browser.evaluate("document.getElementById('call').focus()")
        await browser.press("Enter")
        await browser.wait_for("voiceStack.state === 'ended'")
        assert await browser.evaluate("document.activeElement.id") == "call"
        assert await browser.evaluate(LABEL) == "Call again"
        assert browser.errors == []


async def test_below_a_prefix_with_a_token(browser_name: str, loopback: bool) -> None:
    arguments = ["--path-prefix", "/voice", "--token", "sesame"]
    async with servers.ours("echo", arguments) as url, launch(browser_name) as browser:
        await browser.goto(url + "/voice/")
        await browser.evaluate("sessionStorage.setItem('voice-stack.token', 'sesame')")
        await call(browser, url + "/voice")
        assert (await browser.evaluate("location.pathname")) == "/voice/"
