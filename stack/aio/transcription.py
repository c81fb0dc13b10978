"""Words while they are being said: a transcriber at work beside a call.

The pieces of a turn come from the media side in order, and go to the transcriber in a worker thread, those that
waited together. At every pause it is asked what it has so far, which tells whether the turn may be over; when it
is over, what is left to be done takes no longer than the last piece.

Bound: `MAX_WAITING` pieces. A transcriber that is slower than speech by more than that is given the whole turn at
its end instead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, cast

import numpy as np
from msgspec import structs

from stack.aio.threads import in_thread
from stack.audio import Samples
from stack.core.values import as_unicode
from stack.voice.events import UserStoppedSpeaking, Utterance, UtteranceDiscarded, UtterancePiece

MAX_WAITING: Final = 1500
"""Pieces (30 s) that wait for the transcriber."""
MAX_TEXTS: Final = 100
"""Turns whose text waits for a program that does not read them."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What has been said so far."""

    text: str
    completeness: float | None = None
    """0: cut in the middle; 1: nothing can follow; None: judge by the words."""


class Transcriber(Protocol):
    """Makes words of one turn after the other. Called from worker threads, one call at a time."""

    def push(self, samples: Samples) -> None:
        """Take more of the turn: int16 of shape (n,), 16 kHz."""
        ...

    def hypothesis(self) -> Hypothesis:
        """Return what was said so far; asked in every pause."""
        ...

    def finish(self) -> str:
        """Return what was said in the turn; the next `push` begins another."""
        ...


Work: TypeAlias = UtterancePiece | UtteranceDiscarded | UserStoppedSpeaking | Utterance
"""The events of a call that a transcription takes."""


class Transcription:
    """One transcriber on one call; belongs to the program's loop. Every `take` is one event of the call."""

    def __init__(self, transcriber: Transcriber, note: Callable[[str, float | None], None]) -> None:
        """`note` is told of each hypothesis."""
        self._transcriber = transcriber
        self._note = note
        self._work: deque[Work] = deque()
        self._arrived = asyncio.Event()
        self._closed = False
        self._is_behind = False  # pieces are missing of the turn that is being taken
        self._whole: set[float] = set()  # turns to be transcribed from their own samples
        self._texts: dict[float, asyncio.Future[str]] = {}  # by the media time at which a turn begins

    def take(self, event: Work) -> None:
        """Queue an event of the call for the worker."""
        if isinstance(event, UtterancePiece) and len(self._work) >= MAX_WAITING:
            self._is_behind = True
            return
        if isinstance(event, Utterance):
            if len(self._texts) >= MAX_TEXTS:
                del self._texts[next(iter(self._texts))]
            self._texts[event.media_time] = asyncio.get_running_loop().create_future()
            if self._is_behind:
                self._whole.add(event.media_time)
        if isinstance(event, Utterance | UtteranceDiscarded):
            self._is_behind = False
        self._work.append(event)
        self._arrived.set()

    def close(self) -> None:
        """The call is over: nothing will be said any more."""
        self._closed = True
        self._arrived.set()

    async def utterances(self, turns: AsyncIterator[Utterance]) -> AsyncIterator[Utterance]:
        """Give the turns with their text; whatever the transcriber raises is raised here."""
        worker = asyncio.create_task(self._run())
        try:
            async for turn in turns:
                yield turn if turn.text else structs.replace(turn, text=await self._text_of(turn, worker))
        finally:
            worker.cancel()
            await asyncio.wait([worker])

    async def _text_of(self, turn: Utterance, worker: asyncio.Task[None]) -> str:
        if turn.media_time not in self._texts:
            # It waited for too long, or was put together elsewhere. The turn that is being said is in the
            # way: it will have to be transcribed whole, too.
            self.take(turn)
            self._whole.add(turn.media_time)
            self._is_behind = True
        text = self._texts[turn.media_time]
        either: list[asyncio.Future[Any]] = [text, worker]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        self._texts.pop(turn.media_time, None)
        if worker.done():
            worker.result()  # raises what it failed with
        return text.result() if text.done() else ""

    async def _run(self) -> None:
        while self._work or not self._closed:
            await self._arrived.wait()
            self._arrived.clear()
            while self._work:
                pieces = []
                while self._work and isinstance(self._work[0], UtterancePiece):
                    pieces.append(cast(UtterancePiece, self._work.popleft()).samples)
                if pieces:
                    await in_thread(self._transcriber.push, np.concatenate(pieces))
                else:
                    await self._turn_to(self._work.popleft())

    async def _turn_to(self, event: Work) -> None:
        if isinstance(event, UserStoppedSpeaking):
            if not any(isinstance(later, UserStoppedSpeaking | Utterance) for later in self._work):
                hypothesis = await in_thread(self._transcriber.hypothesis)
                self._note(as_unicode(hypothesis.text), hypothesis.completeness)
            return
        text = await in_thread(self._transcriber.finish)
        if not isinstance(event, Utterance):
            return
        if event.media_time in self._whole:
            self._whole.discard(event.media_time)
            await in_thread(self._transcriber.push, event.samples)
            text = await in_thread(self._transcriber.finish)
        waiting = self._texts.get(event.media_time)
        if waiting is not None and not waiting.done():
            waiting.set_result(as_unicode(text))
