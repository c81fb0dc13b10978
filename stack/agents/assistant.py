"""What the offline assistant says: a little grammar, and a dialogue without any model behind it.

`Assistant.reply` takes the words that were recognised and gives the sentences to speak, one at a time, so that
speech can begin with the first. `Assistant.interrupted` tells it how much of them was heard. It knows the time,
arithmetic, jokes, how to count aloud (long enough to be interrupted), to repeat what one says, to note numbers, a
game of cards, and what was said to interrupt it. `completeness` says of words whether more can follow, so that
the person need not wait after a sentence that is whole.

Pure: the clock is an argument and there is no sound in it; recogniser and synthesiser are in `speech.py`.

Left out: everything that a language model would be needed for. Bring your own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import count
from typing import Final

_UNITS: Final = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
)
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")

_PHRASES: Final = (
    "i like coffee in the morning",
    "the quick brown fox jumps over the lazy dog",
    "she sells sea shells by the sea shore",
    "hello world",
    "this is a test",
)

_RANKS: Final = (
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "jack",
    "queen",
    "king",
    "ace",
)
_SUITS: Final = ("clubs", "diamonds", "hearts", "spades")
_OUR_CARDS: Final = ("king of hearts", "three of diamonds", "nine of spades", "queen of clubs", "five of hearts")

GRAMMAR: Final = f"""#JSGF V1.0;
grammar assistant;
<unit> = {" | ".join(_UNITS[1:])};
<tens> = {" | ".join(_TENS)};
<number> = zero | <unit> | <tens> | <tens> <unit> | one hundred;
<operator> = plus | minus | times | divided by;
<polite> = please | could you | can you;
<time> = what time is it | what is the time | tell me the time;
<sum> = (what is | how much is) <number> <operator> <number>;
<joke> = tell me a joke | another joke | tell me another joke;
<counting> = count [aloud] | count to <number> | start counting;
<phrase> = {" | ".join(_PHRASES)};
<repeat> = (repeat after me | say) <phrase>;
<memory> = what did i say when i interrupted you | what did i say | where did i interrupt you;
<control> = stop | wait | be quiet | go on | continue | yes | no;
<greeting> = hello | hi | good morning | good evening | how are you | who are you | what can you do | help;
<farewell> = goodbye | bye | thank you | thanks;
<rank> = {" | ".join(_RANKS)};
<card> = <rank> of ({" | ".join(_SUITS)});
<cards> = /1.0/ <card> | /0.001/ <rank> <card> | /0.1/ <card> <card> [<card>];
<digit> = oh | zero | <unit> | <tens> | hundred;
<dictation> = <digit> <digit> <digit>*;
<errand> = go (forward | backward) [<number> (meters | steps)] | go somewhere [and do something];
<request> = [<polite>] (<time> | <sum> | <joke> | <counting> | <repeat> | <memory>);
public <sentence> = /1.0/ <request> | /1.0/ <control> | /1.0/ <greeting> | /1.0/ <farewell> | /1.0/ <errand>
                  | /0.1/ <cards> | /0.001/ <dictation>;
