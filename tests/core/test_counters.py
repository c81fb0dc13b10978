from __future__ import annotations

from enum import Enum

import pytest

from stack.core import counters as module
from stack.core.counters import Counters, declare, declare_each, declared_counters
from stack.core.errors import LocalError


@pytest.fixture(autouse=True)
def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Declarations of these tests are forgotten after them."""
    monkeypatch.setattr(module, "_DECLARED", dict(module._DECLARED))


class Fruit(Enum):
    RED_APPLE = "an apple that is red"
    PEAR = 2


def test_counting_and_merging() -> None:
    peeled = declare("rtp", "dropped_peeled", "Fruits peeled")
    eaten = declare("rtp", "eaten", "Fruits eaten")
    counters, other = Counters(), Counters()
    counters.add(peeled)
    counters.add(eaten, 3)
    other.add(peeled, 2)
    counters.merge(other)
    assert counters[peeled] == 3
    assert other["rtp.eaten"] == 0
    assert list(counters.snapshot().items()) == [("rtp.dropped_peeled", 3), ("rtp.eaten", 3)]
    assert "rtp.eaten" in repr(counters)


def test_a_name_that_is_not_declared_is_no_counter() -> None:
    with pytest.raises(KeyError, match=r"rtp\.never"):
        Counters()["rtp.never"]


def test_a_snapshot_is_a_copy() -> None:
    counters = Counters()
    snapshot = counters.snapshot()
    counters.add(declare("rtp", "later", "Later"))
    assert snapshot == {}


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("fruit", "eaten"),
        ("rtp", "Eaten"),
        ("rtp", "dropped.eaten"),
        ("rtp", "dropped__eaten"),
        ("rtp", "_eaten"),
        ("rtp", "eaten_"),
        ("rtp", "7_eaten"),
        ("rtp", "eaten-apple"),
        ("rtp", ""),
    ],
)
def test_names_outside_the_grammar_are_refused(owner: str, name: str) -> None:
    with pytest.raises(LocalError, match="no name of a counter"):
        declare(owner, name, "Fruits eaten")


def test_a_second_declaration_is_refused() -> None:
    declare("rtp", "eaten", "Fruits eaten")
    declare("sctp", "eaten", "Fruits eaten")
    with pytest.raises(LocalError, match="declared already"):
        declare("rtp", "eaten", "Fruits eaten")


@pytest.mark.parametrize("meaning", ["", "Fruits eaten.", "Fruits\neaten"])
def test_a_meaning_is_one_sentence(meaning: str) -> None:
    with pytest.raises(LocalError, match="one sentence"):
        declare("rtp", "eaten", meaning)


def test_each_member_of_an_enumeration_has_a_counter() -> None:
    dropped = declare_each("rtp", "dropped", Fruit, "Fruits dropped: {}")
    assert dropped == {Fruit.RED_APPLE: "rtp.dropped_red_apple", Fruit.PEAR: "rtp.dropped_pear"}
    declared = declared_counters()
    assert declared[dropped[Fruit.RED_APPLE]].meaning == "Fruits dropped: an apple that is red"
    assert declared[dropped[Fruit.PEAR]].meaning == "Fruits dropped: pear"
    assert {declared[name].family for name in dropped.values()} == {"dropped"}


def test_declarations_are_in_the_order_of_the_owners() -> None:
    declare("host", "a", "A")
    declare("sdp", "z", "Z")
    names = list(declared_counters())
    assert names.index("sdp.z") < names.index("host.a")
