"""A reply as a program speaks it: `async with call.reply() as voice: await voice.write(pcm, rate)`.

A barge-in ends the block: whatever the program awaits in it is cancelled, the cancellation stops at the end of the
block, and the program goes on behind it with `voice.interrupted` and `voice.heard_ms` set. That is computed from
what left. A client that can says a round trip later what it had played: await `voice.heard()` for that.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from stack.aio.control import CallControl, NotSent
from stack.aio.speaker import Speaker
from stack.audio import AudioFrame, ByteStream, Pcm, check_sample_rate, to_int16
from stack.core.errors import LocalError
from stack.core.values import as_unicode
from stack.voice import commands as cmd
from stack.voice.events import ReplyFinished, ReplyHeard, ReplyInterrupted, ReplyText

QUEUE_LIMIT = 10.0
"""Seconds of a reply that wait to be said, above which `write` waits."""

FRAME_SECONDS = 0.02


class Reply:
    """One reply. Leaving the block waits until it has been said whole, or was interrupted.

    After the block: `interrupted`, and `heard_ms`, the milliseconds of it that the person heard, as known by now.
    """

    def __init__(self, control: CallControl, speaker: Speaker) -> None:
        self._control = control
        self._speaker = speaker
        self._task: asyncio.Task[object] | None = None
        self._cancelled = False
        self._bytes = ByteStream()
        self._over = asyncio.Event()
        self._settled = asyncio.Event()
        self._written_ms = 0.0
        self.number = 0
        self.interrupted = False
        self.heard_ms = 0.0

    async def write(self, sound: AudioFrame | Pcm, sample_rate: int | None = None) -> None:
        """Say more: an `AudioFrame`, or mono PCM with its `sample_rate` in Hz; as fast as it comes.

        PCM has the forms that `Speaker.write` takes.

        Waits while more than `QUEUE_LIMIT` seconds are ahead. Raises `LocalError` for what is no sound. What is
        written after an interruption is dropped.
        """
        if isinstance(sound, AudioFrame):
            samples, rate = sound.samples, sound.sample_rate
        elif sample_rate is None:
            raise LocalError("say at which sample_rate the sound is")
        else:
            samples, rate = to_int16(self._bytes.join(sound)), sample_rate
        rate = check_sample_rate(rate)
        if self._over.is_set() or not len(samples):
            await asyncio.sleep(0)  # who writes on and on must not keep the loop to itself
            return
        number = self.number
        self._written_ms += 1000.0 * len(samples) / rate
        self._speaker.note_written()
        try:
            queued = await self._control.execute(cmd.WriteReply(number, samples, rate))
        except NotSent:
            self._written_ms -= 1000.0 * len(samples) / rate
            self._speaker.note_not_written()
            raise
        while queued is not None and queued > QUEUE_LIMIT and not self._over.is_set():
            await asyncio.sleep(max(queued - QUEUE_LIMIT, FRAME_SECONDS))  # the queue gets shorter frame by frame
            queued = await self._control.execute(cmd.GetQueued(number))

    def write_text(self, text: str, *, duration_ms: float | None = None) -> None:
        """Say in text what the sound that is written next says, piece by piece, for clients that show it.

        The pieces are joined as they are, so that the spaces between them are theirs. A client that shows which
        words were heard knows from the sound written before where a piece begins, and from `duration_ms`, or
        the next piece, where it ends. Raises `LocalError` for what is no `str`; half of a surrogate pair becomes
        U+FFFD.
        """
        text = as_unicode(text)
        if text and not self._over.is_set():
            start = round(self._written_ms, 1)
            self._control.tell_clients(ReplyText(self.number, text, start, duration_ms))

    async def heard(self, patience: float = 0.5) -> float:
        """Return the milliseconds that the person heard, once they are certain or `patience` seconds are over.

        Only a reply that was interrupted, by a client that is about to say what it had played, makes it wait.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), patience)
        return self.heard_ms

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        begun = asyncio.ensure_future(self._control.execute(cmd.BeginReply()))
        try:
            self.number = await asyncio.shield(begun)
        except asyncio.CancelledError:
            begun.add_done_callback(self._abandon)
            raise
        self._control.register_reply(self)
        return self

    def _abandon(self, begun: asyncio.Future[int]) -> None:
        """The program was cancelled while the reply began: left open, it would stand in the way of every other."""
        if not begun.cancelled() and begun.exception() is None:
            self._control.command(cmd.CancelReply(begun.result()))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        number = self.number
        try:
            if kind is None and not self._over.is_set():
                self._control.command(cmd.EndReply(number))
                await self._over.wait()
        except asyncio.CancelledError as cancelled:
            kind, error = asyncio.CancelledError, cancelled
        finally:
            self._task = None
            self._control.forget_reply(self)
        if kind is not None and not self._over.is_set():
            self._control.command(cmd.CancelReply(number))
        if self._cancelled and kind is not None and issubclass(kind, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.uncancel() == 0:
                return True  # it was the interruption alone that cancelled us
        if isinstance(error, asyncio.CancelledError) and kind is asyncio.CancelledError:
            raise error
        return False

    def note_over(self, event: ReplyFinished | ReplyInterrupted | None) -> None:
        """The reply was said, or interrupted, or the call is over (None); runs on the program's loop."""
        if self._over.is_set():
            return
        self._over.set()
        if event is not None:
            self.heard_ms = event.heard_ms
        if not (isinstance(event, ReplyInterrupted) and event.provisional):
            self._settled.set()
        if not isinstance(event, ReplyFinished):
            self.interrupted = True
            if self._task is not None:
                self._cancelled = True
                self._task.cancel("the reply was interrupted")

    def note_heard(self, event: ReplyHeard | None) -> None:
        """The client has said what it had played, or will not any more (None); runs on the program's loop."""
        if event is not None:
            self.heard_ms = event.heard_ms
        self._settled.set()
