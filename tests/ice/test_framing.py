"""Frames of RFC 4571: any cut of the stream gives the same datagrams, and what cannot be read raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import LocalError, ParseError
from stack.ice.framing import MAX_FRAME, StreamFramer, frame, frame_all


def test_a_frame_is_the_length_in_network_order_and_the_datagram() -> None:
    assert frame(b"abc") == b"\x00\x03abc"
    assert frame(bytes(0x1234))[:2] == b"\x12\x34"


@pytest.mark.parametrize("size", [0, MAX_FRAME + 1])
def test_a_datagram_that_has_no_frame_is_our_error(size: int) -> None:
    with pytest.raises(LocalError):
        frame(bytes(size))


@given(datagrams=st.lists(st.binary(min_size=1, max_size=300), max_size=8), data=st.data())
def test_any_cut_of_the_stream_gives_the_datagrams_back(datagrams: list[bytes], data: st.DataObject) -> None:
    stream = frame_all(datagrams)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    framer, received = StreamFramer(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += framer.feed(stream[start:end])
    assert received == datagrams
    assert framer.pending == 0


def test_what_is_incomplete_waits_byte_by_byte() -> None:
    framer = StreamFramer()
    stream = frame(b"hello")
    for index in range(len(stream) - 1):
        assert framer.feed(stream[index : index + 1]) == []
        assert framer.pending == index + 1
    assert framer.feed(stream[-1:]) == [b"hello"]


def test_an_empty_frame_carries_nothing() -> None:
    assert StreamFramer().feed(b"\x00\x00" + frame(b"x") + b"\x00\x00") == [b"x"]


def test_a_frame_beyond_the_bound_ends_the_stream_before_its_content_arrives() -> None:
    framer = StreamFramer(max_frame=100)
    assert framer.feed(frame(bytes(100))) == [bytes(100)]
    with pytest.raises(ParseError):
        framer.feed(b"\x00\x65")
    assert framer.pending == 0


@pytest.mark.parametrize("max_frame", [0, MAX_FRAME + 1])
def test_a_bound_that_no_length_can_say_is_our_error(max_frame: int) -> None:
    with pytest.raises(LocalError):
        StreamFramer(max_frame)
