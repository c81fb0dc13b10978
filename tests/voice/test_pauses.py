"""What is known of a person's pauses, and who judges the present one."""

import numpy as np
import pytest

from stack.voice.endpointing import BOUNDS, PAUSES_KEPT
from stack.voice.events import TurnPaused
from stack.voice.pauses import Pauses
from stack.voice.turns import Eagerness

SOUND = (3000 * np.sin(np.arange(16_000) / 13)).astype(np.int16)
SILENCE = np.zeros(3200, np.int16)
HIGH = BOUNDS[Eagerness.HIGH]


def estimate(pauses: Pauses, eagerness: Eagerness = Eagerness.HIGH) -> tuple[float, TurnPaused | None]:
    return pauses.estimate(SOUND, SILENCE, 1.0, eagerness)


def question(pauses: Pauses) -> TurnPaused:
    _, asked = estimate(pauses)
    assert asked is not None
    return asked


def test_the_rules_judge_at_once() -> None:
    pauses = Pauses()
    wait, asked = estimate(pauses)
    assert asked is None
    assert HIGH.finished <= wait <= HIGH.unfinished
    pauses.note_words("what is the", None)
    longer, _ = estimate(pauses)
    pauses.note_words("stop", 1.0)
    assert estimate(pauses) == (HIGH.certain, None)
    assert longer > wait


def test_who_is_asked_is_asked_once_and_told_all_that_is_known() -> None:
    pauses = Pauses()
    pauses.ask(True)
    for lasted in range(PAUSES_KEPT + 3):
        pauses.end(float(lasted))
    pauses.note_words("let me", None)
    wait, asked = estimate(pauses)
    assert wait == HIGH.unfinished
    assert asked is not None
    assert asked.pause.pauses == tuple(map(float, range(3, PAUSES_KEPT + 3)))
    assert (asked.pause.transcript, asked.pause.eagerness) == ("let me", Eagerness.HIGH)
    assert (len(asked.pause.utterance), len(asked.pause.silence)) == (16_000, 3200)
    assert estimate(pauses) == (HIGH.unfinished, None)
    assert pauses.note_answer(asked.number, 0.7)
    assert estimate(pauses) == (0.7, None)


@pytest.mark.parametrize(
    "how", ["the person goes on", "the turn is over", "other rules", "somebody else is asked"]
)
def test_an_answer_is_to_one_question(how: str) -> None:
    pauses = Pauses()
    pauses.ask(True)
    first = question(pauses)
    match how:
        case "the person goes on":
            pauses.end(0.4)
        case "the turn is over":
            pauses.end()
        case "other rules":
            pauses.judge_anew()
        case _:
            pauses.ask(True)
    assert not pauses.note_answer(first.number, 0.0)
    second = question(pauses)
    assert second.number > first.number
    assert not pauses.note_answer(first.number, 0.0)
    assert estimate(pauses) == (HIGH.unfinished, None)
    assert second.pause.pauses == ((0.4,) if how == "the person goes on" else ())


def test_words_of_before_are_forgotten() -> None:
    pauses = Pauses()
    pauses.ask(True)
    pauses.note_words("stop", 1.0)
    assert estimate(pauses) == (HIGH.certain, None), "nobody need be asked"
    pauses.end(0.3)
    assert question(pauses).pause.transcript is None


def test_nobody_is_asked_any_more() -> None:
    pauses = Pauses()
    by_rules = estimate(pauses)
    pauses.ask(True)
    number = question(pauses).number
    pauses.ask(False)
    assert not pauses.note_answer(number, 0.0)
    assert estimate(pauses) == by_rules
