from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import LocalError, ParseError
from stack.core.wire import Reader, Writer

NUMBERS = st.one_of(
    *(st.tuples(st.just(bits), st.integers(0, 2**bits - 1)) for bits in (8, 16, 24, 32, 48, 64)),
)
WIDTHS = st.sampled_from([8, 16, 24])


@given(st.lists(NUMBERS))
def test_numbers_come_back(numbers: list[tuple[int, int]]) -> None:
    writer = Writer()
    for bits, value in numbers:
        getattr(writer, f"u{bits}")(value)
    data = writer.finish()
    assert len(data) == len(writer) == sum(bits // 8 for bits, _ in numbers)
    reader = Reader(data)
    assert [getattr(reader, f"u{bits}")() for bits, _ in numbers] == [value for _, value in numbers]
    reader.expect_end("the numbers")
    assert not reader


@given(st.lists(st.tuples(WIDTHS, st.binary(max_size=200))))
def test_vectors_come_back(vectors: list[tuple[int, bytes]]) -> None:
    writer = Writer()
    for width, content in vectors:
        with getattr(writer, f"vector{width}")():
            writer.put(content)
    reader = Reader(memoryview(writer.finish()))
    assert [getattr(reader, f"vector{width}")().rest() for width, _ in vectors] == [c for _, c in vectors]
    assert reader.remaining == 0


def test_vectors_within_vectors() -> None:
    writer = Writer()
    with writer.vector16():
        writer.u8(1)
        with writer.vector8():
            writer.put(b"ab")
    assert writer.finish() == b"\x00\x04\x01\x02ab"
    inner = Reader(writer.finish()).vector16()
    assert inner.u8() == 1
    assert inner.vector8().rest() == b"ab"


@given(
    st.binary(max_size=40),
    st.lists(st.sampled_from(["u8", "u16", "u24", "u32", "u48", "u64", "vector8", "vector16", "vector24"])),
)
def test_reading_raises_parse_error_and_stays_in_bounds(data: bytes, calls: list[str]) -> None:
    reader = Reader(data)
    try:
        for call in calls:
            getattr(reader, call)()
            assert 0 <= reader.position <= len(data)
    except ParseError:
        assert reader.position <= len(data)


@given(st.binary(max_size=20), st.integers(-5, 25))
def test_take_is_all_or_nothing(data: bytes, size: int) -> None:
    reader = Reader(data)
    if 0 <= size <= len(data):
        assert reader.take(size) == data[:size]
        assert reader.position == size
    else:
        with pytest.raises(ParseError):
            reader.take(size)
        assert reader.position == 0


def test_a_window_of_the_data() -> None:
    reader = Reader(b"abcdef", 1, 4)
    assert reader.remaining == 3
    inner = reader.sub(2)
    assert (inner.rest(), reader.rest()) == (b"bc", b"d")
    with pytest.raises(ParseError):
        inner.u8()


def test_bytes_too_many_are_named() -> None:
    with pytest.raises(ParseError, match="2 bytes too many in a header"):
        Reader(b"ab").expect_end("a header")


def test_a_vector_that_is_too_long() -> None:
    writer = Writer()
    with pytest.raises(LocalError), writer.vector8():
        writer.put(bytes(256))


@given(st.binary(max_size=20), st.integers(1, 8))
def test_padding(data: bytes, multiple: int) -> None:
    padded = Writer().put(data).pad(multiple, 0xAA).finish()
    assert padded[: len(data)] == data
    assert len(padded) % multiple == 0
    assert len(padded) - len(data) < multiple
    assert set(padded[len(data) :]) <= {0xAA}
