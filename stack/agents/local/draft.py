"""A draft of an answer: recognised, generated and synthesised as it will be said, before the turn is over.

    samples ─ recognise ─► words ─ generate ─► pieces ─ Sentences ─ synthesise ─► (sentence, sound), a few ahead

It begins when the person falls silent for a moment. If that was the end of the turn, much of the wait for it was
not lost; if not, the draft is dropped, and the model stops where it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from stack.agents.local.text import MAX_SENTENCES, MAX_TOKENS, Message
from stack.agents.local.worker import Worker
from stack.agents.sentences import Sentences, understood
from stack.audio import Samples

AHEAD: Final = 2
"""Sentences that are made before they can be spoken."""


class Sound(NamedTuple):
    """A sentence, or the beginning of one, as it sounds."""

    text: str
    samples: Samples
    sample_rate: int

    @property
    def milliseconds(self) -> float:
        """How long it takes to say."""
        return 1000.0 * len(self.samples) / self.sample_rate


@dataclass(slots=True)
class Timings:
    """When each part of the first sound was there, in seconds of the monotonic clock."""

    begun: float = field(default_factory=time.monotonic)
    recognised: float | None = None
    first_token: float | None = None
    first_sentence: float | None = None
    first_sound: float | None = None

    def as_milliseconds(self) -> dict[str, float]:
        """Return how long each part took; those that were not reached are left out."""
        names = ("recognition_ms", "first_token_ms", "first_sentence_ms", "synthesis_ms")
        moments = (self.begun, self.recognised, self.first_token, self.first_sentence, self.first_sound)
        pairs = zip(names, moments, moments[1:], strict=False)
        return {
            name: round(1000.0 * (after - before), 1)
            for name, before, after in pairs
            if before is not None and after is not None
        }


class Draft:
    """An answer to what is in `samples` (int16 at 16 kHz), or to `words` if they are known."""

    def __init__(
        self,
        worker: Worker,
        slot: int,
        prompt: Callable[[str], list[Message]],
        samples: Samples,
        words: str = "",
        note: Callable[[str], None] | None = None,
    ) -> None:
        """`prompt` makes the messages out of the words; `note` is told of them as soon as they are known."""
        self.timings = Timings()
        self._worker, self._slot, self._prompt, self._note = worker, slot, prompt, note
        self._sounds: asyncio.Queue[Sound | None] = asyncio.Queue(AHEAD)
        self._words = ""
        self._words_known = asyncio.Event()
        self._error: Exception | None = None
        self._task = asyncio.create_task(self._make(samples, words), name="draft of an answer")

    async def words(self) -> str:
        """Return what the person said, as soon as it is known; raises what went wrong."""
        await self._words_known.wait()
        if self._error is not None:
            raise self._error
        return self._words

    async def sounds(self) -> AsyncIterator[Sound]:
        """Iterate over the answer; raises what went wrong in making it."""
        while (sound := await self._sounds.get()) is not None:
            yield sound
        if self._error is not None:
            raise self._error

    def drop(self) -> None:
        """Stop recogniser, model and synthesiser; the caller must not await the answer after that."""
        self._task.cancel()

    async def _make(self, samples: Samples, words: str) -> None:
        try:
            self._words = words or understood(await self._worker.recognise(samples))
            self.timings.recognised = time.monotonic()
            self._words_known.set()
            if self._words and self._note is not None:
                self._note(self._words)
            if self._words:
                await self._answer(self._words)
        except Exception as error:  # it is raised where the draft is used, if it is
            self._error = error
            self._words_known.set()
        await self._sounds.put(None)

    async def _answer(self, words: str) -> None:
        sentences = Sentences(MAX_SENTENCES)
        async with self._worker.generating(self._prompt(words), self._slot, MAX_TOKENS) as generation:
            async for piece in generation:
                self.timings.first_token = self.timings.first_token or time.monotonic()
                await self._say(sentences.feed(piece))
                if sentences.full:
                    return
            await self._say(sentences.finish(generation.cut))

    async def _say(self, sentences: list[str]) -> None:
        for sentence in sentences:
            self.timings.first_sentence = self.timings.first_sentence or time.monotonic()
            samples, rate = await self._worker.synthesise(sentence)
            self.timings.first_sound = self.timings.first_sound or time.monotonic()
            await self._sounds.put(Sound(sentence, samples, rate))
