"""The end of a turn, judged beside a call: an endpointer that is too expensive for the media side.

At each pause the conversation asks (`TurnPaused`), the endpointer is called in a worker thread, and its answer
goes back as a command that is valid for that very pause. One call of it at a time: while one pause is being judged
only the latest waits, and one that is over before its turn comes is skipped.

An endpointer that raises, or has no answer after `LONGEST_ANSWER`, is asked no more: one line in the log, and from
then on the rules decide.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import TypeAlias

from stack.aio.threads import in_thread
from stack.core.errors import LocalError
from stack.voice.endpointing import Endpointer
from stack.voice.events import TurnPaused, UserStartedSpeaking, Utterance, UtteranceDiscarded

log = logging.getLogger("stack.calls")

LONGEST_ANSWER = 8.0
"""Seconds: no turn is waited for any longer, whatever the answer."""

News: TypeAlias = TurnPaused | UserStartedSpeaking | Utterance | UtteranceDiscarded
"""The events of a call that an endpointing takes."""


class Endpointing:
    """One endpointer on one call; belongs to the program's loop. Every `take` is one event of the call."""

    def __init__(
        self,
        endpointer: Endpointer,
        answer: Callable[[int, float], None],
        give_up: Callable[[], None],
        call: str = "",
    ) -> None:
        """`answer` is told the number of a question and the seconds to wait; `give_up`, that there are no more."""
        self._endpointer = endpointer
        self._call = call
        self._answer = answer
        self._give_up = give_up
        self._waiting: TurnPaused | None = None
        self._work: asyncio.Task[None] | None = None
        self._closed = False

    def take(self, event: News) -> None:
        """Have a pause judged; whatever else happens, the pause is over."""
        self._waiting = event if isinstance(event, TurnPaused) and not self._closed else None
        if self._waiting is not None and self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """No answer is wanted any more."""
        self._closed = True
        self._waiting = None

    async def _run(self) -> None:
        while (question := self._waiting) is not None:
            self._waiting = None
            try:
                wait = await self._ask(question)
            except Exception as error:
                log.debug("an endpointer failed", exc_info=True)
                if not self._closed:
                    self.close()
                    self._give_up()
                    name = type(self._endpointer).__name__
                    log.error("call %s: %s failed, so the rules end its turns: %r", self._call, name, error)
            else:
                if not self._closed:
                    self._answer(question.number, wait)
        self._work = None

    async def _ask(self, question: TurnPaused) -> float:
        try:
            async with asyncio.timeout(LONGEST_ANSWER):
                wait = float(await in_thread(self._endpointer.wait, question.pause))
        except TimeoutError as error:
            raise LocalError(f"no answer after {LONGEST_ANSWER:g} s") from error
        if not math.isfinite(wait):
            raise LocalError(f"an endpointer answers with seconds, not {wait}")
        return wait
