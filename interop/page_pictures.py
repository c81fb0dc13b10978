"""Pictures of the page and of the documentation's site: `python -m interop.page_pictures`, or `make pictures`.

A synthetic person has the assistant count, interrupts it, and asks what was heard: a real call, so that two runs
differ. All are to be looked at, in build/pictures: Chromium and Firefox at the width of a desktop and of a phone,
in light and dark. Those of the page in Chromium are the documentation's, too (docs/pictures). What is wider
than its window, or could not be taken, is named, and the exit code is 1; the documentation then keeps what it
has. It needs the demo extra, and for the site the docs extra. The page shows how long it waited for answers, so
take them on a machine that does nothing else.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from aiohttp import web

from interop import servers
from interop.browsers import Browser, BrowserError, Microphone, available, launch
from interop.interruption import run_alone
from interop.listening import PLAIN_SOUND
from interop.web_page import on_loopback
from stack.agents.speech import Synthesiser
from stack.audio import Samples, resample, write_wav

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = ROOT / "docs" / "pictures"
LOOKED_AT = ROOT / "build" / "pictures"
Scheme: TypeAlias = Literal["light", "dark"]
SIZES = {"desktop": (1280, 860), "phone": (390, 844)}
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
SITE = (
    "index.html",
    "start/claims.html",
    "guides/turns.html",
    "learn/2-path.html",
    "reference/cli.html",
    "ice.html",
)
"""Pages of the site: a picture, wide tables, programs, bytes, options, a diagram."""
RATE = 48_000
LINES = (
    (7.0, "count aloud"),
    (4.0, "what can you do"),
    (7.0, "what did I say when I interrupted you"),
)
"""Seconds of waiting, and what is said then: the second line falls into the counting."""
SETTLED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 100))))"
DIAGRAMS_ARE_THERE = """document.readyState === 'complete' && [...document.querySelectorAll('.mermaid')]
  .every(each => each.tagName === 'DIV' && each.offsetHeight > 60)"""
NO_SCROLLBARS = "document.documentElement.style.scrollbarWidth = 'none'"
INTERRUPTED = "voiceStack.conversation.entries.some(entry => entry.outcome === 'interrupted')"
SPOKE_AGAIN = "voiceStack.conversation.entries.filter(entry => entry.reply).length >= 4"


def person(voice: Synthesiser) -> Samples:
    """Return what the microphone hears: 48 kHz, quiet but for the lines."""
    noise = np.random.default_rng(3)
    parts = []
    for wait, line in LINES:
        parts.append(noise.normal(0, 8, int(wait * RATE)).astype(np.int16))
        parts.append(resample(voice.speak(line), voice.sample_rate, RATE))
    parts.append(noise.normal(0, 8, 20 * RATE).astype(np.int16))
    return np.concatenate(parts)


async def tried(what: str, taking: Awaitable[list[str]]) -> list[str]:
    """Take pictures; return what is wrong with them, or that there are none, in a line each."""
    try:
        return await taking
    except (BrowserError, TimeoutError) as error:
        return [f"{what}: not taken: {str(error).partition(' from: ')[0] or type(error).__name__}"]


async def shoot(browser: Browser, file: Path) -> list[str]:
    """Take a picture at each size, `file` with the size in its name; return what is too wide."""
    wide = []
    await browser.evaluate(NO_SCROLLBARS)
    for size, (width, height) in SIZES.items():
        await browser.set_viewport(width, height)
        await browser.evaluate(SETTLED)
        picture = file.with_name(file.name.format(size=size))
        picture.write_bytes(await browser.screenshot())
        if await browser.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            wide.append(f"{picture.name}: the page is wider than its window")
    return wide


async def take_call(name: str, speech: Path, scheme: Scheme) -> list[str]:
    """Call the assistant, and take pictures in the middle of the call."""
    async with (
        servers.ours("assistant") as url,
        launch(name, audio_file=speech, loop_audio=False, color_scheme=scheme) as browser,
    ):
        await browser.goto(url)
        await browser.evaluate(PLAIN_SOUND)
        await browser.click("#call")
        await browser.wait_for(f"voiceStack.state === 'connected' && {INTERRUPTED} && {SPOKE_AGAIN}", timeout=60)
        return await shoot(browser, LOOKED_AT / f"page-{{size}}-{scheme}-{name}.png")


async def take_problem(name: str, scheme: Scheme) -> list[str]:
    """Take pictures of what the page says where the microphone is blocked."""
    async with (
        servers.ours("echo") as url,
        launch(name, microphone=Microphone.REFUSED, color_scheme=scheme) as browser,
    ):
        await browser.goto(url)
        await browser.click("#call")
        await browser.wait_for("voiceStack.state === 'failed'")
        return await shoot(browser, LOOKED_AT / f"problem-{{size}}-{scheme}-{name}.png")


async def take_site(url: str, name: str, scheme: Scheme) -> list[str]:
    """Take pictures of the documentation's pages; return those that are too wide."""
    wide = []
    async with launch(name, color_scheme=scheme) as browser:
        for path in SITE:
            await browser.goto(url + path)
            await browser.wait_for(DIAGRAMS_ARE_THERE)
            file = LOOKED_AT / f"site-{path.removesuffix('.html').replace('/', '-')}-{{size}}-{scheme}-{name}.png"
            wide += await shoot(browser, file)
    return wide


@asynccontextmanager
async def site() -> AsyncIterator[str | None]:
    """Context: the documentation's site, built and served; None without what builds it."""
    if find_spec("mkdocs") is None or find_spec("material") is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as place:
        command = (sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", place)
        environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
        building = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment)
        if await building.wait() != 0:
            sys.exit("the site was not built")
        app = web.Application()
        app.router.add_static("/", place)
        async with on_loopback(app) as url:
            yield url


def publish() -> Iterator[Path]:
    """Copy those that the documentation shows; yield where to."""
    shown = {f"page-{size}-{scheme}": f"page-{size}-{scheme}-chromium" for size, scheme in product(SIZES, SCHEMES)}
    for here, there in (shown | {"page-problem": "problem-phone-light-chromium"}).items():
        picture = PUBLISHED / f"{here}.png"
        picture.write_bytes((LOOKED_AT / f"{there}.png").read_bytes())
        yield picture


async def main() -> int:
    """Take all pictures; return the exit code."""
    LOOKED_AT.mkdir(parents=True, exist_ok=True)
    names = [browser.name for browser in available()]
    if "chromium" not in names:
        sys.exit("the pictures of the documentation are taken in Chromium, which is not installed here")
    voice = Synthesiser(pitch=85, words_per_minute=150)
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        speech = Path(place) / "person.wav"
        write_wav(speech, person(voice), RATE)
        for name, scheme in product(names, SCHEMES):
            wrong += await tried(f"page in {name}, {scheme}", take_call(name, speech, scheme))
            wrong += await tried(f"problem in {name}, {scheme}", take_problem(name, scheme))
    published = [] if wrong else list(publish())
    async with site() as url:
        for name, scheme in product(names, SCHEMES):
            if url is not None:
                wrong += await tried(f"site in {name}, {scheme}", take_site(url, name, scheme))
        if url is None:
            print("The site is not among them: its tools are not installed (make setup-docs).", file=sys.stderr)
    print("\n".join([*wrong, *(f"{path.relative_to(ROOT)}" for path in published), f"all: {LOOKED_AT}"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    run_alone(lambda: asyncio.run(main()))
