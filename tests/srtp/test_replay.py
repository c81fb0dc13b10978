from hypothesis import given
from hypothesis import strategies as st

from stack.srtp.replay import WINDOW_SIZE, ReplayWindow


def test_a_window_begins_with_whatever_comes_first() -> None:
    window = ReplayWindow()
    assert window.highest is None
    assert window.is_fresh(0)
    assert window.is_fresh(1 << 40)
    window.accept(500)
    assert not window.is_fresh(500)
    assert window.is_fresh(499)
    assert window.is_fresh(501)


def test_what_lies_below_the_window_is_never_fresh() -> None:
    window = ReplayWindow()
    window.accept(1000)
    assert window.is_fresh(1000 - WINDOW_SIZE + 1)
    assert not window.is_fresh(1000 - WINDOW_SIZE)


@given(st.lists(st.integers(0, 600), max_size=200))
def test_it_agrees_with_a_set(indices: list[int]) -> None:
    window, accepted = ReplayWindow(), set[int]()
    for index in indices:
        fresh = index not in accepted and index > max(accepted, default=0) - WINDOW_SIZE
        assert window.is_fresh(index) == fresh
        if fresh:
            window.accept(index)
            accepted.add(index)
