"""The offline assistant through a real browser, with recorded people as its microphone: words and sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from interop import listening, monologue, servers
from interop.browsers import launch
from stack.audio import Samples, read_wav, resample, write_wav
from stack.core.errors import LocalError

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browsers"),
    pytest.mark.skipif(not monologue.RECORDINGS.exists(), reason="no recorded speech: pocketsphinx-testdata"),
]
RATE = listening.RATE
CARD = monologue.RECORDINGS / "cards" / "003.wav"
ERRAND = monologue.RECORDINGS / "something.raw"

SAID = """voiceStack.conversation.entries.filter(entry => entry.role === 'user').map(entry => entry.text)"""
TOLD = "voiceStack.conversation.entries.filter(entry => entry.reply)"
OVER = f"{TOLD}.length >= 5 && {TOLD}.at(-1).outcome === 'finished' && {SAID}.length >= 4"


@pytest.fixture(scope="module")
def voices() -> tuple[object, object]:
    """The assistant's voice, and that of a person who asks what is in no recording."""
    speech = pytest.importorskip("stack.agents.speech")
    try:
        speech.Recogniser("#JSGF V1.0; grammar g; public <g> = yes;")
        return speech.Synthesiser(), speech.Synthesiser(pitch=85, words_per_minute=150)
    except LocalError as error:
        pytest.skip(f"{error}")


def spoken(voice: object, text: str) -> Samples:
    return resample(voice.speak(text), voice.sample_rate, RATE)  # type: ignore[attr-defined]


async def test_people_talk_with_the_assistant_and_interrupt_it(
    browser_name: str, loopback: bool, voices: tuple[object, object], tmp_path: Path
) -> None:
    own, other = voices

    def quiet(seconds: float) -> Samples:
        return np.random.default_rng(3).normal(0, 8, int(seconds * RATE)).astype(np.int16)

    person = np.concatenate(
        [
            quiet(7.0),  # it greets
            read_wav(CARD)[0],  # "seven of clubs"
            quiet(5.0),
            spoken(other, "count aloud"),
            quiet(4.0),
            np.fromfile(ERRAND, "<i2"),  # "go somewhere and do something"
            quiet(7.0),
            spoken(other, "what did I say when I interrupted you"),
            quiet(20.0),
        ]
    )
    path = tmp_path / "person.wav"
    write_wav(path, resample(person, RATE, 48_000), 48_000)
    async with (
        servers.ours("assistant") as url,
        launch(browser_name, audio_file=path, loop_audio=False) as browser,
    ):
        await browser.goto(url)
        await browser.evaluate(listening.PLAIN_SOUND)
        await browser.click("#call")
        await browser.wait_for("voiceStack.state === 'connected'")
        await browser.evaluate(listening.RECORD)
        assert await browser.wait_for(OVER, timeout=75)
        said, told = await browser.evaluate(SAID), await browser.evaluate(TOLD)
        turns = await browser.evaluate("voiceStack.conversation.turns")
        unheard = await browser.evaluate("[...document.querySelectorAll('#transcript s')].map(s => s.textContent)")
        announced = await listening.announcements(browser)
        sound = await listening.recorded(browser)
        assert browser.errors == []

    # The transcript: what people said, what was answered, and where the counting was cut off.
    memory = "what did i say when i interrupted you"
    assert said == ["seven of clubs", "count aloud", "go somewhere and do something", memory]
    words = ["".join(segment["text"] for segment in reply["segments"]) for reply in told]
    greeting, card, counting, errand, recalled = words
    assert greeting.startswith("Hello!")
    assert card == "I have the king of hearts. I win."
    assert counting.startswith("one, two, three")
    assert errand.startswith("I would love to go somewhere")
    assert [reply["outcome"] for reply in told] == ["finished", "finished", "interrupted", "finished", "finished"]
    assert recalled.startswith("You said: go somewhere and do something. I had just said ")
    heard, struck = counting[: -len(unheard[0].strip())], unheard[0].strip()
    assert counting.endswith(struck), "what was not heard is struck out"
    last = recalled.removesuffix(".").rsplit("said ", 1)[1]
    assert last in heard[-20:] + struck[:20], "and the assistant knows how far it came"
    assert len(turns) >= 4
    assert all(turn["program"] < 500 for turn in turns), "a reply begins soon after the turn is over"

    # The sound: each answer is to be heard, in its order, and the counting only as far as it is said to have been.
    at = 0
    for answer in ("I have the king of hearts.", "one, two, three, four, five.", "I would love to go somewhere"):
        piece = spoken(own, answer)
        where, likeness = listening.find(piece[RATE // 20 : RATE // 2], sound[at:], first=True)
        assert likeness > 0.4, answer
        at += where
    counted = np.concatenate([spoken(own, segment["text"]) for segment in told[2]["segments"]])
    heard_to = int(told[2]["heardMs"] * RATE / 1000)
    begin = int((announced[told[2]["reply"]] - listening.EARLY) * RATE)
    # By what was to be heard last, not by how long it took: a machine that is busy holds sound up.
    last_words = counted[max(0, heard_to - RATE // 2) : heard_to - RATE // 10]
    place, likeness = listening.find(last_words, sound[begin : begin + heard_to + 4 * RATE])
    assert likeness > 0.4
    end = begin + place + len(last_words) + RATE // 10 + int(0.3 * RATE)
    assert np.abs(sound[end : end + RATE // 4].astype(int)).max() < 300, "it fell silent"
