"""The page as a part of a FastAPI application, below a prefix, in real browsers."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from interop.browsers import launch
from stack.agents import echo
from stack.aio import HostConfig
from tests.embedding.serving import uvicorn_runs
from tests.interop.conftest import LISTEN, PLAIN_SOUND, TONE_HZ

pytest.importorskip("uvicorn", reason="uvicorn is not installed")
fastapi = pytest.importorskip("fastapi", reason="fastapi is not installed")
EXAMPLE = Path(__file__).parents[2] / "examples/in_fastapi.py"
pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browsers")]


async def test_a_call_from_the_page_below_a_prefix(browser_name: str, loopback: bool, tone_file: Path) -> None:
    from stack.asgi import VoiceApp

    voice = VoiceApp(echo, config=HostConfig(host="127.0.0.1", udp_port=0))
    app = fastapi.FastAPI(lifespan=voice.lifespan)
    app.mount("/voice", voice)
    async with uvicorn_runs(app) as url, launch(browser_name, audio_file=tone_file) as browser:
        await browser.goto(f"{url}/voice")
        assert await browser.evaluate("location.pathname") == "/voice/"
        await browser.evaluate(PLAIN_SOUND)
        await browser.click("#call")
        assert await browser.wait_for("voiceStack.problem || voiceStack.timings.first_packet") > 0
        await browser.wait_for("voiceStack.state === 'connected'")
        heard = await browser.evaluate(LISTEN)
        assert heard["hertz"] == pytest.approx(TONE_HZ, abs=15)
        await browser.click("#call")
        await browser.wait_for("voiceStack.state === 'ended'")
        assert browser.errors == []


async def test_the_page_of_the_example_for_users_alone(
    browser_name: str, loopback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENS", "ada=secret")
    monkeypatch.setenv("UDP_PORT", "0")
    example = runpy.run_path(str(EXAMPLE))
    async with uvicorn_runs(example["app"]) as url, launch(browser_name) as browser:
        await browser.goto(f"{url}/voice/")
        assert "for our users" in await browser.evaluate("document.body.innerText")
        await browser.goto(f"{url}/login?token=secret")
        assert await browser.evaluate("location.pathname") == "/voice/"
        await browser.click("#call")
        await browser.wait_for("voiceStack.problem || voiceStack.state === 'connected'")
        assert await browser.evaluate("voiceStack.problem") is None
        (call,) = example["voice"].host.calls.values()
        assert call.context.state["user"] == "ada"
        assert browser.errors == []
