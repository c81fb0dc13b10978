"""The layout of a server's username fragment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import LocalError, ParseError
from stack.core.ufrag import MAX_LOCAL_UFRAG, MAX_NODE, MAX_TICKET, WORKER_DIGITS
from stack.ice import MAX_WORKERS, IceCredentials, Ufrag, worker_of
from tests.sim.entropy import entropy

ICE_CHARS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"


@given(
    st.integers(0, MAX_WORKERS - 1),
    st.text(ICE_CHARS.replace("+", ""), max_size=MAX_NODE),
    st.text(ICE_CHARS, min_size=12, max_size=MAX_TICKET - MAX_NODE),
)
def test_what_is_written_is_read(worker: int, node: str, rest: str) -> None:
    whole = Ufrag(worker, rest, node)
    text = whole.serialize()
    assert Ufrag.parse(text) == whole
    assert text[0] == WORKER_DIGITS[worker]  # where the kernel looks
    assert worker_of(text) == worker
    assert IceCredentials(text, "p" * 22).ufrag == text


def test_the_longest_one_fits() -> None:
    for node in ("", "n", "n" * MAX_NODE):
        rest = "t" * (MAX_TICKET - len(node))
        longest = Ufrag(0, rest, node).serialize()
        assert len(longest) == MAX_LOCAL_UFRAG
        with pytest.raises(LocalError):
            Ufrag(0, rest + "t", node)
        with pytest.raises(ParseError):
            Ufrag.parse(longest + "t")


@pytest.mark.parametrize(
    ("worker", "rest", "node"),
    [(-1, "r" * 12, ""), (MAX_WORKERS, "r" * 12, ""), (0, "r" * 11, ""), (0, "r" * 222, ""), (0, "r:" * 12, ""),
     (0, "r" * 12, "a+b"), (0, "r" * 12, "n" * 65), (0, "r" * 12, "a:b")],
)  # fmt: skip
def test_parts_that_have_no_place_are_refused(worker: int, rest: str, node: str) -> None:
    with pytest.raises(LocalError):
        Ufrag(worker, rest, node)


@pytest.mark.parametrize("text", ["", "abcd", "234da488", "+FPy", "Zn+" + "r" * 12, "0n+short", "0" + "r" * 40])
def test_a_fragment_without_the_layout(text: str) -> None:
    with pytest.raises(ParseError):
        Ufrag.parse(text)


def test_a_restart_keeps_all_but_the_rest() -> None:
    random_bytes = entropy(3)
    first = Ufrag.generate(random_bytes, 7, "node/a")
    second = first.restarted(random_bytes)
    assert (second.worker, second.node) == (7, "node/a")
    assert second.rest != first.rest


def test_who_names_no_worker() -> None:
    assert worker_of("") is None
    assert worker_of("A+bcd") is None
