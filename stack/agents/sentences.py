"""From what a model writes to what can be said: sentences, and which words of them were heard.

Pure: no model, no clock, no sound. A model's answer is cut into sentences as it comes, so that the first is spoken
while the others are written; what cannot be said aloud is removed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

MAX_WORDS: Final = 500
"""Characters of one turn of the person that a small model gets: the last ones."""
MAX_SENTENCE: Final = 240
"""Characters after which a sentence is spoken although it does not end."""
CLAUSE: Final = 28
"""Characters after which the first sentence may be cut between two clauses: the first sound comes sooner."""

_END = re.compile(r"[.!?…]+[\"'”’)]*(?=\s)|[。！？]+|\n")
_CLAUSE_END = re.compile(r"[,;:](?=\s)|(?=\s(?:and|but|or|so|because|which|who|that|when|while|if|where)\s)")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:mr|mrs|ms|dr|st|prof|vs|etc|e\.g|i\.e|[a-z])\.$|^\d+\.$", re.IGNORECASE)
_STAGE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\*[a-z ]+\*")
_MARKUP = re.compile(r"[*_#`>|~]+|^\s*(?:[-•]|\d+[.)])\s+|https?://\S+", re.MULTILINE)
_NOISE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|♪[^♪]*♪?|\*[^*]*\*")


def spoken(text: str) -> str:
    """Return what of `text` can be said aloud: no markup, no stage directions, single spaces."""
    said = " ".join(_MARKUP.sub(" ", _STAGE.sub(" ", text)).split())
    return said if re.search(r"\w", said) else ""


def understood(text: str, longest: int = MAX_WORDS) -> str:
    """Return a transcript without what a recogniser writes for noises; empty if there is no word in it.

    Of one with more than `longest` characters, the last ones.
    """
    words = " ".join(_NOISE.sub(" ", text).split())
    return words[-longest:] if re.search(r"\w", words) else ""


class Sentences:
    """An answer that comes in pieces, handed out sentence by sentence: `feed` each piece, `finish` at the end.

    `full` is true once there are enough; what is fed after that is dropped.
    """

    def __init__(self, most: int | None = None) -> None:
        """`most` sentences are handed out; None: all."""
        self._most = most
        self._pending = ""
        self._whole = 0  # sentences
        self._handed = 0  # pieces of sentences

    @property
    def full(self) -> bool:
        """True if the answer has as many sentences as may be spoken."""
        return self._most is not None and self._whole >= self._most

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
