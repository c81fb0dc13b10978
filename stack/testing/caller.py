"""The caller: what it says, what it hears, and what the program did meanwhile."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, TypeAlias, TypeVar

import numpy as np

from stack.aio import Call, DataChannel
from stack.audio import AudioFrame, Samples, read_wav, to_int16
from stack.core.errors import LocalError
from stack.core.values import as_unicode
from stack.voice.client import EVENTS_CHANNEL, MAX_REQUEST
from stack.voice.events import (
    ConversationEvent,
    ProgramMessage,
    ReplyText,
    UserStartedSpeaking,
    UserTranscript,
)

Speech: TypeAlias = "str | PathLike[str] | tuple[Samples, int]"
"""Text, a WAV file, or int16 samples with their rate in Hz.

A string is the name of a file if it ends in `.wav`, if such a file is there, or if it has a slash and no space and
ends as other sound does (`/tmp/hello.mp3`, which is refused: only WAV is read). All else is text.
"""
OTHER_SOUND = (".mp3", ".ogg", ".opus", ".flac", ".m4a", ".aac", ".webm")
ENDED = "the call has ended"
NOTHING = "nothing is to be said: `listen` says nothing for some seconds"
EventT = TypeVar("EventT", bound=ConversationEvent)

AUDIBLE = 300
"""The sample value (-41 dBFS) from which a frame of 20 ms counts as heard."""
LOOK = 0.02
"""Seconds between two looks at what is waited for."""
QUIET = 0.4
"""Seconds of silence that end what was heard as one piece."""


@dataclass(slots=True)
class Heard:
    """One piece of sound that was heard; times in seconds since the call connected."""

    begin: float
    end: float
    sample_rate: int
    frames: list[Samples] = field(default_factory=list, repr=False)

    @property
    def duration(self) -> float:
        """Seconds from its first to its last audible frame."""
        return self.end - self.begin

    @property
    def samples(self) -> Samples:
        """Int16 of shape (n,), from its first to its last audible frame."""
        return np.concatenate([np.zeros(0, np.int16), *self.frames])


class Caller:
    """A person on the line. What it hears is in `heard`, one `Heard` for each time that the program spoke."""

    def __init__(self, call: Call, program_call: Call | None = None) -> None:
        self.call = call
        self.program_call = program_call
        """The program's own side; None where the server is another process."""
        self.heard: list[Heard] = []
        self.said: list[tuple[float, float]] = []
        """From when to when it spoke, in seconds since the call connected."""
        self.events: list[ConversationEvent] = []
        """What happened on the program's side, see `stack.events`; nothing where that is another process."""
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._channel: DataChannel | None = None
        self._returned = 0  # pieces that `reply_heard` has returned
        self._tasks = [asyncio.create_task(self._listen(), name="caller: listening")]
        if program_call is not None:
            self._tasks.append(asyncio.create_task(self._watch(program_call), name="caller: events"))

    @property
    def now(self) -> float:
        """Seconds since the call connected."""
        return self._loop.time() - self._began

    @property
    def text(self) -> str:
        """What the program said in text (`Reply.write_text`)."""
        return "".join(event.text for event in self.all_of(ReplyText))

    @property
    def transcripts(self) -> list[str]:
        """What the program understood, turn by turn (`Call.transcribed`)."""
        return [event.text for event in self.all_of(UserTranscript) if event.final]

    @property
    def messages(self) -> list[Mapping[str, Any]]:
        """What the program has sent to its client (`Call.tell`)."""
        return [event.message for event in self.all_of(ProgramMessage)]

    def all_of(self, kind: type[EventT]) -> list[EventT]:
        """Return the events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    async def say(self, speech: Speech, *, silence: float = 1.0) -> None:
        """Say something, and return when it has been said and `silence` seconds have followed.

        A turn ends in the silence. Raises `LocalError` for text without a synthesiser (the extra `demo`), for a
        file that cannot be read, a rate or a silence that cannot be, and once the call has ended.
        """
        _check_time("silence", silence)
        self._check_up()
        samples, rate = await asyncio.to_thread(_sound_of, speech)
        self._check_up()
        length = len(samples) / rate
        self.said.append((self.now, self.now + length))
        self.call.speaker.write(samples, rate)
        self.call.speaker.write(np.zeros(max(1, round(silence * rate)), np.int16), rate)
        if not await self._sleep(length + silence):
            raise LocalError(ENDED)

    async def type_text(self, text: str) -> None:
        """Type a turn, as the page does; it interrupts what is being said.

        It reaches a program that takes turns (`call.utterances()`). Raises `LocalError` for a text of nothing or
        of more than fits into a request, and once the call has ended.
        """
        message = json.dumps({"type": "text", "text": as_unicode(text)})
        if not text.strip() or len(message) > MAX_REQUEST:
            raise LocalError(f"what is typed is some text, at most {MAX_REQUEST} characters with its envelope")
        self._check_up()
        if self._channel is None:
            self._channel = await self.call.open_channel(EVENTS_CHANNEL)
        await self._channel.send(message)

    async def interrupt(self, speech: Speech, *, after: float, timeout: float = 30.0) -> None:
        """Say something once the program has been heard for `after` seconds without a pause.

        Raises what `until` and `say` do, and `LocalError` for what is no time.
        """
        _check_time("after", after)
        await self.until(lambda: self._speaking_for() >= after, timeout)
        await self.say(speech)

    async def reply_heard(self, timeout: float = 30.0) -> Heard:
        """Return the next thing that the program said, when it has fallen silent."""
        await self.until(lambda: len(self.heard) > self._returned and self._is_over(self._returned), timeout)
        self._returned += 1
        return self.heard[self._returned - 1]

    async def wait_for(self, kind: type[EventT], timeout: float = 30.0) -> EventT:
        """Return the first event of one kind on the program's side, also if it has happened already."""
        await self.until(lambda: self.all_of(kind), timeout)
        return self.all_of(kind)[0]

    async def listen(self, seconds: float) -> None:
        """Say nothing for so long; raises `LocalError` for what is no time."""
        _check_time("listen", seconds)
        await asyncio.sleep(seconds)

    async def until(self, condition: Callable[[], object], timeout: float = 30.0) -> None:
        """Wait until a condition on what was heard or happened holds.

        Raises `TimeoutError` if it does not in time, `LocalError` once the call has ended and it still does not,
        and for an `async` one.
        """
        try:
            async with asyncio.timeout(timeout):
                while not _holds(condition):
                    if self._is_over_for_good():
                        raise LocalError(ENDED)
                    await asyncio.sleep(LOOK)
        except TimeoutError:
            spans = ", ".join(f"{each.begin:.2f}–{each.end:.2f} s" for each in self.heard) or "nothing"
            waited = f"not within {timeout:g} s; heard by {self.now:.2f} s: {spans}"
            raise TimeoutError(waited + self._unnoticed()) from None

    def close(self) -> None:
        """Stop listening."""
        for task in self._tasks:
            task.cancel()

    def _check_up(self) -> None:
        if self.call.ended:
            raise LocalError(ENDED)

    async def _sleep(self, seconds: float) -> bool:
        """Wait; return False, at once, if the call ends meanwhile."""
        until = self.now + seconds
        while (left := until - self.now) > 0:
            if self.call.ended:
                return False
            await asyncio.sleep(min(LOOK, left))
        return True

    def _unnoticed(self) -> str:
        """Say so if the program's side has taken nothing for speech: a surprise for tests that play tones."""
        if self.program_call is None or not self.said or self.all_of(UserStartedSpeaking):
            return ""
        what = "nothing that was said was taken for speech"
        return f'; {what} (any sound is, with ConversationConfig(detector="energy"))'

    def _is_over_for_good(self) -> bool:
        """Return True when the call has ended and all that came of it is known."""
        return self.call.ended and all(task.done() for task in self._tasks)

    def _speaking_for(self) -> float:
        return self.heard[-1].duration if self.heard and not self._is_over(len(self.heard) - 1) else 0.0

    def _is_over(self, number: int) -> bool:
        return number < len(self.heard) - 1 or self.now - self.heard[number].end >= QUIET or self.call.ended

    async def _listen(self) -> None:
        silent: list[Samples] = []
        async for frame in self.call.microphone:
            if np.abs(frame.samples.astype(np.int32)).max(initial=0) < AUDIBLE:
                silent.append(frame.samples)
                continue
            self._hear(frame, silent)
            silent = []

    def _hear(self, frame: AudioFrame, silent: list[Samples]) -> None:
        end = self.now
        begin = end - frame.duration
        if not self.heard or begin - self.heard[-1].end >= QUIET:
            self.heard.append(Heard(begin, end, frame.sample_rate))
        else:
            self.heard[-1].frames += silent
        self.heard[-1].frames.append(frame.samples)
        self.heard[-1].end = end

    async def _watch(self, call: Call) -> None:
        async for event in call.watch():
            self.events.append(event)


