"""A server known by its URL whose first calls fail in the same way is given up: the others would fail so, too.

What is counted are calls that never stood. One that did shows that the next may, whatever became of it; but a
server that took calls and then answers nothing several times in a row hangs, or is there no more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from interop.verdict import LAYERS, NO_ANSWER, Layer, Outcome, Verdict

if TYPE_CHECKING:
    from interop.runner import Cell, Pair

ALIKE = 3
"""Calls at the beginning that fail in the same way, after which the others are not tried."""
SLOW_ALIKE = 2
SLOW = 20.0
"""Seconds that such calls may take: when they have, `SLOW_ALIKE` of them suffice."""
SAYS_NOTHING = (Outcome.UNSUPPORTED, Outcome.ABSENT, Outcome.BROKEN)
"""What says nothing of a server."""
BEFORE_IT_STANDS = {layer.value for layer in LAYERS[: LAYERS.index(Layer.MEDIA)]}


def way(verdict: Verdict) -> str | None:
    """In which way a call came to nothing; None: it stood, or says nothing of the server."""
    if verdict.outcome is not Outcome.FAILED or verdict.layer not in BEFORE_IT_STANDS:
        return None
    expected = verdict.sentence.partition(", seen ")[0]
    return re.sub(r"\d+", "#", f"{verdict.layer} {verdict.rule} {expected}")


@dataclass
class FirstCalls:
    """What came of the first calls of each pair. A further client of a server that was given up has one call."""

    goes_on: bool = False
    """Everything is tried, whatever fails."""
    _stands: set[str] = field(default_factory=set)
    _failed: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    _given_up: dict[str, str] = field(default_factory=dict)
    """Why, by the label of the pair."""
    _hopeless: dict[tuple[str, str], str] = field(default_factory=dict)
    """The pair of a server that was given up, by the server and the way in which its calls failed."""
    _unanswered: dict[str, int] = field(default_factory=dict)
    """Calls in a row that had no answer at all, by the label of a pair of which one stood."""

    def saw(self, pair: Pair, cell: Cell) -> None:
        """Take note of what came of a call."""
        if self.goes_on or not pair.server.is_elsewhere or pair.label in self._given_up:
            return
        if pair.label in self._stands:
            self._see_whether_it_has_gone(pair, cell.verdict)
            return
        found = way(cell.verdict)
        if found is None:
            if cell.verdict.outcome not in SAYS_NOTHING:
                self._stands.add(pair.label)
            return
        failed = self._failed.setdefault(pair.label, [])
        failed.append((found, cell.seconds))
        if any(each != found for each, _ in failed):
            self._stands.add(pair.label)  # not as one: each may tell something else
            return
        count, seconds = len(failed), sum(took for _, took in failed)
        others = "--go-on tries the others"
        former = self._hopeless.get((pair.server.name, found))
        if former is not None:
            self._given_up[pair.label] = f"the first call failed as those of {former} did ({others})"
        elif count >= ALIKE or (count >= SLOW_ALIKE and seconds >= SLOW):
            self._hopeless[pair.server.name, found] = pair.label
            said = f"the first {count} calls failed in the same way ({others}): {cell.verdict.sentence}"
            self._given_up[pair.label] = said

    def _see_whether_it_has_gone(self, pair: Pair, verdict: Verdict) -> None:
        """Take note of what came of a call of a server that took one before."""
        found = way(verdict)
        if found is None or verdict.rule != NO_ANSWER:
            if verdict.outcome not in SAYS_NOTHING:
                self._unanswered[pair.label] = 0
            return
        self._unanswered[pair.label] = count = self._unanswered.get(pair.label, 0) + 1
        if count >= ALIKE:
            self._hopeless[pair.server.name, found] = pair.label
            said = f"the server hangs or has gone: {count} calls in a row had no answer (--go-on tries the others)"
            self._given_up[pair.label] = f"{said}: {verdict.sentence}"

    def why_not(self, pair: Pair) -> str | None:
        """Why no further call of a pair is made; None: one is."""
        return self._given_up.get(pair.label)
