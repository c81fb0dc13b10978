"""A spoken conversation through a real browser: people interrupt a program, and hear its next words whole."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest

from interop import listening, monologue, servers
from interop.browsers import launch
from stack.audio import Samples, resample, write_wav

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browsers"),
    pytest.mark.skipif(not monologue.RECORDINGS.exists(), reason="no recorded speech: pocketsphinx-testdata"),
]

TWICE_AND_ON = """voiceStack.conversation.entries.filter(entry => entry.outcome === 'interrupted').length >= 2
  && voiceStack.conversation.entries.at(-1).outcome === 'speaking'"""


FRAME = 320


def loudest(sound: Samples) -> float:
    """Return the greatest RMS of 20 ms."""
    blocks = sound[: len(sound) // FRAME * FRAME].astype(float).reshape(-1, FRAME)
    return float(np.sqrt((blocks**2).mean(axis=1)).max(initial=0.0))


@pytest.fixture
def person(tmp_path: Path) -> Path:
    """The microphone: a person with another voice than the program's, who speaks up three times."""
    path = tmp_path / "person.wav"
    write_wav(
        path,
        resample(monologue.microphone(3, 1, quiet=2.0, lead=6.0), monologue.RATE, 48_000),
        48_000,
    )
    return path


async def test_a_program_that_is_interrupted_falls_silent_and_begins_anew(
    browser_name: str, loopback: bool, person: Path
) -> None:
    async with (
        servers.ours("interop.monologue:monologue") as url,
        launch(browser_name, audio_file=person, loop_audio=False) as browser,
    ):
        await browser.goto(url)
        await browser.evaluate(listening.PLAIN_SOUND)
        await browser.click("#call")
        await browser.wait_for("voiceStack.state === 'connected'")
        await browser.evaluate(listening.RECORD)
        assert await browser.wait_for(TWICE_AND_ON, timeout=45)
        await browser.evaluate("new Promise(resolve => setTimeout(resolve, 1000))")
        entries = await browser.evaluate("voiceStack.conversation.entries")
        events = await browser.evaluate("voiceStack.events")
        shown = await browser.evaluate("document.getElementById('stops').textContent")
        struck = await browser.evaluate(
            "[...document.querySelectorAll('#transcript s')].map(s => s.textContent.trim())"
        )
        announced = await listening.announcements(browser)
        sound = await listening.recorded(browser)
        assert browser.errors == []

    cut_off = [entry for entry in entries if entry["outcome"] == "interrupted"]
    # What the page shows: how fast it stopped, and which words were not heard.
    assert f"silent {round(cut_off[-1]['stopMs'])} ms later" in shown
    assert len(cut_off) >= 2
    middle = statistics.median(entry["stopMs"] for entry in cut_off)
    assert f"median of {len(cut_off)}: {int(middle + 0.5)} ms." in shown
    assert all(0 < entry["stopMs"] < 1000 for entry in cut_off)
    assert len(struck) == len(cut_off)
    assert all(words and monologue.WORDS.endswith(words) for words in struck)
    # What it plays: each reply up to where the server says, then silence, then the next from its very beginning.
    replies = {entry["reply"]: monologue.reply_sound(entry["reply"]) for entry in entries}
    played = listening.played(replies, sound, announced)
    assert set(played) == {entry["reply"] for entry in entries}
    for entry in cut_off:
        assert entry["heardMs"] == pytest.approx(played[entry["reply"]].heard_ms, abs=100)
        end, begin = played[entry["reply"]].end, played[entry["reply"] + 1].begin
        assert loudest(sound[end + FRAME : begin - 3 * FRAME]) < 500, (
            "nothing of it comes back when the track opens"
        )
        assert played[entry["reply"] + 1].is_whole
    # What left after the decision is nothing: the sound that is not heard is what waited in the browser.
    cuts = [event for event in events if event["type"] == "reply_interrupted"]
    assert all(event["heard_ms"] <= event["sent_ms"] < event["heard_ms"] + 400 for event in cuts)


async def test_the_rules_of_turns_change_in_a_call_and_the_space_bar_talks(
    browser_name: str, loopback: bool, person: Path
) -> None:
    async with (
        servers.ours("interop.monologue:monologue") as url,
        launch(browser_name, audio_file=person, loop_audio=False, viewport=(360, 740)) as browser,
    ):
        await browser.goto(url)
        await browser.click("#call")
        await browser.wait_for("voiceStack.conversation.speaking === 1", timeout=20)
        # Escape interrupts.
        await browser.press("Escape")
        await browser.wait_for("voiceStack.conversation.entries[0]?.outcome === 'interrupted'", timeout=5)
        await browser.evaluate(
            "(() => { const mode = document.getElementById('mode');"
            " mode.value = 'manual'; mode.dispatchEvent(new Event('change')); })()"
        )
        assert await browser.evaluate("!document.getElementById('talk').hidden")
        assert await browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await browser.wait_for("voiceStack.conversation.speaking > 1", timeout=10)
        reply = await browser.evaluate("voiceStack.conversation.speaking")
        # The focus is on the button that hangs up, and the space bar talks all the same.
        assert await browser.evaluate("document.activeElement.id") == "call"
        await browser.press("Space")
        stopped = f"voiceStack.conversation.entries.find(entry => entry.reply === {reply})?.outcome"
        assert await browser.wait_for(f"{stopped} === 'interrupted'", timeout=5)
        assert await browser.evaluate("voiceStack.state") == "connected"
        assert browser.errors == []
