import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.errors import ParseError
from stack.sctp.dcep import DataChannelAck, DataChannelOpen, decode_message, encode_message, parse_dcep

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def test_on_the_wire():
    message = DataChannelOpen("chat", "p", ordered=False, max_lifetime_ms=1500, priority=512)
    assert message.serialize().hex() == "03" + "82" + "0200" + "000005dc" + "0004" + "0001" + b"chatp".hex()


@given(TEXT, TEXT, st.booleans(), st.none() | st.integers(0, 0xFFFFFFFF), st.booleans(), st.integers(0, 0xFFFF))
def test_round_trip(label, protocol, ordered, limit, timed, priority):
    limits = {} if limit is None else {"max_lifetime_ms" if timed else "max_retransmits": limit}
    message = DataChannelOpen(label, protocol, ordered, priority=priority, **limits)
    assert DataChannelOpen.parse(message.serialize()) == message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\3",
        DataChannelAck().serialize(),
        bytes.fromhex("030301000000000000000000"),
        bytes.fromhex("030001000000000000010000ff")[:13],
    ],
)
def test_malformed(data):
    with pytest.raises(ParseError):
        DataChannelOpen.parse(data)


@given(st.binary(max_size=40))
def test_any_bytes_parse_or_are_refused(data):
    try:
        message = DataChannelOpen.parse(b"\3" + data)
    except ParseError:
        return
    assert DataChannelOpen.parse(message.serialize()) == message


@given(st.binary(max_size=20) | TEXT)
def test_user_messages(data):
    ppid, payload = encode_message(data)
    assert payload
    assert decode_message(ppid, payload) == data


def test_ack():
    assert DataChannelAck().serialize() == b"\2"
    assert parse_dcep(b"\2") == DataChannelAck()
    assert parse_dcep(b"\2\0\0\0") == DataChannelAck(), "Pion's"
    for data in (b"\3\2", b"", b"\1"):
        with pytest.raises(ParseError):
            parse_dcep(data)
