"""Pictures of the page for the documentation: `python -m interop.page_pictures` calls the assistant to take them.

A synthetic person has it count, interrupts it, and asks what was heard. Chromium at the width of a desktop and of
a phone, in light and dark; what is drawn is a real call, so two runs differ. It needs the demo extra.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np

from interop import servers
from interop.browsers import Microphone, launch
from interop.listening import PLAIN_SOUND
from stack.agents.speech import Synthesiser
from stack.audio import Samples, resample, write_wav

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
SIZES = {"desktop": (1280, 860), "phone": (390, 844)}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
RATE = 48_000
LINES = (
    (7.0, "count aloud"),
    (4.0, "what can you do"),
    (7.0, "what did I say when I interrupted you"),
)
"""Seconds of waiting, and what is said then: the second line falls into the counting."""
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


async def take(folder: Path, speech: Path, scheme: Literal["light", "dark"]) -> None:
    """Call the assistant and take a picture at each size, in one colour scheme."""
    async with (
        servers.ours("assistant") as url,
        launch("chromium", audio_file=speech, loop_audio=False, color_scheme=scheme) as browser,
    ):
        await browser.goto(url)
        await browser.evaluate(PLAIN_SOUND)
        await browser.click("#call")
        await browser.wait_for(f"voiceStack.state === 'connected' && {INTERRUPTED} && {SPOKE_AGAIN}", timeout=60)
        await browser.evaluate(NO_SCROLLBARS)
        for size, (width, height) in SIZES.items():
            await browser.set_viewport(width, height)
            await browser.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            (folder / f"page-{size}-{scheme}.png").write_bytes(await browser.screenshot())


async def take_problem(folder: Path) -> None:
    """Take a picture of what the page says where the microphone is blocked."""
    async with servers.ours("echo") as url, launch("chromium", microphone=Microphone.REFUSED) as browser:
        await browser.set_viewport(*SIZES["phone"])
        await browser.goto(url)
        await browser.click("#call")
        await browser.wait_for("voiceStack.state === 'failed'")
        await browser.evaluate(NO_SCROLLBARS)
        (folder / "page-problem.png").write_bytes(await browser.screenshot())


async def main(folder: Path) -> None:
    """Take all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    voice = Synthesiser(pitch=85, words_per_minute=150)
    with tempfile.TemporaryDirectory() as place:
        speech = Path(place) / "person.wav"
        write_wav(speech, person(voice), RATE)
        for scheme in SCHEMES:
            await take(folder, speech, scheme)
    await take_problem(folder)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
