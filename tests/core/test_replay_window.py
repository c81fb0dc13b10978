from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.replay_window import ReplayWindow

SIZES = pytest.mark.parametrize("size", [128, 256])


@SIZES
def test_a_window_begins_with_whatever_comes_first(size: int) -> None:
    window = ReplayWindow(size)
    assert window.highest == -1
    assert not window.is_replay(0)
    assert not window.is_replay(1 << 40)
    window.accept(500)
    assert window.highest == 500
    assert window.is_replay(500)
    assert not window.is_replay(499)
    assert not window.is_replay(501)


@SIZES
def test_what_lies_below_the_window_is_always_a_replay(size: int) -> None:
    window = ReplayWindow(size)
    window.accept(1000)
    assert not window.is_replay(1000 - size + 1)
    assert window.is_replay(1000 - size)


@given(st.sampled_from([128, 256]), st.lists(st.integers(0, 700), max_size=200))
def test_it_agrees_with_a_set(size: int, numbers: list[int]) -> None:
    window, accepted = ReplayWindow(size), set[int]()
    for number in numbers:
        too_old = bool(accepted) and number <= max(accepted) - size
        assert window.is_replay(number) == (number in accepted or too_old)
        if not window.is_replay(number):
            window.accept(number)
            accepted.add(number)
