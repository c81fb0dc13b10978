"""Words while they are being said: a transcriber beside a call, fed by hand."""

import asyncio
import threading
from collections.abc import AsyncIterator

import numpy as np
import pytest

from stack.aio import Hypothesis
from stack.aio.transcription import MAX_TEXTS, MAX_WAITING, Transcription
from stack.core.errors import LocalError
from stack.voice.events import UserStoppedSpeaking, Utterance, UtteranceDiscarded, UtterancePiece


class Speller:
    """Says of what it was given the numbers in it: each sample is a letter."""

    def __init__(self) -> None:
        self.given: list[int] = []
        self.asked = 0
        self.threads: set[int] = set()
        self.gate: threading.Event | None = None

    def push(self, samples: np.ndarray) -> None:
        if self.gate is not None:
            assert self.gate.wait(10)
        self.threads.add(threading.get_ident())
        self.given += samples.tolist()

    def hypothesis(self) -> Hypothesis:
        self.asked += 1
        return Hypothesis(self._text(), 0.5)

    def finish(self) -> str:
        text, self.given = self._text(), []
        return text

    def _text(self) -> str:
        return "".join(chr(sample) for sample in self.given)


def piece(text: str) -> UtterancePiece:
    return UtterancePiece(np.array([ord(letter) for letter in text], np.int16))


def turn(text: str, at: float = 0.0, typed: str = "") -> Utterance:
    return Utterance(piece(text).samples, 16_000, at, at, 0.0, typed)


class Turns:
    """The turns of a call, as its inbox has them."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Utterance | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[Utterance]:
        while (item := await self.queue.get()) is not None:
            yield item


class Setting:
    def __init__(self, speller: Speller | None = None) -> None:
        self.speller = speller or Speller()
        self.notes: list[tuple[str, float | None]] = []
        self.transcription = Transcription(self.speller, lambda text, whole: self.notes.append((text, whole)))
        self.turns = Turns()
        self.texts = self.transcription.utterances(aiter(self.turns))

    def over(self, utterance: Utterance) -> None:
        self.transcription.take(utterance)
        self.turns.queue.put_nowait(utterance)

    async def text(self) -> str:
        return (await asyncio.wait_for(anext(self.texts), 10)).text


async def test_pieces_become_the_text_of_their_turn_off_the_loop() -> None:
    setting = Setting()
    for text in ("what ", "time ", "is it"):
        setting.transcription.take(piece(text))
    setting.over(turn("what time is it"))
    setting.transcription.take(piece("bye"))
    setting.over(turn("bye", 2.0))
    assert [await setting.text(), await setting.text()] == ["what time is it", "bye"]
    assert threading.get_ident() not in setting.speller.threads


async def test_a_pause_asks_for_what_was_said_so_far() -> None:
    setting = Setting()
    setting.transcription.take(piece("one "))
    setting.transcription.take(UserStoppedSpeaking(1.0))
    setting.transcription.take(piece("two"))
    setting.over(turn("one two"))
    assert await setting.text() == "one two"
    assert setting.notes == [], "the turn was over before anybody could ask"

    waiting = asyncio.create_task(setting.text())
    setting.transcription.take(piece("three "))
    setting.transcription.take(UserStoppedSpeaking(4.0))
    async with asyncio.timeout(10):
        while not setting.notes:
            await asyncio.sleep(0)
    assert setting.notes == [("three ", 0.5)]
    setting.transcription.take(piece("four"))
    setting.over(turn("three four", 3.0))
    assert await waiting == "three four"


async def test_what_was_no_turn_is_forgotten() -> None:
    setting = Setting()
    setting.transcription.take(piece("ahem"))
    setting.transcription.take(UtteranceDiscarded())
    setting.transcription.take(piece("hello"))
    setting.over(turn("hello"))
    assert await setting.text() == "hello"


async def test_what_was_typed_needs_no_ears() -> None:
    setting = Setting()
    setting.turns.queue.put_nowait(turn("", typed="by hand"))
    assert await setting.text() == "by hand"


async def test_a_turn_that_somebody_put_together_is_transcribed_whole() -> None:
    setting = Setting()
    setting.transcription.take(piece("half of the "))
    setting.turns.queue.put_nowait(turn("joined", 7.0))
    assert await setting.text() == "joined"
    setting.transcription.take(piece("next"))
    setting.over(turn("half of the next", 9.0))
    assert await setting.text() == "half of the next", "the other one was in its way"
    setting.transcription.take(piece("a"))
    setting.over(turn("b", 12.0))
    assert await setting.text() == "a", "and the one after it comes in pieces again"


async def test_a_slow_transcriber_is_given_the_turn_at_its_end() -> None:
    speller = Speller()
    speller.gate = threading.Event()
    setting = Setting(speller)
    first = asyncio.create_task(setting.text())
    await asyncio.sleep(0)
    for _ in range(MAX_WAITING + 50):
        setting.transcription.take(piece("x"))
    setting.over(turn("the whole of it"))
    speller.gate.set()
    assert await first == "the whole of it"


async def test_turns_that_waited_too_long_are_transcribed_again() -> None:
    setting = Setting()
    for index in range(MAX_TEXTS + 20):
        setting.transcription.take(piece(f"{index}"))
        setting.over(turn(f"{index}", float(index)))
    assert [await setting.text() for _ in range(MAX_TEXTS + 20)] == [f"{n}" for n in range(MAX_TEXTS + 20)]


async def test_what_the_transcriber_raises_reaches_the_program() -> None:
    class Broken(Speller):
        def push(self, samples: np.ndarray) -> None:
            raise RuntimeError("no model")

    setting = Setting(Broken())
    setting.transcription.take(piece("hello"))
    setting.over(turn("hello"))
    with pytest.raises(RuntimeError, match="no model"):
        await setting.text()


@pytest.mark.parametrize(
    ("said", "text"), [("half\ud800", "half\ufffd"), ("\ud83d\ude00", "\U0001f600"), (None, None)]
)
async def test_what_a_transcriber_gives_is_text(said: str | None, text: str | None) -> None:
    class Odd(Speller):
        def finish(self) -> str:
            return said  # type: ignore[return-value]

    setting = Setting(Odd())
    setting.transcription.take(piece("hello"))
    setting.over(turn("hello"))
    if text is not None:
        assert await setting.text() == text
    else:
        with pytest.raises(LocalError, match="text is a str, not NoneType"):
            await setting.text()


@pytest.mark.parametrize("raised", [StopIteration(), SystemExit(2), asyncio.CancelledError()])
async def test_whatever_a_transcriber_raises_reaches_the_program(raised: BaseException) -> None:
    class Broken(Speller):
        def push(self, samples: np.ndarray) -> None:
            raise raised

    setting = Setting(Broken())
    setting.transcription.take(piece("hello"))
    setting.over(turn("hello"))
    with pytest.raises(RuntimeError, match=f"the function raised {type(raised).__name__}"):
        await setting.text()


async def test_the_end_of_the_call_ends_everything() -> None:
    setting = Setting()
    setting.transcription.take(piece("last"))
    setting.over(turn("last"))
    setting.transcription.close()
    setting.turns.queue.put_nowait(turn("unknown", 5.0))
    setting.turns.queue.put_nowait(None)
    assert await setting.text() == "last"
    assert await setting.text() == ""
    with pytest.raises(StopAsyncIteration):
        await anext(setting.texts)
