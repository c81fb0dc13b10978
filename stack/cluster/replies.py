"""Replies of a program whose call has its media elsewhere: what begins and fills them waits for no answer.

A program awaits `call.reply()` and each `voice.write`. Beside the media an answer takes a millisecond; over a
backbone between regions it is a round trip, which would be heard before every reply, and between any two pieces
that are shorter. So the number that a reply will get is foreseen (the program alone begins replies, and they are
counted), and so is how much waits to be said. The answers come all the same, and correct both.

An answer that is not the one foreseen ends the reply as if it had been interrupted with nothing heard, and what
is written to it then raises what the media side said: no sound is in the call, for instance. While a reply is
open, and where no answer has come for `MAX_UNANSWERED` seconds, the program does wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from stack.aio.control import CallEnded, NotSent
from stack.core.errors import StackError
from stack.voice.commands import BeginReply, CancelReply, WriteReply
from stack.voice.events import ConversationEvent, ReplyFinished, ReplyInterrupted

log = logging.getLogger("stack.cluster")

MAX_UNANSWERED = 2.0
"""Seconds for which a program goes on writing without an answer."""

Ask = Callable[[Any], "asyncio.Future[Any]"]
"""Sends a command and returns what will be its answer."""


class RepliesAhead:
    """The replies of one call, of which `latest` was the last before; belongs to the program's loop.

    `end` is told of a reply that is over on our side although the media side has said nothing, `not_written` of
    sound that it has not taken.
    """

    def __init__(
        self,
        latest: int,
        ask: Ask,
        say: Callable[[CancelReply | WriteReply], None],
        end: Callable[[ReplyInterrupted], None],
        not_written: Callable[[], None],
    ) -> None:
        self._latest = latest
        self._ask = ask
        self._say = say
        self._end = end
        self._not_written = not_written
        self._open: int | None = None
        self._failed: dict[int, StackError] = {}  # of the latest that failed
        self._writes: deque[tuple[float, float, asyncio.Future[Any]]] = deque()  # when, how long, the answer
        self._silent_at = 0.0  # when all is said that was written, as far as we know

    async def begin(self, command: BeginReply) -> int:
        """Return the number of a reply that begins; waits for it, and raises, only while another is open."""
        if self._open is not None:
            number: int = await self._ask(command)
            self._latest = self._open = number
            self._silent_at = 0.0
            return number
        self._latest = self._open = foreseen = self._latest + 1
        self._failed.pop(foreseen, None)
        self._silent_at = 0.0
        self._ask(command).add_done_callback(lambda answer: self._check(foreseen, answer))
        return foreseen

    def _check(self, foreseen: int, answer: asyncio.Future[Any]) -> None:
        if answer.cancelled():
            return
        error = answer.exception()
        if isinstance(error, CallEnded) or (error is None and answer.result() == foreseen):
            return
        if isinstance(error, StackError):
            self._failed = {foreseen: error}
        if error is None:  # it is another reply than the program takes it for
            self._say(CancelReply(answer.result()))
            self._latest = max(foreseen, answer.result())
        elif self._latest == foreseen:
            self._latest -= 1  # nothing was counted
        log.warning("reply %d did not begin: %s", foreseen, error or f"it is reply {answer.result()}")
        self._close(foreseen)
        self._end(ReplyInterrupted(foreseen, 0.0, 0.0))

    async def write(self, command: WriteReply) -> float | None:
        """Return how many seconds wait to be said, as far as is known; None for a reply that is over.

        Raises what the media side said of the reply when it was to begin.
        """
        failed = self._failed.get(command.number)
        if failed is not None:
            raise NotSent(str(failed)) from failed
        if command.number != self._open:
            self._say(command)  # the media side drops it, and counts it among what was written
            return None
        clock = asyncio.get_running_loop().time
        answer = self._ask(command)
        seconds = len(command.pcm) / command.sample_rate
        self._silent_at = max(self._silent_at, clock()) + seconds
        self._writes.append((clock(), seconds, answer))
        answer.add_done_callback(lambda done: self._note_answer(command.number, done))
        while self._writes and clock() - self._writes[0][0] > MAX_UNANSWERED:
            await asyncio.wait({self._writes[0][2]})
        return max(0.0, self._silent_at - clock()) if command.number == self._open else None

    def _note_answer(self, number: int, answer: asyncio.Future[Any]) -> None:
        """So much waited when this was written; what was written since is on the way."""
        while self._writes and self._writes[0][2].done():
            self._writes.popleft()
        if answer.cancelled():
            return
        error = answer.exception()
        if error is not None:
            if not isinstance(error, CallEnded):
                self._not_written()
            return
        if number != self._open:
            return
        queued = answer.result()
        if queued is not None:
            later = sum(seconds for _, seconds, _ in self._writes)
            self._silent_at = asyncio.get_running_loop().time() + queued + later

    def note(self, event: ConversationEvent) -> None:
        """The media side says that a reply is over."""
        if isinstance(event, ReplyFinished | ReplyInterrupted):
            self._close(event.reply)

    def _close(self, number: int) -> None:
        if self._open == number:
            self._open = None


__all__ = ["RepliesAhead"]
