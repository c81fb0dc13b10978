import re
from datetime import datetime
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.agents.assistant import (
    GRAMMAR,
    Assistant,
    calculate,
    completeness,
    in_words,
    number_in,
    spoken_time,
)


def assistant() -> Assistant:
    return Assistant(lambda: datetime(2026, 5, 1, 14, 5))


def ask(dialogue: Assistant, words: str) -> str:
    return " ".join(dialogue.reply(words))


class TestNumbers:
    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 100))
    def test_there_and_back(self, number):
        assert number_in(in_words(number)) == number

    @pytest.mark.parametrize(
        ("number", "words"),
        [
            (0, "zero"),
            (21, "twenty one"),
            (-7, "minus seven"),
            (101, "one hundred and one"),
            (9801, "nine thousand eight hundred and one"),
            (10_000, "ten thousand"),
        ],
    )
    def test_in_words(self, number, words):
        assert in_words(number) == words

    def test_what_is_no_number(self):
        assert number_in("elephants") is None
        assert number_in("") is None

    @pytest.mark.parametrize(
        ("left", "operator", "right", "said"),
        [
            (7, "plus", 5, "Seven plus five is twelve."),
            (5, "minus", 7, "Five minus seven is minus two."),
            (12, "times", 12, "Twelve times twelve is one hundred and forty four."),
            (9, "divided by", 3, "Nine divided by three is three."),
            (10, "divided by", 4, "Ten divided by four is two, and two is left over."),
            (1, "divided by", 0, "Nobody can divide by zero. Not even I."),
        ],
    )
    def test_sums(self, left, operator, right, said):
        assert calculate(left, operator, right) == said

    @pytest.mark.parametrize(
        ("hour", "minute", "said"),
        [(14, 0, "two o'clock"), (0, 7, "twelve oh seven"), (9, 45, "nine forty five"), (12, 10, "twelve ten")],
    )
    def test_time(self, hour, minute, said):
        assert spoken_time(datetime(2026, 1, 1, hour, minute)) == f"It is {said}."


class TestAssistant:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("what time is it", "It is two oh five."),
            ("please what is twenty one times two", "Twenty one times two is forty two."),
            ("repeat after me she sells sea shells by the sea shore", "She sells sea shells by the sea shore."),
            ("HELLO", "Hello! It is nice to hear you."),
            ("count to three", "one, two, three."),
            ("thanks", "You are welcome."),
            ("", "I did not hear any words. Say help for help."),
            ("buy a boat", "I did not understand that. Say help for help."),
            ("ten of clubs", "I have the king of hearts. I win."),
            ("four king of clubs", "I have the king of hearts. Nobody wins."),
            ("two of spades ace of hearts", "I have the king of hearts. You win."),
            ("two nine oh", "I have noted: two nine oh."),
            ("go forward ten meters", "I would love to go forward ten meters. But I live in this server."),
        ],
    )
    def test_answers(self, words, said):
        assert ask(assistant(), words) == said

    def test_every_joke_once_before_one_again(self):
        dialogue = assistant()
        jokes = [ask(dialogue, "tell me a joke") for _ in range(5)]
        assert len(set(jokes[:4])) == 4
        assert jokes[4] == jokes[0]

    def test_counting_is_long_enough_to_be_interrupted(self):
        said = list(assistant().reply("count aloud"))
        assert len(said) == 20
        assert said[-1].endswith("one hundred.")

    def test_it_remembers_the_interruption(self):
        dialogue = assistant()
        counting = dialogue.reply("count")
        assert [next(counting) for _ in range(4)][3].startswith("sixteen")
        dialogue.interrupted(heard=17 / 20)
        assert ask(dialogue, "stop") == "All right."
        assert (
            ask(dialogue, "what did i say when i interrupted you") == "You said: stop. I had just said seventeen."
        )

    def test_asked_by_the_interruption_itself(self):
        dialogue = assistant()
        next(dialogue.reply("count"))
        dialogue.interrupted(0.0)
        answer = ask(dialogue, "what did i say")
        assert answer == "I had hardly begun. But I could not make out what you said."

    def test_nobody_interrupted(self):
        assert "not interrupted me yet" in ask(assistant(), "what did i say")

    def test_it_can_go_on(self):
        dialogue = assistant()
        counting = dialogue.reply("count to fifteen")
        next(counting)
        next(counting)
        dialogue.interrupted(0.9)
        assert list(dialogue.reply("go on")) == [
            "six, seven, eight, nine, ten.",
            "eleven, twelve, thirteen, fourteen, fifteen.",
        ]
        assert ask(dialogue, "go on") == "There is nothing left to go on with."

    def test_it_greets(self):
        assert next(assistant().greet()).startswith("Hello")

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=60), st.floats(-1, 2))
    def test_whatever_is_said_it_has_an_answer(self, words, heard):
        dialogue = assistant()
        assert ask(dialogue, words)
        dialogue.interrupted(heard)
        assert ask(dialogue, "what did i say")


