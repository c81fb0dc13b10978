"""The pauses of one person: what is known of the present one, and how long it has to be for the turn to be over.

The rules judge it at once, or another judge is asked (`TurnPaused`) and answers late. Belongs to the turn
manager, which knows the sound and the state of the turn.
"""

from __future__ import annotations

from collections import deque

from stack.audio import Samples
from stack.voice.endpointing import PAUSES_KEPT, Pause, RuleEndpointer, weigh_late_words
from stack.voice.events import TurnPaused
from stack.voice.turns import Eagerness, Expects


class Pauses:
    """What is known of a turn's words and pauses, and the question about the present pause."""

    def __init__(self) -> None:
        self._rules = RuleEndpointer()
        self._lasted: deque[float] = deque(maxlen=PAUSES_KEPT)
        self._transcript: str | None = None
        self._completeness: float | None = None
        self._asks = False
        self._asked = 0
        self._question: TurnPaused | None = None
        self._answer: float | None = None

    def ask(self, wanted: bool) -> None:
        """Have another judge asked from now on, or none any more; the present pause is judged anew."""
        self._asks, self._question = wanted, None

    def judge_anew(self) -> None:
        """The answer would be to another question."""
        self._question = None

    def note_words(self, text: str, completeness: float | None) -> None:
        """What has been said in this turn."""
        self._transcript, self._completeness = text, completeness

    def note_answer(self, number: int, wait: float) -> bool:
        """Take the answer to a question; False if it is not the present one."""
        if self._question is None or self._question.number != number:
            return False
        self._answer = wait
        return True

    def end(self, lasted: float | None = None) -> None:
        """The person goes on, after so many seconds of silence in the same turn, or the turn is over."""
        self._question = self._transcript = self._completeness = None  # of the words, nothing is known any more
        if lasted is not None:
            self._lasted.append(lasted)

    def estimate(
        self,
        utterance: Samples,
        silence: Samples,
        speech: float,
        eagerness: Eagerness,
        expects: Expects = Expects.ANY,
    ) -> tuple[float, TurnPaused | None]:
        """Return the seconds of silence after which the turn is over, and a question that is to be asked now."""
        pause = Pause(
            utterance,
            speech,
            self._transcript,
            self._completeness,
            eagerness,
            tuple(self._lasted),
            silence,
            expects,
        )
        if not self._asks or pause.completeness is not None:
            return self._rules.wait(pause), None
        if self._question is not None:
            return weigh_late_words(self._answer, self._question.pause, pause), None
        self._asked += 1
        self._question, self._answer = TurnPaused(self._asked, pause), None
        return weigh_late_words(None, pause, pause), self._question
