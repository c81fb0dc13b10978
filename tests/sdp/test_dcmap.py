"""`a=dcmap`: what a description says of a data channel (RFC 8864 §5.1)."""

from __future__ import annotations

import pytest

from stack.core.errors import LocalError, ParseError
from stack.sdp import ChannelMap
from stack.sdp.dcmap import MAX_CHANNEL_MAPS, acceptable

CHANNELS = [
    ("0", ChannelMap(0)),
    ('0 label="events"', ChannelMap(0, "events")),
    (
        '2 label="a%22%3Bb";subprotocol="json";ordered=false;max-retr=3;priority=512',
        ChannelMap(2, 'a";b', "json", ordered=False, max_retransmits=3, priority=512),
    ),
    ("65534 max-time=20000", ChannelMap(65534, max_lifetime_ms=20000)),
]


@pytest.mark.parametrize(("text", "channel"), CHANNELS)
def test_both_ways(text: str, channel: ChannelMap) -> None:
    assert ChannelMap.parse(text) == channel
    assert channel.serialize() == text


def test_the_example_of_the_rfc_is_read() -> None:
    text = '2 subprotocol="bfcp";label="BFCP"; ordered=true'
    assert ChannelMap.parse(text) == ChannelMap(2, "BFCP", "bfcp")
    assert ChannelMap.parse('4 colour=red;label="x"') == ChannelMap(4, "x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "65535",
        "-1",
        "0 label=events",
        '0 label="ev',
        '0 label="%ff"',
        "0 ordered=maybe",
        "0 max-retr=1;max-time=1",
        "0 max-retr=4294967296",
        "0 priority=65536",
        "0 ;;",
    ],
)
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(ParseError):
        ChannelMap.parse(text)


def test_our_own_mistakes_are_said_to_be_ours() -> None:
    with pytest.raises(LocalError):
        ChannelMap(65535)
    with pytest.raises(LocalError):
        ChannelMap(0, max_retransmits=1, max_lifetime_ms=1)


def test_each_identifier_once_and_no_more_than_the_bound() -> None:
    named = [ChannelMap(0, "first"), ChannelMap(0, "second"), *(ChannelMap(n) for n in range(1, 40))]
    taken = acceptable(named)
    assert taken[0] == ChannelMap(0, "first")
    assert len(taken) == MAX_CHANNEL_MAPS