def sentences_of(grammar: str, rule: str, depth: int = 0) -> list[str]:
    """One sentence for each alternative of a rule, the first choice elsewhere."""
    body = re.search(rf"<{rule}>\s*=\s*(.*?);", grammar, re.S).group(1)
    found = []
    for option in re.split(r"\|(?![^()\[\]]*[)\]])", body):
        text = re.sub(r"\[[^\]]*\]", "", option)
        text = re.sub(r"\(([^|)]*)[^)]*\)", r"\1", text)
        while inner := re.search(r"<(\w+)>", text):
            text = text.replace(inner.group(0), sentences_of(grammar, inner.group(1))[0], 1)
        found.append(" ".join(text.split()))
    return found


def test_everything_that_the_grammar_knows_is_understood():
    for rule in ("time", "sum", "joke", "counting", "repeat", "memory", "control", "greeting", "farewell"):
        for sentence in sentences_of(GRAMMAR, rule):
            assert "did not understand" not in ask(assistant(), sentence), sentence


def said_by(grammar: str, random: Random) -> str:
    """One of all the sentences of a grammar: alternatives, options, groups, weights, rules and `*`."""
    rules = dict(re.findall(r"<(\w+)>\s*=\s*(.*?);", grammar, re.S))
    tokens: list[str] = []

    def choice() -> str:
        options = [sequence()]
        while tokens and tokens[0] == "|":
            tokens.pop(0)
            options.append(sequence())
        return random.choice(options)

    def sequence() -> str:
        words = []
        while tokens and tokens[0] not in "|)]":
            token = tokens.pop(0)
            if token in "([":
                inner = choice()
                tokens.pop(0)
                token = "" if token == "[" and random.random() < 0.5 else inner
            elif token.startswith("/"):
                token = ""
            elif token.startswith("<"):
                token = expanded(token[1:-1])
            if tokens and tokens[0] == "*":
                tokens.pop(0)
                token = "" if random.random() < 0.5 else token
            words.append(token)
        return " ".join(words)

    def expanded(rule: str) -> str:
        nonlocal tokens
        outer, tokens = tokens, re.findall(r"<\w+>|/[^/]*/|[\w.]+|[\[\]()|*]", rules[rule])
        said, tokens = choice(), outer
        return said

    return " ".join(expanded("sentence").split())


class TestCompleteness:
    @settings(max_examples=400, deadline=None)
    @given(st.integers())
    def test_a_sentence_is_whole_and_nothing_certain_can_go_on(self, seed):
        sentence = said_by(GRAMMAR, Random(seed))
        assert completeness(sentence) >= 0.9, sentence
        assert "did not understand" not in ask(assistant(), sentence), sentence
        words = sentence.split()
        for length in range(len(words)):
            beginning = " ".join(words[:length])
            assert completeness(beginning) < 1.0, f"{beginning} | {words[length:]}"

    @pytest.mark.parametrize(
        ("words", "least", "most"),
        [
            ("what time is it", 1.0, 1.0),
            ("Please what is seven plus five", 1.0, 1.0),
            ("what is seven plus twenty", 0.9, 0.99),
            ("count", 0.9, 0.99),
            ("what is seven plus", 0.0, 0.0),
            ("repeat after me the quick brown", 0.0, 0.0),
            ("five", 0.9, 0.99),
            ("ten of clubs", 0.9, 0.99),
            ("ten of clubs two of hearts six of spades", 1.0, 1.0),
            ("", 0.0, 0.0),
        ],
    )
    def test_of_words(self, words, least, most):
        assert least <= completeness(words) <= most


class TestSpeech:
    @pytest.mark.parametrize(
        "words",
        ["what time is it", "tell me a joke", "count aloud", "what did i say when i interrupted you", "stop"],
    )
    def test_it_understands_its_own_voice(self, words):
        pytest.importorskip("pocketsphinx", reason="the [demo] extra")
        pytest.importorskip("espeakng_loader", reason="the [demo] extra")
        from stack.agents.speech import Recogniser, Synthesiser
        from stack.audio import resample

        voice = Synthesiser()
        sound = resample(voice.speak(words), voice.sample_rate, Recogniser.SAMPLE_RATE)
        quiet = np.zeros(4800, np.int16)
        recogniser = Recogniser(GRAMMAR)
        assert recogniser.recognise(np.concatenate([quiet, sound, quiet])) == words
        assert recogniser.finish() == ""

    @pytest.mark.parametrize(
        ("module", "name"), [("pocketsphinx", "Recogniser"), ("espeakng_loader", "Synthesiser")]
    )
    def test_it_says_what_is_missing(self, monkeypatch, module, name):
        import sys

        from stack.agents import speech
        from stack.core.errors import LocalError

        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.setattr(speech.Synthesiser, "_library", None)
        with pytest.raises(LocalError, match="demo"):
            speech.Recogniser(GRAMMAR) if name == "Recogniser" else speech.Synthesiser()
