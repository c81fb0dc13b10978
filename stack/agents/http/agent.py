"""The conversation: each turn is recognised, answered and spoken by servers, and ends where the person interrupts.

What the person said is told to the model even if the person goes on before it is recognised; of an answer, the
model is told what was heard. A server that fails costs its turn: the log has one line, and the caller is told in
words, or by two low tones and in text where there is no voice to say it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from stack.agents.http.answer import Answer, SpokenSentence
from stack.agents.http.config import HttpAgentConfig, Task
from stack.agents.http.history import CalledTools, ChatHistory
from stack.agents.http.services import ServiceFailed, Services, ToolCall
from stack.agents.http.tools import PythonTool, read_tools
from stack.agents.sentences import Spoken, heard_part, understood
from stack.aio import Call, CallEnded, Reply, control_of
from stack.core.errors import LocalError, StackError
from stack.voice.events import ContextAdded, Utterance

log = logging.getLogger("stack.agents.http")

MAX_TURN = 4000
"""Characters of one turn of the person that the model is told: the last ones."""
MAX_SHOWN = 200
"""Characters of arguments that cannot be read that the model is told."""
MS_PER_CHARACTER = 65.0
"""How long a character takes to say, for sentences whose sound is not whole yet."""
_TONE_RATE = 16_000
_BEEP = 6000 * np.sin(2 * np.pi * 330 * np.arange(_TONE_RATE // 6) / _TONE_RATE)
FAILURE_TONE = np.concatenate([_BEEP, np.zeros(_TONE_RATE // 12), _BEEP]).astype(np.int16)


class HttpAgent:
    """A program for `stack.serve`: it talks by means of the servers in its `config`."""

    def __init__(self, config: HttpAgentConfig) -> None:
        """Raises `LocalError` for a tool that cannot be told to a model."""
        self.config = config
        self._tools = read_tools(config.tools)
        self._models: dict[Task, str] = {}
        self._services: Services | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def prepare(self) -> None:
        """Ask the servers what they have; a host calls this when it starts.

        Raises `LocalError` without the library, and for a key or a model that cannot be.
        """
        try:
            import openai  # noqa: F401
        except ImportError as error:
            raise LocalError("the http agent needs `pip install 'voice-stack[http]'`") from error

        async def check() -> None:
            services = Services(self.config, self._models)
            async with services.in_use():
                await services.check()

        asyncio.run(check())

    async def __call__(self, call: Call) -> None:
        """Talk until the call ends."""
        loop = asyncio.get_running_loop()
        if self._services is None or self._loop is not loop:
            self._services, self._loop = Services(self.config, self._models), loop
        async with self._services.in_use():
            conversation = _Conversation(call, self._services, self._tools)
            following = asyncio.create_task(conversation.follow(), name=f"call {call.id}: context")
            try:
                await conversation.run()
            except CallEnded:
                pass  # while something was to be said
            finally:
                following.cancel()
                conversation.drop()


def http_agent(config: HttpAgentConfig) -> HttpAgent:
    """Return the program that talks by means of these servers."""
    return HttpAgent(config)


@dataclass(slots=True)
class _Said:
    """A sentence that is being spoken."""

    text: str
    round_number: int = 0
    milliseconds: float = 0.0
    is_whole: bool = False

    def measured(self) -> Spoken:
        if self.is_whole:
            return Spoken(self.text, self.milliseconds)
        return Spoken(self.text, max(self.milliseconds, MS_PER_CHARACTER * len(self.text)))


class _Conversation:
    def __init__(self, call: Call, services: Services, tools: dict[str, PythonTool]) -> None:
        self._call, self._services, self._tools = call, services, tools
        self._config = services.config
        self._history = ChatHistory()
        self._unheard: list[asyncio.Task[str]] = []  # turns whose words are not known yet
        self._answer: Answer | None = None

    async def run(self) -> None:
        """Greet, and answer every turn."""
        if self._config.greeting:
            await self._greet(self._config.greeting)
        async for utterance in self._call.utterances():
            await self._reply_to(utterance)

    async def follow(self) -> None:
        """Take what the client puts into the conversation."""
        events = self._call.watch()
        try:
            async for event in events:
                if isinstance(event, ContextAdded):
                    self._history.add(event.role, event.text)
        finally:
            self._call.unwatch(events)

    def drop(self) -> None:
        """Cancel what runs for this call."""
        if self._answer is not None:
            self._answer.drop()
        for task in self._unheard:
            task.cancel()

    async def _greet(self, text: str) -> None:
        async def only() -> AsyncIterator[SpokenSentence]:
            yield sentence

        sentence, said = SpokenSentence(text), list[_Said]()
        making = asyncio.create_task(sentence.make(self._services), name="greeting")
        try:
            async with self._call.reply() as voice:
                await self._say(voice, only(), said)
        finally:
            making.cancel()
        await self._remember(voice, said)

    async def _reply_to(self, utterance: Utterance) -> None:
        hearing = partial(self._services.transcribe, utterance.samples, utterance.sample_rate)
        self._unheard.append(asyncio.create_task(_known(utterance.text) if utterance.text else hearing()))
        said = list[_Said]()
        called: Sequence[CalledTools] = ()
        try:
            async with self._call.reply() as voice:
                if not await self._hear(voice, said):
                    return
                self._answer = Answer(
                    self._services, self._history, self._instructions(), self._descriptions(), self._run_tool
                )
                called = self._answer.called
                await self._say(voice, self._answer.sentences(), said)
        finally:
            if self._answer is not None:
                self._answer.drop()
                self._answer = None
        await self._remember(voice, said, called)

    async def _hear(self, voice: Reply, said: list[_Said]) -> bool:
        """Wait for the words of this turn, and of those that were interrupted before; True if there are any."""
        is_new = False
        while self._unheard:
            try:
                words = await asyncio.shield(self._unheard[0])  # an interruption costs no words
            except ServiceFailed as failed:
                del self._unheard[0]
                await self._apologise(voice, failed, said)
                continue
            del self._unheard[0]
            words = understood(words, MAX_TURN)
            if not words:
                log.warning("call %s: the speech recognition heard no words in a turn", self._call.id)
            else:
                self._call.transcribed(words)
                self._history.add("user", words)
                is_new = True
        return is_new

    async def _say(self, voice: Reply, sentences: AsyncIterator[SpokenSentence], said: list[_Said]) -> None:
        """Speak as it comes, and note in `said` what was spoken how long."""
        try:
            async for sentence in sentences:
                current = _Said(sentence.text, sentence.round_number)
                async for samples, rate in sentence.sounds():
                    if not current.milliseconds:
                        voice.write_text(f" {sentence.text}" if said else sentence.text)
                        said.append(current)
                    current.milliseconds += 1000.0 * len(samples) / rate
                    await voice.write(samples, rate)
                current.is_whole = True
        except ServiceFailed as failed:
            await self._apologise(voice, failed, said)

    async def _remember(self, voice: Reply, said: list[_Said], called: Sequence[CalledTools] = ()) -> None:
        """Tell the model what was heard before and after each time that it called functions.

        Of a sentence whose voice failed, that is what had come of its sound.
        """
        left_ms = await voice.heard() if voice.interrupted else math.inf
        rounds = [list[str]() for _ in range(len(called) + 1)]
        for each in said:
            rounds[each.round_number].append(heard_part([each.measured()], min(left_ms, each.milliseconds)))
            left_ms -= each.milliseconds
        *before, last = (" ".join(filter(None, heard)) for heard in rounds)
        for tools, words in zip(called, before, strict=True):
            tools.heard(words)
        if last:
            self._history.add("assistant", last)

    async def _apologise(self, voice: Reply, failed: ServiceFailed, said: list[_Said]) -> None:
        """Say what failed; the log says why. It is noted without words: the model has not said it."""
        log.error("call %s: %s", self._call.id, failed)
        words = self._config.apology.replace("{task}", failed.task.value)
        voice.write_text(f" {words}" if said else words)
        said.append(sorry := _Said("", is_whole=True))
        if failed.task is not Task.SPEECH:
            try:
                async for samples, rate in self._services.speak(words):
                    sorry.milliseconds += 1000.0 * len(samples) / rate
                    await voice.write(samples, rate)
                return
            except ServiceFailed as another:
                log.error("call %s: %s", self._call.id, another)
        sorry.milliseconds += 1000.0 * len(FAILURE_TONE) / _TONE_RATE
        await voice.write(FAILURE_TONE, _TONE_RATE)

    def _instructions(self) -> str:
        """Return the client's instructions, if its dialect has set any, or our own."""
        said = self._call.session.get("instructions")
        return said if isinstance(said, str) and said else self._config.instructions

    def _descriptions(self) -> list[dict[str, Any]]:
        """Return our functions and the client's, as the model is told of them."""
        theirs = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.parameters) or {"type": "object", "properties": {}},
                },
            }
            for tool in self._call.tools
            if tool.name not in self._tools
        ]
        return [tool.description for tool in self._tools.values()] + theirs

    async def _run_tool(self, wanted: ToolCall) -> str:
        """Call a function of ours or the client's."""
        tool, seconds = self._tools.get(wanted.name), self._config.patience.tool
        if not wanted.is_readable:
            return f"error: the arguments are no JSON object: {wanted.arguments[:MAX_SHOWN]}"
        if tool is not None:
            return await tool.call(wanted.arguments, seconds)
        if wanted.name not in {each.name for each in self._call.tools}:
            return f"error: there is no function {wanted.name!r}"
        try:
            async with asyncio.timeout(seconds):
                return await control_of(self._call).call_tool(wanted.name, wanted.arguments or "{}")
        except TimeoutError:
            return f"error: no result within {seconds:g} s"
        except StackError as error:
            return f"error: {error}"


async def _known(text: str) -> str:
    return text
