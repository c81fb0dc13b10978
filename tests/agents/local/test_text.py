from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.agents.local.text import MAX_HISTORY, MAX_SENTENCES, History
from stack.agents.sentences import (
    CLAUSE,
    MAX_SENTENCE,
    MAX_WORDS,
    Sentences,
    Spoken,
    heard_part,
    spoken,
    understood,
)


def cut(text: str, size: int = 3, cut_off: bool = False) -> list[str]:
    sentences = Sentences(MAX_SENTENCES)
    ready = [said for at in range(0, len(text), size) for said in sentences.feed(text[at : at + size])]
    return ready + sentences.finish(cut_off)


class TestSentences:
    @pytest.mark.parametrize(
        ("text", "pieces"),
        [
            ("The capital of France is Paris.", ["The capital of France is Paris."]),
            ("Yes! It is. Is it?", ["Yes!", "It is.", "Is it?"]),
            ("Dr. Brown pays 3.50 to J. Smith. Done.", ["Dr. Brown pays 3.50 to J. Smith.", "Done."]),
            ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
            ("It was in 1969. No. Really.", ["It was in 1969.", "No.", "Really."]),
            ("Wait... what?", ["Wait...", "what?"]),
            ("first line\nsecond line", ["first line", "second line"]),
            ("1. Take a nap.\n2. Drink milk.", ["Take a nap.", "Drink milk."]),
            ("(smiles) *waves* **Hello** there!", ["Hello there!"]),
            ("...", []),
            ("", []),
        ],
    )
    def test_cuts(self, text, pieces):
        assert cut(text) == pieces
        assert cut(text, 1) == pieces
        assert cut(text, 1000) == pieces

    def test_a_sentence_is_ready_as_soon_as_it_is_whole(self):
        sentences = Sentences(MAX_SENTENCES)
        assert sentences.feed("It is blue.") == []  # it might go on: "blue.com"
        assert sentences.feed(" And") == ["It is blue."]

    def test_only_the_first_sound_comes_from_a_clause(self):
        text = "The moon goes around the earth every month, and the earth, which is larger, goes around the sun. "
        again = "The sun goes around the middle of the galaxy, which takes it long."
        assert cut(text + again) == [
            "The moon goes around the earth every month,",
            "and the earth, which is larger, goes around the sun.",
            again,
        ]
        assert cut("It is because the light of the sun is scattered. And so on.") == [
            "It is because the light of the sun is scattered.",
            "And so on.",
        ]
        assert cut("The light of the sun is scattered because there is air and more. So!") == [
            "The light of the sun is scattered",
            "because there is air and more.",
            "So!",
        ]
        assert cut("Well, no.") == ["Well, no."]
        assert len("Well,") < CLAUSE

    def test_enough_is_enough(self):
        sentences = Sentences(MAX_SENTENCES)
        assert sentences.feed("One. Two. Three. Four. Five. ") == ["One.", "Two.", "Three."]
        assert sentences.full
        assert sentences.feed("Six. ") == sentences.finish() == []

    def test_a_clause_does_not_count_as_a_sentence(self):
        text = "The moon goes around the earth every month, and so on. Two. Three. Four."
        assert cut(text)[-1] == "Three."

    def test_an_answer_that_was_cut_off_ends_with_its_last_whole_sentence(self):
        assert cut("It is so. And besides it", cut_off=True) == ["It is so."]
        assert cut("And besides it", cut_off=True) == ["And besides it"]

    def test_what_never_ends_is_cut_between_words(self):
        pieces = cut("blah " * 200, 7)
        assert len(pieces) == MAX_SENTENCES
        assert all(len(piece) <= MAX_SENTENCE and set(piece.split()) == {"blah"} for piece in pieces)

    @settings(max_examples=200, deadline=None)
    @given(st.text(st.sampled_from("ab .,!?\n*("), max_size=400), st.integers(1, 20))
    def test_pieces_make_no_difference_and_nothing_is_too_long(self, text, size):
        pieces = cut(text, size)
        assert all(piece and len(piece) <= MAX_SENTENCE + size for piece in pieces)
        assert "".join(pieces).count("a") <= text.count("a")
        if "," not in text and len(text) <= MAX_SENTENCE:
            assert pieces == cut(text, 1)


class TestWords:
    @pytest.mark.parametrize(
        ("heard", "words"),
        [
            (" What is  it? ", "What is it?"),
            ("[BLANK_AUDIO]", ""),
            ("(music) ♪ la la ♪", ""),
            ("*coughs* Yes.", "Yes."),
            (".", ""),
        ],
    )
    def test_understood(self, heard, words):
        assert understood(heard) == words

    def test_a_speech_is_shortened_to_its_end(self):
        assert understood("x" * 2000 + " end") == ("x" * 2000 + " end")[-MAX_WORDS:]

    def test_what_cannot_be_said_is_not(self):
        assert spoken("# See https://example.org/x for `code`") == "See for code"
        assert spoken("***") == ""


class TestHeardPart:
    PIECES = (Spoken("One two three four.", 1900.0), Spoken("Five six.", 1000.0))

    @pytest.mark.parametrize(
        ("milliseconds", "text"),
        [
            (0.0, ""),
            (-5.0, ""),
            (300.0, "One"),
            (1000.0, "One two"),
            (1900.0, "One two three four."),
            (2500.0, "One two three four. Five"),
            (9999.0, "One two three four. Five six."),
        ],
    )
    def test_cut(self, milliseconds, text):
        assert heard_part(self.PIECES, milliseconds) == text

    def test_nothing_was_said(self):
        assert heard_part([], 100.0) == ""
        assert heard_part([Spoken("x", 0.0)], 0.0) == "x"


class TestHistory:
    def test_prompt(self):
        history = History("Be brief.")
        history.add("Hello?", "Hello!")
        assert history.prompt("Who are you?") == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello?"},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": "Who are you?"},
        ]
        assert len(history.prompt()) == 3, "asking changes nothing"

    def test_words_that_got_no_answer_go_on(self):
        history = History("s")
        history.add("Tell me", "")
        history.add("about the moon.", "It is round.")
        assert [message["content"] for message in history.prompt()[1:]] == [
            "Tell me about the moon.",
            "It is round.",
        ]

    def test_it_is_bounded_and_forgets_seldom(self):
        history = History("s")
        forgot = 0
        for index in range(200):
            history.add(f"question {index} " + "x" * 40, "answer " + "y" * 60)
            forgot += history.forgot
            turns = history.prompt()[1:]
            assert sum(len(turn["content"]) for turn in turns) <= MAX_HISTORY
            assert [turn["role"] for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
            assert turns[-2]["content"].startswith(f"question {index} ")
        assert 5 < forgot < 40

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.text("ab ", max_size=900), st.text("cd ", max_size=900)), max_size=12))
    def test_roles_alternate_whatever_is_said(self, exchanges):
        history = History()
        for words, answer in exchanges:
            history.add(words.strip(), answer.strip())
            roles = [message["role"] for message in history.prompt("and now?")]
            assert roles[0] == "system"
            assert roles[-1] == "user"
            assert all(one != other for one, other in pairwise(roles))
