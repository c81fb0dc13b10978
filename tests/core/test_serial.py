from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stack.core.serial import SERIAL16, SERIAL32, SerialSpace, Unwrapper

SPACES = st.sampled_from([SERIAL16, SERIAL32])


@given(SPACES, st.integers(0), st.integers(-(2**31), 2**31 - 1))
def test_distance_undoes_add(space: SerialSpace, start: int, delta: int) -> None:
    start &= space.mask
    delta %= space.half
    assert space.distance(space.add(start, delta), start) == delta
    assert space.distance(space.add(start, -delta), start) == -delta
    assert 0 <= space.add(start, delta) <= space.mask


@given(SPACES, st.integers(0), st.integers(0))
def test_newer_is_one_of_two(space: SerialSpace, one: int, other: int) -> None:
    one, other = one & space.mask, other & space.mask
    opposite = (one - other) & space.mask == space.half
    assert space.is_newer(one, other) + space.is_newer(other, one) == (one != other and not opposite)
    assert space.is_newer(one, other) == (space.distance(one, other) > 0)


def test_the_ends_of_the_circle() -> None:
    assert SERIAL16.is_newer(0, 65535)
    assert not SERIAL16.is_newer(65535, 0)
    assert SERIAL16.distance(0x8000, 0) == -0x8000
    assert SERIAL32.add(0xFFFFFFFF, 1) == 0
    assert SERIAL32.distance(0, 0xFFFFFFFF) == 1


@given(SPACES, st.integers(-(2**40), 2**40), st.integers())
def test_unwrap_is_the_nearest(space: SerialSpace, reference: int, offset: int) -> None:
    offset = offset % (2 * space.half) - space.half
    number = reference + offset
    assert space.unwrap(number & space.mask, reference) == number


@given(SPACES, st.integers(0), st.lists(st.integers(-1000, 1000)))
def test_unwrapper_follows_steps_of_any_sign(space: SerialSpace, start: int, steps: list[int]) -> None:
    unwrapper = Unwrapper(space)
    assert unwrapper.highest is None
    position = start & space.mask
    assert unwrapper.unwrap(position) == position
    highest = position
    for step in steps:
        number = highest + step
        assert unwrapper.unwrap(number & space.mask) == number
        highest = max(highest, number)
        assert unwrapper.highest == highest
