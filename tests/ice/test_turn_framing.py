"""ChannelData and the stream of a TURN server: any cut gives the same messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import LocalError, ParseError
from stack.ice.turn_framing import (
    FIRST_CHANNEL,
    LAST_CHANNEL,
    TurnStreamFramer,
    channel_data,
    parse_channel_data,
)
from stack.stun import Data, Message, MessageClass, Method, TransactionId

STUN = Message(MessageClass.INDICATION, Method.DATA, TransactionId(bytes(12)), (Data(b"12345"),)).serialize()


@given(channel=st.integers(FIRST_CHANNEL, LAST_CHANNEL), data=st.binary(max_size=50), padded=st.booleans())
def test_channel_data_come_back_whatever_the_padding(channel: int, data: bytes, padded: bool) -> None:
    written = channel_data(channel, data, padded=padded)
    assert parse_channel_data(written) == (channel, data)
    assert len(written) == 4 + len(data) + (-len(data) % 4 if padded else 0)


@pytest.mark.parametrize(
    "datagram", [b"", b"\x40\x00\x00", b"\x40\x00\x00\x02x", b"\x3f\xff\x00\x00", b"\x50\0\0\0", STUN]
)
def test_what_is_no_channel_data(datagram: bytes) -> None:
    assert parse_channel_data(datagram) is None


@pytest.mark.parametrize(
    ("channel", "size"), [(FIRST_CHANNEL - 1, 1), (LAST_CHANNEL + 1, 1), (FIRST_CHANNEL, 65536)]
)
def test_what_no_channel_can_carry_is_our_error(channel: int, size: int) -> None:
    with pytest.raises(LocalError):
        channel_data(channel, bytes(size), padded=False)


@given(
    messages=st.lists(
        st.one_of(st.just(STUN), st.binary(max_size=40).map(lambda d: channel_data(0x4001, d, padded=True))),
        max_size=6,
    ),
    data=st.data(),
)
def test_any_cut_of_the_stream_gives_the_messages_back(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    framer, received = TurnStreamFramer(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += framer.feed(stream[start:end])
    assert received == messages


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x00", b"\x80\0\0\0", b"\x00\x01\x00\x00abcd", b"\x00\x01\x00\x03\x21\x12\xa4\x42"]
)
def test_what_begins_no_message_ends_the_stream(garbage: bytes) -> None:
    with pytest.raises(ParseError):
        TurnStreamFramer().feed(garbage)
