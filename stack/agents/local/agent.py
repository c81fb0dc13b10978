"""The local assistant on a call: it recognises free speech, answers with a small language model, and speaks.

Needs the extra `local`, see `models.py`; the server itself imports none of it. What is said is drafted as soon as
the person pauses (`draft.py`), and spoken sentence by sentence; a barge-in stops the model, and what was not heard
is forgotten.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import numpy as np

from stack.agents.local.draft import Draft, Sound
from stack.agents.local.mel import SAMPLE_RATE
from stack.agents.local.text import GREETING, OPENING, History
from stack.agents.local.worker import Worker, start
from stack.agents.sentences import Spoken, heard_part
from stack.aio import Call, CallEnded, control_of
from stack.audio import AudioFrame, Samples, resample
from stack.voice.commands import NoteTranscript
from stack.voice.events import TurnChanged, UserStartedSpeaking, UserStoppedSpeaking, Utterance
from stack.voice.turns import TurnState

BUSY: Final = "I am sorry, I am talking to too many people. Please call again later."
LONGEST: Final = 28.0
"""Seconds of a turn that are drafted; a longer one is answered when it is over."""
_SAME = 0.005
"""Seconds by which two media times of one moment may differ."""


async def local_assistant(call: Call) -> None:
    """Talk about anything, as well as 135 million parameters can."""
    worker = await asyncio.to_thread(start)
    slot = worker.lease()
    if slot is None:
        samples, rate = await worker.synthesise(BUSY)
        call.speaker.write(samples, rate)
        return
    conversation = _Conversation(call, worker, slot)
    drafts = asyncio.create_task(conversation.listen(), name=f"call {call.id}: drafts")
    try:
        await conversation.greet()
        async for utterance in call.utterances():
            await conversation.answer(utterance)
    except CallEnded:
        pass  # while something was to be said
    finally:
        drafts.cancel()
        conversation.drop_draft()
        worker.give_back(slot)


local_assistant.prepare = start  # type: ignore[attr-defined]


class _TurnDraft(NamedTuple):
    """A draft, and the media times between which the speech lies that it answers."""

    draft: Draft
    begins: float
    ends: float

    def fits(self, utterance: Utterance) -> bool:
        """True if that turn is what the draft has heard."""
        return (
            not utterance.text
            and abs(self.ends - utterance.speech_ended) < _SAME
            and self.begins < utterance.media_time + _SAME
        )


class _Conversation:
    """One conversation."""

    def __init__(self, call: Call, worker: Worker, slot: int) -> None:
        self._call, self._worker, self._slot = call, worker, slot
        self._history = History()
        self._turn_audio = TurnAudio()
        self._turn_draft: _TurnDraft | None = None
        self._replying = False

    async def greet(self) -> None:
        """Say who answers; meanwhile the model reads how the conversation begins."""
        begun = History()
        begun.add(OPENING, GREETING)
        reading = asyncio.create_task(self._read_ahead(begun), name=f"call {self._call.id}: reading")
        try:
            samples, rate = await self._worker.synthesise(GREETING)
            said = await self._speak(_only(Sound(GREETING, samples, rate)))
            self._history.add(OPENING, said)
            await reading
        finally:
            reading.cancel()

    async def listen(self) -> None:
        """Draft an answer at each pause of the person; runs beside everything else."""
        events, microphone = self._call.watch(), self._call.microphone
        try:
            async for event in events:
                if isinstance(event, UserStartedSpeaking):
                    self.drop_draft()
                    self._turn_audio.speech_started(event.media_time, over_reply=self._replying)
                elif isinstance(event, UserStoppedSpeaking):
                    while len(microphone):
                        self._turn_audio.add(await anext(microphone))
                    self._begin_draft(event.media_time)
                elif isinstance(event, TurnChanged) and event.state is TurnState.LISTENING:
                    self._turn_audio.turn_over()
        finally:
            self._call.unwatch(events)

    async def answer(self, utterance: Utterance) -> None:
        """Answer one turn; with the draft, if it has heard the same."""
        turn_draft = self._turn_draft
        drafted = turn_draft is not None and turn_draft.fits(utterance)
        if turn_draft is not None and drafted:
            draft, self._turn_draft = turn_draft.draft, None
        else:
            self.drop_draft()
            sound = at_16k(utterance.samples, utterance.sample_rate)
            draft = Draft(self._worker, self._slot, self._history.prompt, sound, utterance.text)
        words = ""
        self._replying = True
        try:
            said = await self._speak(draft.sounds(), draft, drafted, typed=utterance.is_typed)
            words = await draft.words()
        finally:
            self._replying = False
            draft.drop()
        self._history.add(words, said)
        if self._history.forgot:
            await self._read_ahead(self._history)

    def drop_draft(self) -> None:
        """The person goes on, or has gone."""
        if self._turn_draft is not None:
            self._turn_draft.draft.drop()
            self._turn_draft = None

    def _begin_draft(self, ends: float) -> None:
        self.drop_draft()
        begins, sound = self._turn_audio.begins, self._turn_audio.speech()
        if begins is None or sound is None or self._replying:
            return
        draft = Draft(self._worker, self._slot, self._history.prompt, sound, note=self._note)
        self._turn_draft = _TurnDraft(draft, begins, ends)

    def _note(self, words: str) -> None:
        """Let the words of a draft help to tell whether the turn is over."""
        control_of(self._call).command(NoteTranscript(words))

    async def _speak(
        self,
        sounds: AsyncIterator[Sound],
        draft: Draft | None = None,
        drafted: bool = False,
        typed: bool = False,
    ) -> str:
        """Say an answer and return what of it was heard; the page is told what it was and how it came about."""
        call, said = self._call, list[Spoken]()
        async with call.reply() as voice:
            if draft is not None:
                words = await draft.words()
                if not typed:
                    call.transcribed(words)
            async for sound in sounds:
                if draft is not None and not said:
                    parts = draft.timings.as_milliseconds()
                    call.tell({"type": "timing", "reply": voice.number, "drafted": drafted, **parts})
                text = sound.text if not said else f" {sound.text}"
                voice.write_text(text, duration_ms=round(sound.milliseconds))
                said.append(Spoken(sound.text, sound.milliseconds))
                await voice.write(sound.samples, sound.sample_rate)
        return heard_part(said, await voice.heard() if voice.interrupted else math.inf)

    async def _read_ahead(self, history: History) -> None:
        """Have the model read what it will be asked to go on from, so that it has not to when it is asked."""
        async with self._worker.generating(history.prompt(OPENING), self._slot, 1) as generation:
            async for _ in generation:
                pass


class TurnAudio:
    """What the person has said in this turn so far, out of the frames of the microphone.

    The turn itself brings its sound without our own voice in it; so speech over a reply is not collected.
    """

    def __init__(self) -> None:
        self.begins: float | None = None
        """Media time at which the turn begins; None while there is none to be drafted."""
        self._over_reply = False
        self._frames: deque[AudioFrame] = deque()

    def speech_started(self, media_time: float, *, over_reply: bool) -> None:
        """The person begins to speak, or goes on after a pause."""
        self._over_reply |= over_reply
        if self.begins is None:
            self.begins = media_time

    def add(self, frame: AudioFrame) -> None:
        """Take a frame."""
        self._frames.append(frame)
        while frame.media_time - self._frames[0].media_time > LONGEST:
            self._frames.popleft()

    def speech(self) -> Samples | None:
        """Return the sound of the turn at 16 kHz; None if there is none, or not all of it is here."""
        begins = self.begins
        if begins is None or self._over_reply:
            return None
        while self._frames and _end(self._frames[0]) <= begins:
            self._frames.popleft()
        if not self._frames or _end(self._frames[-1]) - begins > LONGEST:
            return None
        rate = self._frames[0].sample_rate
        sound = np.zeros(round((_end(self._frames[-1]) - begins) * rate), np.int16)  # a hole is silence
        for frame in self._frames:
            at = round((frame.media_time - begins) * rate)
            samples = frame.samples[max(0, -at) :]
            sound[max(0, at) : max(0, at) + len(samples)] = samples
        return at_16k(sound, rate)

    def turn_over(self) -> None:
        """What was said belongs to a turn that is over."""
        self.begins, self._over_reply = None, False


def at_16k(samples: Samples, rate: int) -> Samples:
    """Return int16 samples of shape (n,) at the rate that the recogniser wants."""
    return samples if rate == SAMPLE_RATE else resample(samples, rate, SAMPLE_RATE)


def _end(frame: AudioFrame) -> float:
    return frame.media_time + len(frame) / frame.sample_rate


async def _only(sound: Sound) -> AsyncIterator[Sound]:
    yield sound
