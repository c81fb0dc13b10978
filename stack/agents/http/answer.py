"""An answer in the making: the model writes, what it wrote is cut into sentences, each sentence becomes sound.

    model ─ pieces ─► Sentences ─► sentence ─ speech ─► sound, while the next sentences are made
      ▲                 │ functions that it calls
      └──── outputs ────┘

Dropping it cancels the requests that run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from stack.agents.http.config import Task
from stack.agents.http.history import CalledTools, ChatHistory
from stack.agents.http.services import ServiceFailed, Services, ToolCall
from stack.agents.sentences import Sentences
from stack.audio import Samples
from stack.core.values import as_unicode

log = logging.getLogger("stack.agents.http")

AHEAD = 3
"""Sentences whose sound is made or waits to be spoken."""
MAX_ROUNDS = 6
"""Times that the model may call functions before it answers."""
INTERRUPTED = "error: the person interrupted before this had returned"
CANCELLED = "error: the function was cancelled"

ToolRunner = Callable[[ToolCall], Awaitable[str]]


class SpokenSentence:
    """One sentence: its text, its sound as it comes, and how often the model had called functions before it."""

    def __init__(self, text: str, round_number: int = 0) -> None:
        self.text, self.round_number = as_unicode(text), round_number
        self._sounds: asyncio.Queue[tuple[Samples, int] | Exception | None] = asyncio.Queue()

    async def sounds(self) -> AsyncIterator[tuple[Samples, int]]:
        """Iterate over int16 mono samples of shape (n,) and their rate; raises `ServiceFailed`."""
        while (sound := await self._sounds.get()) is not None:
            if isinstance(sound, Exception):
                raise sound
            yield sound

    async def make(self, services: Services) -> None:
        """Have it spoken."""
        try:
            async with aclosing(services.speak(self.text)) as sounds:
                async for sound in sounds:
                    self._sounds.put_nowait(sound)
        except Exception as error:  # it is raised where the sound is awaited
            self._sounds.put_nowait(error)
        finally:
            self._sounds.put_nowait(None)


class Answer:
    """An answer to what `history` ends with; the model may call `tools`, which `run_tool` runs."""

    def __init__(
        self,
        services: Services,
        history: ChatHistory,
        instructions: str,
        tools: Sequence[Any] = (),
        run_tool: ToolRunner | None = None,
    ) -> None:
        self._services, self._history, self._instructions = services, history, instructions
        self._tools, self._run_tool = tools, run_tool
        self._sentences: asyncio.Queue[SpokenSentence | Exception | None] = asyncio.Queue()
        self.called: list[CalledTools] = []
        """What the model has called, in the history: once for each time that it did."""
        self._written: list[str] = []  # the sentences since then
        self._has_words = False
        self._room = asyncio.Semaphore(AHEAD)
        self._tasks = {asyncio.create_task(self._make(), name="answer")}

    async def sentences(self) -> AsyncIterator[SpokenSentence]:
        """Iterate over the sentences as they are written; raises what went wrong, `ServiceFailed` above all."""
        while (sentence := await self._sentences.get()) is not None:
            if isinstance(sentence, Exception):
                raise sentence
            yield sentence
            self._room.release()

    def drop(self) -> None:
        """Cancel the requests that run; the caller must not await the answer after that."""
        for task in self._tasks:
            task.cancel()

    async def _make(self) -> None:
        try:
            url = self._services.config.url(Task.CHAT)
            for number in range(MAX_ROUNDS):
                calls = await self._write_briefly()
                if not calls:
                    if not self._has_words:
                        silent = ServiceFailed(Task.CHAT, url, "answered without any words")
                        if not number:
                            raise silent
                        log.warning("%s, after functions that it called", silent)  # one may have ended the call
                    break
                await self._call(calls)
            else:
                raise ServiceFailed(Task.CHAT, url, f"called functions {MAX_ROUNDS} times and did not answer")
        except Exception as error:  # it is raised where the answer is awaited
            self._sentences.put_nowait(error)
        finally:
            self._sentences.put_nowait(None)

    async def _write_briefly(self) -> Sequence[ToolCall]:
        """Write, with less and less of the conversation while that is too long for the model."""
        while True:
            self._written.clear()
            try:
                return await self._write()
            except ServiceFailed as failed:
                if self._written or not failed.is_too_long or not self._history.forget_half():
                    raise
                log.warning("%s; it is told half of the conversation", failed)

    async def _write(self) -> Sequence[ToolCall]:
        """Let the model write, and have spoken what it wrote; return the functions that it wants to be called."""
        sentences = Sentences()
        chat = self._services.chat(self._history.prompt(self._instructions), self._tools)
        async with aclosing(chat.pieces()) as pieces:
            async for piece in pieces:
                for text in sentences.feed(piece):
                    self._speak(text)
        for text in sentences.finish(chat.cut):
            self._speak(text)
        return chat.calls

    def _speak(self, text: str) -> None:
        self._has_words = True
        self._written.append(text)
        sentence = SpokenSentence(text, len(self.called))
        self._sentences.put_nowait(sentence)
        task = asyncio.create_task(self._make_sound(sentence), name="sentence")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make_sound(self, sentence: SpokenSentence) -> None:
        await self._room.acquire()  # until the sentence has been spoken
        await sentence.make(self._services)

    async def _call(self, calls: Sequence[ToolCall]) -> None:
        """Call functions at once, and note what they return, also if the person does not wait for it."""
        called = self._history.add_calls(calls, [INTERRUPTED] * len(calls), " ".join(self._written))
        self.called.append(called)

        async def run(number: int, call: ToolCall) -> None:
            assert self._run_tool is not None
            called.returned(number, await self._run_tool(call))

        running = (run(number, call) for number, call in enumerate(calls))
        for number, ended in enumerate(await asyncio.gather(*running, return_exceptions=True)):
            if isinstance(ended, asyncio.CancelledError):  # by the function itself: we are not cancelled
                called.returned(number, CANCELLED)
            elif ended is not None:
                raise ended