"""
"""Everything that the recogniser can hear, as a JSGF grammar."""

_JOKES: Final = (
    ("Why did the packet cross the network?", "Nobody knows. It never arrived."),
    ("I would tell you a joke about UDP.", "But you might not get it."),
    ("How many echo cancellers does it take to change a light bulb?", "Light bulb?"),
    ("A jitter buffer walks into a bar.", "Sixty milliseconds later, it orders a drink."),
)

_HELP: Final = (
    "I can tell you the time.",
    "I can add, subtract, multiply and divide.",
    "I know a few jokes, I can count aloud, and I repeat after you.",
    "Name a card, and see who wins; say numbers, and I note them.",
    "Interrupt me whenever you like.",
)


def in_words(number: int) -> str:
    """Return a whole number between minus and plus a billion as English words."""
    if number < 0:
        return "minus " + in_words(-number)
    if number < 20:
        return _UNITS[number]
    if number < 100:
        tens, unit = divmod(number, 10)
        return _TENS[tens - 2] + (f" {_UNITS[unit]}" if unit else "")
    for size, name in ((1_000_000, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= size:
            many, rest = divmod(number, size)
            joint = " " if rest >= 100 else " and "
            return f"{in_words(many)} {name}" + (joint + in_words(rest) if rest else "")
    raise AssertionError("every number below a hundred was handled")


def number_in(words: str) -> int | None:
    """Return the whole number that `words` are, 0 to 100; None if they are none."""
    known = {word: value for value, word in enumerate(_UNITS)}
    known |= {word: 20 + 10 * index for index, word in enumerate(_TENS)}
    total = 0
    for word in words.split():
        if word == "hundred":
            total = max(1, total) * 100
        elif word in known:
            total += known[word]
        else:
            return None
    return total if words.split() else None


def spoken_time(moment: datetime) -> str:
    """Return the time of day as people say it."""
    hour, minute = moment.hour % 12 or 12, moment.minute
    if minute == 0:
        return f"It is {in_words(hour)} o'clock."
    if minute < 10:
        return f"It is {in_words(hour)} oh {in_words(minute)}."
    return f"It is {in_words(hour)} {in_words(minute)}."


def calculate(left: int, operator: str, right: int) -> str:
    """Return the result of a sum as a sentence."""
    if operator == "divided by" and right == 0:
        return "Nobody can divide by zero. Not even I."
    question = f"{in_words(left)} {operator} {in_words(right)} is"
    if operator == "divided by":
        whole, rest = divmod(left, right)
        if rest:
            return f"{question} {in_words(whole)}, and {in_words(rest)} is left over.".capitalize()
        return f"{question} {in_words(whole)}.".capitalize()
    result = {"plus": left + right, "minus": left - right, "times": left * right}[operator]
    return f"{question} {in_words(result)}.".capitalize()


_MAY_GO_ON = 0.95
"""A pause after these words is most often the end, but not always."""


def completeness(words: str) -> float:
    """Return how complete a sentence is: 1 if nothing can follow, 0 if it cannot stand like that."""
    question = _without_politeness(words)
    repeated = _REPEAT.fullmatch(question)
    if repeated and repeated[1] not in _PHRASES:
        return 0.0
    if not any(pattern.fullmatch(question) for pattern in _SENTENCES):
        return 0.0
    last = question.split()[-1]
    grows = _DICTATION.fullmatch(question) or _OPEN.fullmatch(question) or len(_CARD.findall(question)) in (1, 2)
    return _MAY_GO_ON if grows or last in _TENS or last == "one" else 1.0  # "one": hundred


def _without_politeness(words: str) -> str:
    return re.sub(r"^(please|could you|can you) ", "", " ".join(words.lower().split()))


class Assistant:
    """One conversation. `clock` says what time it is."""

    _COUNT_TO = 100

    def __init__(self, clock: Callable[[], datetime] = datetime.now) -> None:
        self._clock = clock
        self._jokes = count()
        self._cards = count()
        self._saying: list[str] = []
        self._rest: Sequence[str] = ()
        self._was_interrupted = False
        self._interrupted_at: str | None = None
        self._interruption: str | None = None

    def greet(self) -> Iterator[str]:
        """Return what is said when the call begins."""
        return self._say("Hello! I am the assistant that came with this server.", "Ask me what I can do.")

    def reply(self, words: str) -> Iterator[str]:
        """Return the sentences that answer `words`, which were recognised (lower case, no punctuation)."""
        words = " ".join(words.lower().split())
        question = _without_politeness(words)
        if self._was_interrupted and not _MEMORY.fullmatch(question):
            self._interruption, self._was_interrupted = words, False
        for pattern, answer in self._answers():
            if match := pattern.fullmatch(question):
                return self._say(*answer(*match.groups()))
        return self._say(
            "I did not understand that." if words else "I did not hear any words.", "Say help for help."
        )

    def interrupted(self, heard: float) -> None:
        """The reply was dropped after `heard` of it, 0 to 1 by time; remember where that was."""
        text = " ".join(self._saying).split()
        reached = text[: round(len(text) * max(0.0, min(1.0, heard)))]
        self._was_interrupted = True
        self._interruption = None
        self._interrupted_at = reached[-1].strip(".,!?").lower() if reached else None

    def _answers(self) -> list[tuple[re.Pattern[str], Callable[..., Sequence[str]]]]:
        return [
            (_TIME, lambda: [spoken_time(self._clock())]),
            (_SUM, self._sum),
            (_JOKE, lambda: _JOKES[next(self._jokes) % len(_JOKES)]),
            (_COUNT, self._count),
            (_REPEAT, lambda phrase: [f"{phrase.capitalize()}."]),
            (_MEMORY, self._recall),
            (_GO_ON, self._go_on),
            (_STOP, lambda: ["All right."]),
            (_HELLO, lambda: ["Hello! It is nice to hear you."]),
            (_WHO, lambda: ["I am a small program that listens and talks, and all of it runs on this machine."]),
            (_WHAT, lambda: _HELP),
            (_THANKS, lambda: ["You are welcome."]),
            (_BYE, lambda: ["Goodbye!"]),
            (_CARDS, self._play),
            (_DICTATION, lambda numbers: [f"I have noted: {numbers}."]),
            (_ERRAND, lambda where: [f"I would love to go {where}.", "But I live in this server."]),
        ]

    def _say(self, *sentences: str) -> Iterator[str]:
        """Hand out sentences one by one, and know at any moment which were handed out and which are left."""
        self._saying, self._rest = [], sentences

        def told() -> Iterator[str]:
            for index, sentence in enumerate(sentences):
                self._saying.append(sentence)
                self._rest = sentences[index:]
                yield sentence
            self._rest = ()

        return told()

    def _sum(self, left: str, operator: str, right: str) -> Sequence[str]:
        first, second = number_in(left), number_in(right)
        if first is None or second is None:
            return ["I only know whole numbers up to a hundred."]
        return [calculate(first, operator, second)]

    def _count(self, to: str | None) -> Sequence[str]:
        last = number_in(to) if to else self._COUNT_TO
        numbers = [in_words(number) for number in range(1, (last or self._COUNT_TO) + 1)]
        return [", ".join(numbers[at : at + 5]) + "." for at in range(0, len(numbers), 5)]

    def _play(self, cards: str) -> Sequence[str]:
        ours = _OUR_CARDS[next(self._cards) % len(_OUR_CARDS)]
        best = max(_RANKS.index(rank) for rank, _ in _CARD.findall(cards))
        mine = _RANKS.index(ours.split()[0])
        outcome = "I win." if mine > best else "You win." if mine < best else "Nobody wins."
        return [f"I have the {ours}.", outcome]

    def _recall(self) -> Sequence[str]:
        if not self._was_interrupted and self._interruption is None:
            return ["You have not interrupted me yet. Ask me to count, and try it."]
        where = f"I had just said {self._interrupted_at}." if self._interrupted_at else "I had hardly begun."
        if not self._interruption:
            return [where, "But I could not make out what you said."]
        return [f"You said: {self._interruption}.", where]

    def _go_on(self) -> Sequence[str]:
        return self._rest or ["There is nothing left to go on with."]


_TIME = re.compile(r"what time is it|what is the time|tell me the time")
_SUM = re.compile(r"(?:what is|how much is) ([a-z ]+?) (plus|minus|times|divided by) ([a-z ]+)")
_JOKE = re.compile(r"(?:tell me )?(?:a|another) joke")
_COUNT = re.compile(r"(?:count|start counting)(?: aloud)?(?: to ([a-z ]+))?")
_REPEAT = re.compile(r"(?:repeat after me|say) (.+)")
_MEMORY = re.compile(r"what did i say(?: when i interrupted you)?|where did i interrupt you")
_GO_ON = re.compile(r"go on|continue|yes")
_STOP = re.compile(r"stop|wait|be quiet|no")
_HELLO = re.compile(r"hello|hi|good morning|good evening|how are you")
_WHO = re.compile(r"who are you")
_WHAT = re.compile(r"what can you do|help")
_THANKS = re.compile(r"thank you|thanks")
_BYE = re.compile(r"goodbye|bye")
_CARD = re.compile(rf"({'|'.join(_RANKS)}) of ({'|'.join(_SUITS)})")
_A_CARD = rf"(?:{'|'.join(_RANKS)}) of (?:{'|'.join(_SUITS)})"
_CARDS = re.compile(rf"((?:(?:{'|'.join(_RANKS)}) )?{_A_CARD}(?: {_A_CARD}){{0,2}})")
_DICTATION = re.compile(rf"((?:(?:oh|hundred|{'|'.join(_UNITS + _TENS)})(?: |$))+)")
_ERRAND = re.compile(r"go ((?:forward|backward)(?: [a-z ]+ (?:meters|steps))?|somewhere(?: and do something)?)")
_OPEN = re.compile(r"count(?: aloud)?|start counting|what did i say|go (?:forward|backward|somewhere)")
_SENTENCES = (
    _TIME,
    _SUM,
    _JOKE,
    _COUNT,
    _REPEAT,
    _MEMORY,
    _GO_ON,
    _STOP,
    _HELLO,
    _WHO,
    _WHAT,
    _THANKS,
    _BYE,
    _CARDS,
    _DICTATION,
    _ERRAND,
)