def _holds(condition: Callable[[], object]) -> bool:
    held = condition()
    if inspect.isawaitable(held):  # true whatever comes of it
        if inspect.iscoroutine(held):
            held.close()
        raise LocalError("a condition is a plain function that returns true or false, and not an async one")
    return bool(held)


def _check_time(name: str, seconds: float) -> None:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise LocalError(f"{name} is seconds, 0 or more, not {seconds}")


def _sound_of(speech: Speech) -> tuple[Samples, int]:
    if isinstance(speech, tuple) and len(speech) == 2:
        rate = speech[1]
        if not (isinstance(rate, int | float) and math.isfinite(rate) and rate > 0):
            raise LocalError(f"a rate is in Hz, more than 0, not {rate}")
        samples = to_int16(speech[0])
        if not len(samples):
            raise LocalError(NOTHING)
        return samples, rate
    if not isinstance(speech, str | os.PathLike):
        raise LocalError(f"what is said is text, a WAV file or (samples, rate), not {type(speech).__name__}")
    if not isinstance(speech, str) or _is_file_name(speech):
        samples, rate = read_wav(speech)
        return to_int16(samples), rate
    if not speech.strip():
        raise LocalError(NOTHING)
    from stack.agents.speech import Synthesiser

    try:
        synthesiser = Synthesiser()
    except LocalError as error:
        raise LocalError(f"to say text the caller needs `pip install 'voice-stack[demo]'`: {error}") from error
    return synthesiser.speak(speech), synthesiser.sample_rate


def _is_file_name(speech: str) -> bool:
    if speech.lower().endswith(".wav"):
        return True
    has_folder = "/" in speech or os.sep in speech
    return (has_folder and " " not in speech and speech.lower().endswith(OTHER_SOUND)) or os.path.isfile(speech)
