"""The words of the local assistant: what the model is told, how its answers are cut, and what is remembered.

Pure: no model, no clock, no sound. How answers are cut into sentences is in `stack.agents.sentences`.

Left out: other languages than English (the recogniser and the voice know no other), and numbers or dates in words
(the synthesiser reads them).
"""

from __future__ import annotations

from typing import Final, TypeAlias

Message: TypeAlias = dict[str, str]
"""`{"role": "system" | "user" | "assistant", "content": …}`, as chat templates want it."""

SYSTEM: Final = "You are Joe, a helpful AI assistant. You speak English. Keep your answers short."
"""Plain on purpose: so small a model follows little more, and answers in French to some others."""
OPENING: Final = "Hello, who are you?"
"""The question that the greeting answers, for the model: the person need not ask it."""
GREETING: Final = "Hello! I am Joe, a small assistant that runs on this machine. What shall we talk about?"

MAX_HISTORY: Final = 1800
"""Characters of a conversation that are remembered."""
MAX_SENTENCES: Final = 3
"""Sentences of one answer."""
MAX_TOKENS: Final = 90
"""Tokens of one answer."""


class History:
    """What both have said, as the model gets it. Bounded: the oldest turns go, many at once and seldom.

    (Each time that the beginning changes, the model has to read everything anew.)
    """

    def __init__(self, system: str = SYSTEM) -> None:
        self._system = system
        self._turns: list[Message] = []
        self.forgot = False
        """True if the latest `add` dropped old turns."""

    def prompt(self, words: str = "") -> list[Message]:
        """Return the messages to be answered: all that was said, and then `words` of the person."""
        turns = [*self._turns]
        if words:
            _append(turns, "user", words)
        return [{"role": "system", "content": self._system}, *turns]

    def add(self, words: str, answer: str) -> None:
        """The person said `words` and heard `answer`; without an answer, the next words go on where these end."""
        if words:
            _append(self._turns, "user", words)
        if answer:
            _append(self._turns, "assistant", answer)
        self.forgot = self._size() > MAX_HISTORY
        while self.forgot and len(self._turns) > 1 and self._size() > MAX_HISTORY / 2:
            self._turns.pop(0)
            while len(self._turns) > 1 and self._turns[0]["role"] != "user":
                self._turns.pop(0)

    def _size(self) -> int:
        return sum(len(turn["content"]) for turn in self._turns)


def _append(turns: list[Message], role: str, text: str) -> None:
    """Append a message; two of the same person become one, because chat templates want them to alternate."""
    if turns and turns[-1]["role"] == role:
        text = f"{turns.pop()['content']} {text}"
    turns.append({"role": role, "content": text[-MAX_HISTORY:]})
