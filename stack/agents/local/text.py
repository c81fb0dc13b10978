"""The words of the local assistant: what the model is told, how its answers are cut, and what is remembered.

Pure: no model, no clock, no sound. Long enough answers are cut here, unheard words are forgotten here, and what a
small model likes to write that cannot be said aloud is removed here.

Left out: other languages than English (the recogniser and the voice know no other), and numbers or dates in words
(the synthesiser reads them).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

Message: TypeAlias = dict[str, str]
"""`{"role": "system" | "user" | "assistant", "content": …}`, as chat templates want it."""

SYSTEM: Final = "You are Joe, a helpful AI assistant. You speak English. Keep your answers short."
"""Plain on purpose: so small a model follows little more, and answers in French to some others."""
OPENING: Final = "Hello, who are you?"
"""The question that the greeting answers, for the model: the person need not ask it."""
GREETING: Final = "Hello! I am Joe, a small assistant that runs on this machine. What shall we talk about?"

MAX_WORDS: Final = 500
"""Characters of one turn of the person that the model gets: the last ones."""
MAX_HISTORY: Final = 1800
"""Characters of a conversation that are remembered."""
MAX_SENTENCES: Final = 3
"""Sentences of one answer."""
MAX_TOKENS: Final = 90
"""Tokens of one answer."""
MAX_SENTENCE: Final = 240
"""Characters after which a sentence is spoken although it does not end."""
CLAUSE: Final = 28
"""Characters after which the first sentence may be cut between two clauses: the first sound comes sooner."""

_END = re.compile(r"[.!?…]+[\"'”’)]*(?=\s)|\n")
_CLAUSE_END = re.compile(r"[,;:](?=\s)|(?=\s(?:and|but|or|so|because|which|who|that|when|while|if|where)\s)")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:mr|mrs|ms|dr|st|prof|vs|etc|e\.g|i\.e|[a-z])\.$|^\d+\.$", re.IGNORECASE)
_STAGE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\*[a-z ]+\*")
_MARKUP = re.compile(r"[*_#`>|~]+|^\s*(?:[-•]|\d+[.)])\s+|https?://\S+", re.MULTILINE)
_NOISE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|♪[^♪]*♪?|\*[^*]*\*")


def spoken(text: str) -> str:
    """Return what of `text` can be said aloud: no markup, no stage directions, single spaces."""
    said = " ".join(_MARKUP.sub(" ", _STAGE.sub(" ", text)).split())
    return said if re.search(r"\w", said) else ""


def understood(text: str) -> str:
    """Return a transcript without what a recogniser writes for noises; empty if there is no word in it."""
    words = " ".join(_NOISE.sub(" ", text).split())
    return words[-MAX_WORDS:] if re.search(r"\w", words) else ""


class Sentences:
    """An answer that comes in pieces, handed out sentence by sentence: `feed` each piece, `finish` at the end.

    `full` is true once there are enough; what is fed after that is dropped.
    """

    def __init__(self) -> None:
        self._pending = ""
        self._whole = 0  # sentences
        self._handed = 0  # pieces of sentences

    @property
    def full(self) -> bool:
        """True if the answer has as many sentences as may be spoken."""
        return self._whole >= MAX_SENTENCES

    def feed(self, piece: str) -> list[str]:
        """Return what is ready to be spoken."""
        self._pending += piece
        ready: list[str] = []
        while not self.full and (end := self._boundary()) is not None:
            at, whole = end
            said, self._pending = spoken(self._pending[:at]), self._pending[at:].lstrip(" ")
            if said:
                ready.append(said)
                self._handed += 1
                self._whole += whole
        if self.full:
            self._pending = ""
        return ready

    def finish(self, cut: bool = False) -> list[str]:
        """Return the rest; if the answer was `cut` off inside a sentence and others were said, there is none."""
        said, self._pending = spoken(self._pending), ""
        if not said or self.full or (cut and self._whole):
            return []
        self._handed += 1
        self._whole += 1
        return [said]

    def _boundary(self) -> tuple[int, bool] | None:
        """Return where to cut what waits, and if a sentence is whole there; None: not yet."""
        for match in _END.finditer(self._pending):
            if match[0] == "\n" or not _ABBREVIATION.search(self._pending[: match.end()]):
                return match.end(), True
        if not self._handed:
            for match in _CLAUSE_END.finditer(self._pending, CLAUSE):
                return match.end(), False
        if len(self._pending) > MAX_SENTENCE:
            space = self._pending.rfind(" ", 1, MAX_SENTENCE)
            return (space if space > 0 else MAX_SENTENCE), True
        return None


class Spoken(NamedTuple):
    """A piece of an answer, and how long it is when it is played."""

    text: str
    milliseconds: float


def heard_part(pieces: Sequence[Spoken], heard_ms: float) -> str:
    """Return the words of an answer that were heard in its first `heard_ms` milliseconds.

    Inside a sentence, time is taken to pass evenly over its characters; a word counts from its middle on.
    """
    heard: list[str] = []
    for piece in pieces:
        if heard_ms >= piece.milliseconds:
            heard.append(piece.text)
            heard_ms -= piece.milliseconds
            continue
        reached = len(piece.text) * max(0.0, heard_ms) / piece.milliseconds
        words = [word for word in re.finditer(r"\S+", piece.text) if (word.start() + word.end()) / 2 <= reached]
        if words:
            heard.append(piece.text[: words[-1].end()])
        break
    return " ".join(heard)


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
